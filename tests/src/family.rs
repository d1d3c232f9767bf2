//! The victim `family`: the account of every process, compared with the report.

use std::collections::BTreeMap;

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

/// Every process's account equals the report in the numbers of `keys`, and nothing was lost.
pub fn compare(report: &Report, truths: &[Value], keys: &[&'static str]) -> Result<()> {
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let unknown = report.number("/accounting/unknown_frees")?;
    ensure!(unknown == 0, "{unknown} unknown releases\n{}", report.summary());
    for truth in truths {
        let (figures, inherited) = said(report, number(truth, "/pid"))?;
        for key in keys {
            let (said, truth_says) =
                (figures.get(key).copied().unwrap_or(0), number(truth, &format!("/{key}")));
            ensure!(said == truth_says, "{key}: {said} reported\n{truth}\n{}", report.summary());
        }
        if keys.len() > HELD.len() {
            let came = ["/inherited_count", "/inherited_bytes"].map(|key| number(truth, key));
            ensure!(
                inherited == came,
                "inherited {inherited:?} reported\n{truth}\n{}",
                report.summary()
            );
        }
    }
    Ok(())
}

/// Process ids of targets with the ids of their parents.
pub fn targets(report: &Report) -> Result<Vec<(u64, Option<u64>)>> {
    let list = report.list("/targets")?;
    let read = |one: &Value| (number(one, "/pid"), one.get("parent").and_then(Value::as_u64));
    Ok(list.iter().map(read).collect())
}
