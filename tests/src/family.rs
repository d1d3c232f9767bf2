//! The victim `family`: the account of every process, compared with the report.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{Report, report::symbols};

/// Numbers by key.
pub type Figures = BTreeMap<&'static str, u64>;

/// Outstanding numbers: the only ones that are known of a process after exec.
pub const HELD: [&str; 2] = ["outstanding_count", "outstanding_bytes"];
/// The account of one process.
pub const OWN: [&str; 6] = [
    "outstanding_count",
    "outstanding_bytes",
    "acquired_count",
    "acquired_bytes",
    "released_count",
    "released_bytes",
];

/// A number by its JSON pointer; 0 when there is none.
pub fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// The report's numbers of the call site `make` in one process.
pub fn said(report: &Report, pid: u64) -> Result<(Figures, [u64; 2])> {
    let (mut figures, mut inherited) = (Figures::new(), [0, 0]);
    for site in report.list("/sites")? {
        if number(site, "/pid") != pid || symbols(site).first() != Some(&"make") {
            continue;
        }
        for key in OWN {
            *figures.entry(key).or_default() += number(site, &format!("/{key}"));
        }
        inherited[0] += number(site, "/inherited/count");
        inherited[1] += number(site, "/inherited/bytes");
    }
    Ok((figures, inherited))
}

/// The sums of all living processes' accounts equal the report in the numbers of `keys`, each of them holds what the report
/// says, and nothing was lost.
pub fn compare(report: &Report, truths: &[Value], keys: &[&'static str]) -> Result<()> {
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let unknown = report.number("/accounting/unknown_frees")?;
    ensure!(unknown == 0, "{unknown} unknown releases\n{}", report.summary());
    // Those that have ended have given back what they held, copies without a trace.
    let ended: BTreeSet<u64> = report
        .list("/targets")?
        .iter()
        .filter(|one| one.get("exited").is_some_and(|exited| !exited.is_null()))
        .map(|one| number(one, "/pid"))
        .collect();
    let living = || truths.iter().filter(|one| !ended.contains(&number(one, "/pid")));
    let (mut figures, mut inherited) = (Figures::new(), [0, 0]);
    for site in sites(report)? {
        for key in keys {
            *figures.entry(key).or_default() += number(&site, &format!("/{key}"));
        }
        inherited[0] += number(&site, "/inherited/count");
        inherited[1] += number(&site, "/inherited/bytes");
    }
    for key in keys {
        let truth: u64 = living().map(|one| number(one, &format!("/{key}"))).sum();
        let said = figures.get(key).copied().unwrap_or(0);
        ensure!(said == truth, "{key}: {said} reported, {truth} true\n{}", report.summary());
    }
    if keys.len() > HELD.len() {
        let came = ["/inherited_count", "/inherited_bytes"]
            .map(|key| living().map(|one| number(one, key)).sum::<u64>());
        ensure!(inherited == came, "inherited {inherited:?}, {came:?} true\n{}", report.summary());
    }
    for truth in living() {
        let held = ["/outstanding_count", "/outstanding_bytes"].map(|key| number(truth, key));
        let said = held_by(report, number(truth, "/pid"))?;
        ensure!(said == held, "holds {said:?} as reported\n{truth}\n{}", report.summary());
    }
    Ok(())
}

/// The call sites `make` of all processes.
fn sites(report: &Report) -> Result<Vec<Value>> {
    let all = report.list("/sites")?;
    Ok(all.iter().filter(|site| symbols(site).first() == Some(&"make")).cloned().collect())
}

/// What one process holds of these.
fn held_by(report: &Report, pid: u64) -> Result<[u64; 2]> {
    let mut held = [0, 0];
    for site in sites(report)? {
        let by_process = site.get("by_process").and_then(Value::as_array);
        let by_process = by_process.map_or(&[][..], Vec::as_slice);
        let keys = match by_process {
            [] if number(&site, "/pid") == pid => {
                ["/outstanding_count", "/outstanding_bytes"].map(|key| number(&site, key))
            }
            several => {
                let own = several.iter().find(|one| number(one, "/pid") == pid);
                own.map_or([0, 0], |own| ["/count", "/bytes"].map(|key| number(own, key)))
            }
        };
        held[0] += keys[0];
        held[1] += keys[1];
    }
    Ok(held)
}

/// Process ids of targets with the ids of their parents.
pub fn targets(report: &Report) -> Result<Vec<(u64, Option<u64>)>> {
    let list = report.list("/targets")?;
    let read = |one: &Value| (number(one, "/pid"), one.get("parent").and_then(Value::as_u64));
    Ok(list.iter().map(read).collect())
}
