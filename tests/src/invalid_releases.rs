//! Releases of what is not there: a report's against the victim's own count.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{Report, report::headline};

/// Calls by function, reason and called function.
pub type Calls = BTreeMap<(String, String, String), u64>;

/// Those in a report.
pub fn reported(report: &Report) -> Result<Calls> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("?").to_owned();
    let mut all = Calls::new();
    for one in report.list("/invalid_releases")? {
        let name = headline(one).context("no headline")?.to_owned();
        let count = one["count"].as_u64().context("no count")?;
        *all.entry((name, text(one, "why"), text(one, "released_by"))).or_default() += count;
    }
    Ok(all)
}

/// Those that the victim `invalid_releases` says it has made.
pub fn of_victim(truth: &Value) -> Result<Calls> {
    let all = [
        ("close_twice", "not open", "close"),
        ("close_unopened", "not open", "close"),
        ("release_again", "already released", "free"),
    ];
    let call = |(name, why, by): (&str, &str, &str)| {
        let count = truth[name].as_u64().with_context(|| format!("no {name}: {truth}"))?;
        Ok(((name.to_owned(), why.to_owned(), by.to_owned()), count))
    };
    all.into_iter().map(call).collect()
}
