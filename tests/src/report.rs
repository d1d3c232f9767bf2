//! A leaktrace report as the tests read it: JSON, validated against the schema, then accessed by path.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace;

/// A report that conforms to the schema.
#[derive(Debug, Clone)]
pub struct Report {
    json: Value,
}

/// Outstanding and cumulative numbers, of a call site or in total.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Amounts {
    /// Outstanding resources.
    pub outstanding_count: u64,
    /// Their bytes.
    pub outstanding_bytes: u64,
    /// Resources acquired since the start.
    pub acquired_count: u64,
    /// Their bytes.
    pub acquired_bytes: u64,
    /// Resources released.
    pub released_count: u64,
    /// Their bytes.
    pub released_bytes: u64,
}

impl Amounts {
    /// Reads the six keys that totals, call sites and truths share.
    pub fn read(value: &Value) -> Result<Self> {
        let number = |key: &str| {
            value.get(key).and_then(Value::as_u64).with_context(|| format!("no number `{key}`"))
        };
        Ok(Self {
            outstanding_count: number("outstanding_count")?,
            outstanding_bytes: number("outstanding_bytes")?,
            acquired_count: number("acquired_count")?,
            acquired_bytes: number("acquired_bytes")?,
            released_count: number("released_count")?,
            released_bytes: number("released_bytes")?,
        })
    }

    /// Adds another call site's numbers.
    pub fn add(&mut self, other: Self) {
        self.outstanding_count += other.outstanding_count;
        self.outstanding_bytes += other.outstanding_bytes;
        self.acquired_count += other.acquired_count;
        self.acquired_bytes += other.acquired_bytes;
        self.released_count += other.released_count;
        self.released_bytes += other.released_bytes;
    }
}

/// Losses listed in a report; empty if there are none.
fn losses(lost: &serde_json::Map<String, Value>) -> String {
    if lost.is_empty() { String::new() } else { Value::Object(lost.clone()).to_string() }
}

impl Report {
    /// Reads and validates the report in `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("leaktrace left no report in `{}`", path.display()))?;
        Self::parse(&text)
    }

    /// Parses and validates a report.
    pub fn parse(text: &str) -> Result<Self> {
        let mut json: Value = serde_json::from_str(text).context("the report is not JSON")?;
        validate(&json)?;
        complete_stacks(&mut json);
        Ok(Self { json })
    }

    /// A hand-written report, for tests of the comparisons.
    #[cfg(test)]
    pub(crate) fn made_up(json: Value) -> Self {
        Self { json }
    }

    /// The value at this JSON pointer, such as `/accounting/unknown_frees`.
    pub fn at(&self, pointer: &str) -> Result<&Value> {
        self.json.pointer(pointer).with_context(|| format!("the report has no `{pointer}`"))
    }

    /// The integer at this JSON pointer.
    pub fn number(&self, pointer: &str) -> Result<u64> {
        self.at(pointer)?.as_u64().with_context(|| format!("`{pointer}` is no integer"))
    }

    /// The elements of the list at this JSON pointer.
    pub fn list(&self, pointer: &str) -> Result<&[Value]> {
        Ok(self.at(pointer)?.as_array().with_context(|| format!("`{pointer}` is no list"))?)
    }

    /// Losses listed in the report; empty if nothing was lost.
    pub fn lost(&self) -> Result<String> {
        let lost = self.at("/accounting/lost")?.as_object().context("losses by reason")?;
        Ok(losses(lost))
    }

    /// The same without `program_skipped`, which the kernel counts over all processes: for tests that run beside other
    /// programs and compare all numbers with the truth.
    pub fn lost_by_target(&self) -> Result<String> {
        let lost = self.at("/accounting/lost")?.as_object().context("losses by reason")?;
        let mut lost = lost.clone();
        lost.remove("program_skipped");
        Ok(losses(&lost))
    }

    /// The number of losses for these reasons.
    pub fn lost_for(&self, reasons: &[&str]) -> Result<u64> {
        let lost = self.at("/accounting/lost")?;
        Ok(reasons.iter().filter_map(|reason| lost.get(reason)?.as_u64()).sum())
    }

    /// The sums of a kind; zero if the report has none of it.
    pub fn total(&self, kind: &str) -> Result<Amounts> {
        self.at("/totals")?.get(kind).map_or(Ok(Amounts::default()), Amounts::read)
    }

    /// Sums over the call sites of `kind` for which `chosen` returns true, given their frames' symbols.
    pub fn sites(&self, kind: &str, chosen: impl Fn(&[&str]) -> bool) -> Result<Amounts> {
        let mut sum = Amounts::default();
        for site in self.list("/sites")? {
            if site.get("kind").and_then(Value::as_str) == Some(kind) && chosen(&symbols(site)) {
                sum.add(Amounts::read(site)?);
            }
        }
        Ok(sum)
    }

    /// The same report with only the call sites for which `kept` returns true.
    pub fn keep_sites(&self, kept: impl Fn(&Value) -> bool) -> Result<Self> {
        let mut json = self.json.clone();
        let sites = json.get_mut("sites").and_then(Value::as_array_mut).context("no sites")?;
        sites.retain(kept);
        Ok(Self { json })
    }

    /// One line per call site with outstanding resources, for messages.
    pub fn summary(&self) -> String {
        let mut lines = vec![format!("lost {}", self.lost().unwrap_or_default())];
        for site in self.list("/sites").unwrap_or_default().iter().take(40) {
            let Ok(sum) = Amounts::read(site) else { continue };
            lines.push(format!(
                "{:>9} x {:>12} B  {} <- {}",
                sum.outstanding_count,
                sum.outstanding_bytes,
                site.get("acquired_by").and_then(Value::as_str).unwrap_or("?"),
                symbols(site).join(" <- ")
            ));
        }
        lines.join("\n")
    }
}

/// The symbols of a call site's stack, innermost first; a frame without symbol is its address.
pub fn symbols(site: &Value) -> Vec<&str> {
    let frames = site.get("frames").and_then(Value::as_array);
    frames
        .into_iter()
        .flatten()
        .map(|frame| {
            let text = |key| frame.get(key).and_then(Value::as_str);
            text("symbol").or_else(|| text("address")).unwrap_or("?")
        })
        .collect()
}

/// The name of the headline's function of a call site.
pub fn headline(site: &Value) -> Option<&str> {
    let at = usize::try_from(site.get("headline")?.as_u64()?).ok()?;
    symbols(site).get(at).copied()
}

/// Adds the frames that call sites and findings refer to, as a reader does who needs whole stacks.
pub(crate) fn complete_stacks(report: &mut Value) {
    let shared = report.get("frames").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut stacks = BTreeMap::new();
    for site in report.get_mut("sites").and_then(Value::as_array_mut).into_iter().flatten() {
        let callers = site.get("callers").and_then(Value::as_array).cloned().unwrap_or_default();
        let numbers = callers.iter().filter_map(|at| usize::try_from(at.as_u64()?).ok());
        let rest = numbers.filter_map(|at| shared.get(at).cloned());
        let id = site.get("id").and_then(Value::as_u64);
        if let Some(frames) = site.get_mut("frames").and_then(Value::as_array_mut) {
            frames.extend(rest);
            stacks.insert(id, frames.clone());
        }
    }
    for found in report.get_mut("findings").and_then(Value::as_array_mut).into_iter().flatten() {
        let first = found.pointer("/sites/0").and_then(Value::as_u64);
        if let Some(frames) = found.get_mut("frames").and_then(Value::as_array_mut)
            && frames.is_empty()
            && let Some(stack) = stacks.get(&first)
        {
            frames.clone_from(stack);
        }
    }
}

fn validate(report: &Value) -> Result<()> {
    let path = workspace().join("docs/report.schema.json");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("could not read `{}`", path.display()))?;
    let schema: Value = serde_json::from_str(&text)?;
    let validator = jsonschema::validator_for(&schema).context("the schema itself is not valid")?;
    let errors: Vec<String> = validator
        .iter_errors(report)
        .take(10)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    bail!("the report breaks docs/report.schema.json:\n{}", errors.join("\n"))
}
