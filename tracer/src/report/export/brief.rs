//! The answer and the findings in at most 4 KiB of JSON, on one line, as `docs/brief.schema.json` describes it: for scripts,
//! and for assistants whose context is short.
//!
//! Takes a [`Report`], returns its worst findings with as much detail as fits, and how many did not fit. Adds and judges
//! nothing.

use std::io::{self, Write};

use serde::Serialize;

use super::{Options, answer};
use crate::{
    format::printable,
    report::{Amount, Fault, Finding, Frame, Report, Resource, VerdictClass, Word},
};

/// The name of this format.
pub const SCHEMA: &str = "leaktrace-brief/1";

/// The maximum size with the final newline: about a thousand tokens of a language model, one page of memory.
pub const MAX_BYTES: usize = 4096;

/// More findings never fit: each takes some 400 bytes without any detail.
const MAX_FINDINGS: usize = 12;

/// Items of every list in a finding, and targets.
const ITEMS: usize = 3;

/// Kinds of resources of a finding: an object with its parts rarely has more.
const PARTS: usize = 5;

/// Functions of a stack.
const FRAMES: usize = 6;

/// Bytes of a string: the names of most C++ functions, and all of leaktrace's own sentences.
const TEXT_BYTES: usize = 240;

/// Writes the findings. The number of call sites and the width do not matter.
pub fn write(report: &Report, _: &Options, out: &mut impl Write) -> io::Result<()> {
    let mut bounds = Bounds::new(report.findings.len());
    let line = loop {
        let line = serde_json::to_vec(&Brief::new(report, bounds))?;
        if line.len() < MAX_BYTES {
            break line;
        }
        let Some(less) = bounds.less() else {
            return Err(io::Error::other("the report does not fit"));
        };
        bounds = less;
    };
    out.write_all(&line)?;
    out.write_all(b"\n")
}

/// How much to write: of each detail, the number of findings that keep it, beginning with the worst.
#[derive(Clone, Copy)]
struct Bounds {
    stacks: usize,
    clients: usize,
    reasons: usize,
    findings: usize,
    text_bytes: usize,
}

impl Bounds {
    fn new(findings: usize) -> Self {
        let findings = findings.min(MAX_FINDINGS);
        let text_bytes = TEXT_BYTES;
        Self { stacks: findings, clients: findings, reasons: findings, findings, text_bytes }
    }

    /// The next smaller ones: details go first, the last finding's before those of worse ones, then findings, then the
    /// ends of strings. The worst finding keeps its details longest.
    fn less(mut self) -> Option<Self> {
        let details = [&mut self.stacks, &mut self.clients, &mut self.reasons];
        if let Some(more) = details.into_iter().find(|kept| **kept > 1) {
            *more -= 1;
        } else if self.findings > 1 {
            self.findings -= 1;
        } else if let Some(last) = [&mut self.stacks, &mut self.clients, &mut self.reasons]
            .into_iter()
            .find(|kept| **kept > 0)
        {
            *last = 0;
        } else if self.text_bytes > 0 {
            self.text_bytes /= 2;
        } else if self.findings > 0 {
            self.findings = 0;
        } else {
            return None;
        }
        Some(self)
    }
}

#[derive(Serialize)]
struct Brief {
    schema: &'static str,
    version: String,
    answer: BriefAnswer,
    targets: Vec<BriefTarget>,
    targets_left_out: usize,
    window: BriefWindow,
    lost: u64,
    estimated: bool,
    findings: Vec<BriefFinding>,
    findings_left_out: usize,
    findings_suppressed: u64,
}

#[derive(Serialize)]
struct BriefAnswer {
    class: Option<VerdictClass>,
    sentence: String,
    smallest_leak_per_s: Option<f64>,
}

#[derive(Serialize)]
struct BriefTarget {
    pid: u32,
    exe: Option<String>,
}

#[derive(Serialize)]
struct BriefWindow {
    started_at: String,
    duration_s: Option<f64>,
}

#[derive(Serialize)]
struct BriefFinding {
    id: String,
    class: VerdictClass,
    confidence: Option<f64>,
    since: Option<f64>,
    title: String,
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    kind: String,
    fault: Option<String>,
    outstanding: Amount,
    rate: Option<BriefRate>,
    per: Option<BriefPer>,
    parts: Vec<BriefPart>,
    processes: u64,
    look_at: Option<String>,
    reasons: Vec<String>,
    clients: Vec<BriefClient>,
    stack: Vec<String>,
}

#[derive(Serialize)]
struct BriefRate {
    count_per_s: Option<f64>,
    bytes_per_s: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
}

#[derive(Serialize)]
struct BriefPer {
    what: String,
    share: Option<f64>,
    bytes: Option<f64>,
}

#[derive(Serialize)]
struct BriefPart {
    kind: String,
    count: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct BriefClient {
    address: String,
    count: u64,
    bytes: u64,
}

impl Brief {
    fn new(report: &Report, bounds: Bounds) -> Self {
        let text = Text(bounds.text_bytes);
        let target = |target: &crate::report::Target| BriefTarget {
            pid: target.pid,
            exe: target.exe.as_deref().map(|exe| text.path(exe)),
        };
        let kept = report.findings.iter().take(bounds.findings).enumerate();
        Self {
            schema: SCHEMA,
            version: text.cut(&report.version),
            answer: BriefAnswer {
                class: report.answer.class,
                sentence: text.cut(answer(report)),
                smallest_leak_per_s: report.answer.smallest_leak_per_s.and_then(rounded),
            },
            targets: report.targets.iter().take(ITEMS).map(target).collect(),
            targets_left_out: report.targets.len().saturating_sub(ITEMS),
            window: BriefWindow {
                started_at: text.cut(&report.window.started_at),
                duration_s: rounded(report.window.duration_s),
            },
            lost: report.accounting.lost.values().copied().fold(0, u64::saturating_add),
            estimated: report.accounting.estimated,
            findings: kept.map(|(rank, one)| BriefFinding::new(one, rank, bounds, text)).collect(),
            findings_left_out: report.findings.len().saturating_sub(bounds.findings),
            findings_suppressed: report
                .suppressed
                .iter()
                .map(|one| one.findings)
                .fold(0, u64::saturating_add),
        }
    }
}

impl BriefFinding {
    fn new(finding: &Finding, rank: usize, bounds: Bounds, text: Text) -> Self {
        let asked = finding.asked();
        let items = |kept: usize| if rank < kept { ITEMS } else { 0 };
        let kind = |kind: &Resource| text.cut(kind.name());
        let frames = if rank < bounds.stacks { FRAMES } else { 0 };
        let stack = finding.frames.iter().skip(finding.headline).take(frames);
        Self {
            id: text.cut(&finding.id),
            class: finding.class,
            confidence: rounded(finding.confidence),
            since: finding.since.and_then(rounded),
            title: text.cut(&finding.title),
            function: asked.map(|frame| text.cut(&frame.short_label())),
            file: asked.and_then(|frame| frame.file.as_deref()).map(|file| text.path(file)),
            line: asked.and_then(|frame| frame.line),
            kind: kind(&finding.kind),
            fault: finding.fault.as_ref().map(Word::<Fault>::name).map(|fault| text.cut(fault)),
            outstanding: finding.outstanding,
            rate: finding.rate.map(|rate| BriefRate {
                count_per_s: rounded(rate.count_per_s),
                bytes_per_s: rounded(rate.bytes_per_s),
                low: rounded(rate.low),
                high: rounded(rate.high),
            }),
            per: finding.per.as_ref().map(|per| BriefPer {
                what: text.cut(&per.what),
                share: rounded(per.share),
                bytes: rounded(per.bytes),
            }),
            parts: finding
                .parts
                .iter()
                .take(PARTS)
                .map(|part| BriefPart {
                    kind: kind(&part.kind),
                    count: part.count,
                    bytes: part.bytes,
                })
                .collect(),
            processes: finding.processes,
            look_at: finding.look_at.as_deref().map(|look_at| text.cut(look_at)),
            reasons: finding
                .reasons
                .iter()
                .take(items(bounds.reasons))
                .map(|reason| text.cut(reason))
                .collect(),
            clients: finding
                .clients
                .iter()
                .take(items(bounds.clients))
                .map(|one| BriefClient {
                    address: text.cut(&one.address),
                    count: one.count,
                    bytes: one.bytes,
                })
                .collect(),
            stack: stack.map(Frame::label).map(|label| text.cut(&label)).collect(),
        }
    }
}

/// Shortens strings to this many bytes. Without control characters, none becomes much longer as JSON.
#[derive(Clone, Copy)]
struct Text(usize);

/// Stands for what is cut off.
const CUT: char = '…';

impl Text {
    /// The beginning.
    fn cut(self, text: &str) -> String {
        let text = printable(text);
        if text.len() <= self.0 {
            return text;
        }
        let Some(room) = self.0.checked_sub(CUT.len_utf8()) else { return String::new() };
        let fits =
            |(at, sign): (usize, char)| Some(at + sign.len_utf8()).filter(|end| *end <= room);
        let end = text.char_indices().map_while(fits).last().unwrap_or_default();
        let mut kept: String = text.get(..end).unwrap_or_default().to_owned();
        kept.push(CUT);
        kept
    }

    /// The end, which says most of a path.
    fn path(self, text: &str) -> String {
        let text = printable(text);
        if text.len() <= self.0 {
            return text;
        }
        let Some(room) = self.0.checked_sub(CUT.len_utf8()) else { return String::new() };
        let first = text.char_indices().map(|(at, _)| at).find(|at| text.len() - at <= room);
        let end = first.and_then(|at| text.get(at..)).unwrap_or_default();
        format!("{CUT}{end}")
    }
}

/// Six digits are more than any figure here means; nothing for what is not a number.
fn rounded(value: f64) -> Option<f64> {
    if value.is_finite() { format!("{value:.5e}").parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn written(report: &Report) -> serde_json::Value {
        let mut line = Vec::new();
        write(report, &Options::default(), &mut line).unwrap();
        assert!(line.len() <= MAX_BYTES, "{}", line.len());
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line.lines().count(), 1);
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn details_are_left_out_before_findings_and_the_worst_one_keeps_them() {
        let mut report = fixtures::sample();
        let leak = report.findings.remove(0);
        report.findings = vec![leak.clone(); 4];
        let four = written(&report);
        assert_eq!(four["findings_left_out"], 0);
        assert_eq!(four["findings"][0]["stack"].as_array().unwrap().len(), 4);
        assert_eq!(four["findings"][3]["stack"], serde_json::json!([]));
        report.findings = vec![leak; 100];
        let many = written(&report);
        let shown = many["findings"].as_array().unwrap();
        assert!(shown.len() >= 3, "{}", shown.len());
        assert_eq!(many["findings_left_out"], 100 - shown.len());
        assert_eq!(shown[0]["reasons"].as_array().unwrap().len(), 3);
        assert_eq!(shown[1]["reasons"], serde_json::json!([]));
    }

    #[test]
    fn strings_are_cut_between_characters() {
        let text = Text(8);
        assert_eq!(text.cut("äöüß"), "äöüß");
        assert_eq!(text.cut("äöüßx"), "äö…");
        assert_eq!(text.path("/a/öüß.c"), "…ß.c");
        assert_eq!(text.cut("\u{1b}[m"), "\u{fffd}[m");
        assert_eq!((Text(2).cut("abc"), Text(0).path("abc")), (String::new(), String::new()));
    }

    #[test]
    fn figures_are_rounded_and_never_invalid() {
        assert_eq!(rounded(860_160.123_456), Some(860_160.0));
        assert_eq!(rounded(1.0 / 3.0), Some(0.333_333));
        assert_eq!(rounded(f64::NAN), None);
        assert_eq!(rounded(f64::INFINITY), None);
    }
}
