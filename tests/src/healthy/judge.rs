//! What a report says about a healthy server: every finding is an accusation, and all must be as few as promised.
//!
//! Takes a report's JSON; hands on counts and accusations. Pure. It knows no server.

use serde_json::Value;

use crate::report::symbols;

/// The most suspects that all servers together may have.
const MOST_SUSPECTS: usize = 1;

/// What one report says.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// Findings, or call sites whose verdict is one.
    pub accusations: Vec<Accusation>,
    /// Call sites.
    pub sites: usize,
    /// Events per second over the whole time.
    pub events_per_s: f64,
    /// Losses by reason; empty if nothing was lost.
    pub lost: String,
}

/// Something that leaktrace says may leak.
#[derive(Debug, Clone, Default)]
pub struct Accusation {
    /// `leak`, `suspect` or `growing`.
    pub class: String,
    /// 0 to 1.
    pub confidence: f64,
    /// What leaks, in a line.
    pub title: String,
    /// The reasons, a sentence each.
    pub reasons: Vec<String>,
    /// Outstanding resources.
    pub amounts: String,
    /// The stack, innermost first.
    pub stack: Vec<String>,
}

impl Accusation {
    /// Whether leaktrace itself explains the growth, which is no accusation: it follows the load, new resources replace
    /// those from before the attach, or a pool grows with the highest demand.
    fn is_explained(&self) -> bool {
        let explains = |reason: &String| {
            reason.starts_with("follows ")
                || reason.ends_with("they may replace each other")
                || reason.ends_with("a pool, which grows with the highest demand")
        };
        self.class == "growing" && self.reasons.iter().any(explains)
    }

    /// For people to read.
    fn text(&self) -> String {
        let Self { class, confidence, title, amounts, .. } = self;
        let reasons: Vec<String> = self.reasons.iter().map(|one| format!("- {one}\n")).collect();
        let (reasons, stack) = (reasons.concat(), self.stack.join("\n"));
        format!(
            "### {class} {confidence:.2}: {title}\n\n{amounts}\n\n{reasons}\n```\n{stack}\n```\n\n"
        )
    }
}

impl Judged {
    /// Reads a report. Its findings count; a report of a version without findings has only verdicts on call sites.
    pub fn of(report: &Value) -> Self {
        let list = |key| report.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let has_findings = report.pointer("/answer/sentence").and_then(Value::as_str);
        let accusations = if has_findings.is_some_and(|sentence| !sentence.is_empty()) {
            list("findings").iter().map(of_finding).collect()
        } else {
            let named = ["leak", "suspect", "growing"];
            list("sites")
                .iter()
                .map(of_site)
                .filter(|accusation| named.contains(&accusation.class.as_str()))
                .collect()
        };
        let events = number(report, "/accounting/events");
        let seconds = number(report, "/window/duration_s");
        let lost = report.pointer("/accounting/lost").and_then(Value::as_object);
        let lost = lost.into_iter().flatten().map(|(reason, count)| format!("{count} {reason}"));
        Self {
            accusations,
            sites: list("sites").len(),
            events_per_s: if seconds > 0.0 { events / seconds } else { 0.0 },
            lost: lost.collect::<Vec<_>>().join(", "),
        }
    }

    /// Number of accusations of a class.
    pub fn count(&self, class: &str) -> usize {
        self.accusations.iter().filter(|one| one.class == class).count()
    }

    /// Number of growing ones without an explanation.
    pub fn unexplained(&self) -> usize {
        self.count("growing") - self.accusations.iter().filter(|one| one.is_explained()).count()
    }

    /// All accusations that are no silence, worst first, for people to read.
    pub fn text(&self) -> String {
        let of_class = |class| self.accusations.iter().filter(move |one| one.class == class);
        let listed = ["leak", "suspect", "growing"].into_iter().flat_map(of_class);
        let listed = listed.filter(|one| !one.is_explained());
        listed.map(Accusation::text).collect::<Vec<_>>().concat()
    }
}

/// What breaks the promise of silence, a line each.
pub fn faults<'a>(all: impl Iterator<Item = (&'a str, &'a Judged)>) -> Vec<String> {
    let (mut faults, mut suspects) = (Vec::new(), 0);
    for (name, judged) in all {
        let (leaks, growing) = (judged.count("leak"), judged.unexplained());
        suspects += judged.count("suspect");
        if leaks > 0 {
            faults.push(format!("{name}: {leaks} called a leak"));
        }
        if growing > 0 {
            faults.push(format!("{name}: {growing} called growing without an explanation"));
        }
    }
    if suspects > MOST_SUSPECTS {
        faults.push(format!("{suspects} suspects, {MOST_SUSPECTS} at most"));
    }
    faults
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn reasons(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn of_finding(finding: &Value) -> Accusation {
    let parts = finding.get("parts").and_then(Value::as_array).into_iter().flatten();
    let parts = parts.map(|part| {
        let (count, bytes) = (number(part, "/count"), number(part, "/bytes"));
        format!("{count} {} of {bytes} B", text(part, "/kind"))
    });
    Accusation {
        class: text(finding, "/class").to_owned(),
        confidence: number(finding, "/confidence"),
        title: text(finding, "/title").to_owned(),
        reasons: reasons(finding.get("reasons")),
        amounts: parts.collect::<Vec<_>>().join(", ") + " outstanding",
        stack: stack(finding),
    }
}

fn of_site(site: &Value) -> Accusation {
    let headline = site.get("headline").and_then(Value::as_u64).and_then(|at| at.try_into().ok());
    let stack = stack(site);
    let asked = stack.get(headline.unwrap_or(0_usize)).map_or("?", String::as_str);
    let kind = text(site, "/kind");
    Accusation {
        class: text(site, "/verdict/class").to_owned(),
        confidence: number(site, "/verdict/confidence"),
        title: format!("{kind} by {} of {asked}", text(site, "/acquired_by")),
        reasons: reasons(site.pointer("/verdict/reasons")),
        amounts: format!(
            "{} of {} B outstanding; {} acquired, {} released; call site {}, process {}",
            number(site, "/outstanding_count"),
            number(site, "/outstanding_bytes"),
            number(site, "/acquired_count"),
            number(site, "/released_count"),
            number(site, "/id"),
            number(site, "/pid"),
        ),
        stack,
    }
}

/// Functions with the object that has them.
fn stack(of: &Value) -> Vec<String> {
    let frames = of.get("frames").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let named = symbols(of).into_iter().zip(frames);
    named
        .map(|(symbol, frame)| {
            let module = text(frame, "/module").rsplit('/').next().unwrap_or_default();
            let offset = number(frame, "/module_offset");
            // The offset in the file names a function that has no symbol.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an offset"
            )]
            let offset = offset as u64;
            format!("{symbol} {module}+{offset:#x}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn site(class: &str, reasons: &[&str]) -> Value {
        json!({
            "id": 7, "pid": 1, "kind": "heap", "acquired_by": "malloc", "headline": 0,
            "outstanding_count": 3, "outstanding_bytes": 30, "acquired_count": 5,
            "released_count": 2,
            "verdict": { "class": class, "confidence": 0.5, "reasons": reasons },
            "frames": [{ "symbol": "keep", "module": "/usr/bin/server", "module_offset": 4096 }],
        })
    }

    #[test]
    fn without_findings_the_call_sites_are_counted() {
        let sites = [site("steady", &[]), site("growing", &["rises", "follows the number"])];
        let report = json!({
            "sites": [sites[0], sites[1], site("growing", &["rises"]), site("suspect", &["kept"])],
            "accounting": { "events": 500, "lost": { "ring_full": 2 } },
            "window": { "duration_s": 5.0 },
        });
        let judged = Judged::of(&report);
        assert_eq!((judged.count("leak"), judged.count("suspect")), (0, 1));
        assert_eq!((judged.count("growing"), judged.unexplained(), judged.sites), (2, 1, 4));
        assert_eq!((judged.events_per_s, judged.lost.as_str()), (100.0, "2 ring_full"));
        let text = judged.text();
        assert!(
            text.starts_with("### suspect 0.50: heap by malloc of keep server+0x1000"),
            "{text}"
        );
        assert!(!text.contains("follows"), "{text}");
    }

    #[test]
    fn with_findings_only_they_are_counted() {
        let finding = json!({
            "class": "suspect", "confidence": 0.9, "title": "bufferevents of accept_client",
            "reasons": ["kept"], "parts": [{ "kind": "bufferevent", "count": 2, "bytes": 900 }],
            "frames": [{ "symbol": "accept_client" }],
        });
        let report = json!({
            "answer": { "sentence": "One call path may leak." },
            "findings": [finding], "sites": [site("leak", &["kept"])],
        });
        let judged = Judged::of(&report);
        assert_eq!((judged.count("leak"), judged.count("suspect")), (0, 1));
        assert!(judged.text().contains("2 bufferevent of 900 B outstanding"), "{}", judged.text());
        let silent = Judged::of(&json!({ "answer": { "sentence": "No leak." }, "findings": [] }));
        assert!(silent.text().is_empty());
    }

    #[test]
    fn one_suspect_of_all_is_tolerated_and_no_leak() {
        let one = |class: &str| Judged::of(&json!({ "sites": [site(class, &[])] }));
        let (suspect, leak, growing) = (one("suspect"), one("leak"), one("growing"));
        assert!(faults([("a", &suspect)].into_iter()).is_empty());
        assert_eq!(
            faults([("a", &suspect), ("b", &suspect)].into_iter()),
            ["2 suspects, 1 at most"]
        );
        assert_eq!(faults([("a", &leak)].into_iter()), ["a: 1 called a leak"]);
        assert_eq!(faults([("a", &growing)].into_iter()).len(), 1);
    }
}
