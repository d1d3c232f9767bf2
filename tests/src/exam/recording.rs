//! Recordings: the tape of a play and, beside it, what was true then.
//!
//! Takes a folder of tapes, hands on recordings and the reports that `leaktrace replay` makes of them at the ten cut
//! times. It judges nothing, and needs no root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::ExamTruth;
use crate::{report::complete_stacks, trace::leaktrace, workspace};

/// Each play is judged at this many equally distant times; the last one is its end.
pub const CUTS: u32 = 10;

/// A time after the end of every tape.
const AT_THE_END: &str = "1d";

/// What a play is evidence of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Programs with which rules may be developed.
    Open,
    /// Programs on which no rule may be tuned.
    HeldOut,
    /// Programs that leak objects of a library, and their corrected twins.
    Library,
}

impl Group {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::HeldOut, Self::Open, Self::Library];

    /// Its name in files and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::HeldOut => "held out",
            Self::Library => "libraries",
        }
    }
}

/// A recorded play.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Its tape. What was true is in a file of the same name that ends in `.json`.
    pub tape: PathBuf,
    /// What it is evidence of.
    pub group: Group,
    /// Seconds of work.
    pub seconds: f64,
    /// Seconds from the beginning of the tracing to the beginning of the work.
    pub go_s: f64,
    /// The program's account of itself at the end of the work, in JSON.
    pub line: Value,
    /// The same.
    pub truth: ExamTruth,
}

impl Recording {
    /// Reads what was true beside a tape.
    pub fn read(tape: &Path) -> Result<Self> {
        let path = tape.with_extension("json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("could not read `{}`", path.display()))?;
        let found: Value =
            serde_json::from_str(&text).with_context(|| format!("in `{}`", path.display()))?;
        let number = |key: &str| {
            found.get(key).and_then(Value::as_f64).with_context(|| format!("no `{key}`"))
        };
        let group = found.get("group").and_then(Value::as_str);
        let line = found.get("truth").context("no `truth`")?.clone();
        Ok(Self {
            tape: tape.to_owned(),
            group: Group::ALL
                .into_iter()
                .find(|one| Some(one.name()) == group)
                .context("an unknown `group`")?,
            seconds: number("seconds")?,
            go_s: number("go_s")?,
            truth: ExamTruth::parse(&line.to_string())?,
            line,
        })
    }

    /// Writes what was true beside the tape.
    pub fn write(&self) -> Result<()> {
        let found = json!({
            "group": self.group.name(),
            "seconds": self.seconds,
            "go_s": self.go_s,
            "truth": self.line,
        });
        let text = serde_json::to_string_pretty(&found)? + "\n";
        Ok(fs::write(self.tape.with_extension("json"), text)?)
    }

    /// All recordings in a folder, in the order of their names. A tape without its truth is that of a play which has not
    /// ended.
    pub fn all(folder: &Path) -> Result<Vec<Self>> {
        let mut truths = Vec::new();
        let entries = fs::read_dir(folder)
            .with_context(|| format!("could not read `{}`", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "json") {
                truths.push(path);
            }
        }
        truths.sort();
        truths.iter().map(|truth| Self::read(&truth.with_extension("tape"))).collect()
    }

    /// The play's name: program and variant.
    pub fn name(&self) -> String {
        let name = self.tape.file_stem().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Seconds after the beginning of the work at which the play is judged.
    pub fn cuts(&self) -> impl Iterator<Item = f64> {
        let seconds = self.seconds;
        (1..=CUTS).map(move |cut| seconds * f64::from(cut) / f64::from(CUTS))
    }

    /// The reports as of the cut times.
    pub fn reports(&self) -> Result<Vec<Value>> {
        let last = CUTS as usize - 1;
        let at = |cut_s: f64| format!("{:.0}ms", (self.go_s + cut_s) * 1000.0);
        let mut times: Vec<String> = self.cuts().take(last).map(at).collect();
        times.push(AT_THE_END.to_owned());
        let reports = self.replay(&["--at", &times.join(",")])?;
        ensure!(reports.len() == CUTS as usize, "{} reports", reports.len());
        Ok(reports)
    }

    fn replay(&self, options: &[&str]) -> Result<Vec<Value>> {
        let output = Command::new(leaktrace()?)
            .arg("replay")
            .arg(&self.tape)
            .args(["-f", "json"])
            .args(options)
            .output()?;
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && complaints.is_empty(), "{complaints}");
        let lines = String::from_utf8(output.stdout)?;
        let whole = |line| {
            let mut report = serde_json::from_str(line)?;
            complete_stacks(&mut report);
            Ok(report)
        };
        lines.lines().map(whole).collect()
    }

    /// Fails if anything of this machine is on the tape: a path that does not come with the system.
    pub fn is_anonymous(&self) -> Result<()> {
        /// Folders of the system, those that the kernel invents, and what a redacted tape has instead of others.
        const USUAL: [&str; 9] =
            ["/usr/", "/lib", "/bin/", "/sbin/", "/dev", "/redacted", "/proc/", "/memfd:", "/etc/"];
        let folder = workspace().to_string_lossy().into_owned();
        for report in self.replay(&["--at", AT_THE_END])? {
            let mut texts = Vec::new();
            collect_texts(&report, &mut texts);
            let of_this_machine = |text: &&str| {
                let path =
                    text.starts_with('/') && !USUAL.iter().any(|start| text.starts_with(start));
                path || text.contains(&folder)
            };
            if let Some(path) = texts.iter().find(|text| of_this_machine(text)) {
                bail!("`{}` is on the tape `{}`", path, self.tape.display());
            }
        }
        Ok(())
    }
}

/// All texts in a value.
fn collect_texts<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(list) => list.iter().for_each(|one| collect_texts(one, texts)),
        Value::Object(map) => map.values().for_each(|one| collect_texts(one, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
