//! Keeps the verdicts on all call sites up to date, within a bounded time per report. Pure.

use std::collections::HashMap;

use super::judge;
use crate::{
    evidence::{History, Trend},
    report::Verdict,
    snapshot::Snapshot,
};

/// Call sites judged per report: a judgment takes some 20 µs, so all take a twentieth of a second at most. With more call
/// sites than this, each is judged in turn.
const PER_REPORT: usize = 2_000;

/// The last verdict on a call site.
#[derive(Clone, Debug)]
pub struct Judged {
    /// How its outstanding resources change now.
    pub trend: Option<Trend>,
    /// The verdict.
    pub verdict: Verdict,
}

/// The verdicts on all call sites.
#[derive(Debug, Default)]
pub struct Judge {
    history: History,
    by_site: HashMap<u32, Judged>,
    /// Reports so far.
    reports: usize,
    /// When tracing began, on the clock of the evidence, seconds.
    began_s: Option<f64>,
}

impl Judge {
    /// Adds a snapshot. In one whose figures are estimates, nothing is judged.
    pub fn push(&mut self, snapshot: &Snapshot, began_ns: u64) {
        self.history.push(snapshot);
        let turns =
            if snapshot.last { 1 } else { snapshot.sites.len().div_ceil(PER_REPORT).max(1) };
        self.reports += 1;
        let estimated = snapshot.sampling.is_some_and(|sampling| sampling.estimated);
        for (at, site) in snapshot.sites.iter().enumerate() {
            if at % turns != self.reports % turns && self.by_site.contains_key(&site.number) {
                continue;
            }
            let judged = if estimated {
                Judged { trend: self.history.trends(site.number).now(), verdict: estimate() }
            } else {
                let evidence = self.history.evidence(site, snapshot);
                let began_s = *self.began_s.get_or_insert_with(|| {
                    evidence.now_s - snapshot.at_ns.saturating_sub(began_ns) as f64 / 1e9
                });
                let mut verdict = judge(&evidence);
                verdict.since = verdict.since.map(|since_s| (since_s - began_s).max(0.0));
                Judged { trend: evidence.trends.now(), verdict }
            };
            self.by_site.insert(site.number, judged);
        }
    }

    /// The last verdict on a call site.
    pub fn of(&self, site: u32) -> Option<&Judged> {
        self.by_site.get(&site)
    }

    /// Outstanding bytes of a call site at the last refreshes, oldest first.
    pub fn recent_bytes(&self, site: u32) -> Vec<u64> {
        self.history.recent_bytes(site)
    }
}

/// Of estimates from sampling windows, lifetimes are not known.
fn estimate() -> Verdict {
    let reason = "not enough data: under a budget only parts of the time are recorded, and lifetimes are not known";
    Verdict { reasons: vec![reason.to_owned()], ..Verdict::unknown() }
}
