//! Keeps the verdicts on all call sites up to date, within a bounded time per report. Pure.

use std::collections::{HashMap, HashSet};

use super::judge;
use crate::{
    evidence::{Activity, Evidence, History, Trend},
    report::Verdict,
    snapshot::{SiteFigures, Snapshot},
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
    /// What the verdict is based on, if the call site leaks, or may, or grows.
    pub evidence: Option<Box<Evidence>>,
    /// Resources of the call site that are older than this are no longer only in use, seconds.
    pub mature_s: f64,
}

/// Share of the resources that must be there still for an accusation to stand when the load has ended.
const STANDING: f64 = 0.8;

/// The reason why an accusation stands when the load has ended.
const NO_LOAD: &str = "the load has ended: this is the verdict from before";

impl Judged {
    /// Whether it accuses, and so many resources do not contradict.
    fn stands(&self, outstanding: u64) -> bool {
        let before = self.evidence.as_ref().map_or(0, |evidence| evidence.outstanding.count);
        self.verdict.class.is_accusation() && outstanding as f64 >= STANDING * before as f64
    }

    /// Lets the verdict stand.
    fn stays(&mut self) {
        let reasons = &mut self.verdict.reasons;
        if reasons.last().is_none_or(|last| last != NO_LOAD) {
            reasons.push(NO_LOAD.to_owned());
        }
    }
}

/// The verdicts on all call sites.
#[derive(Debug, Default)]
pub struct Judge {
    history: History,
    by_site: HashMap<u32, Judged>,
    activity: Activity,
    /// Reports so far.
    reports: usize,
    /// When tracing began, on the clock of the evidence, seconds.
    began_s: Option<f64>,
}

impl Judge {
    /// Adds a snapshot. In one whose figures are estimates, nothing is judged. `is_block` says which call sites acquire
    /// blocks of the heap: others do not replace older ones.
    pub fn push(
        &mut self,
        snapshot: &Snapshot,
        began_ns: u64,
        is_block: impl Fn(&SiteFigures) -> bool,
    ) {
        self.history.push(snapshot);
        self.history.forget_others(snapshot);
        if self.by_site.len() > snapshot.sites.len() {
            let there: HashSet<u32> = snapshot.sites.iter().map(|site| site.number).collect();
            self.by_site.retain(|site, _| there.contains(site));
        }
        let turns =
            if snapshot.last { 1 } else { snapshot.sites.len().div_ceil(PER_REPORT).max(1) };
        self.reports += 1;
        let released = snapshot.sites.iter().map(|site| site.released.count).sum();
        self.activity.push(snapshot.at_ns as f64 / 1e9, released);
        let idle = self.activity.idle_since_s().is_some();
        let estimated = snapshot.sampling.is_some_and(|sampling| sampling.estimated);
        for (at, site) in snapshot.sites.iter().enumerate() {
            if at % turns != self.reports % turns && self.by_site.contains_key(&site.number) {
                continue;
            }
            if let Some(judged) = self.by_site.get_mut(&site.number).filter(|_| idle)
                && judged.stands(site.outstanding.count)
            {
                judged.stays();
                continue;
            }
            let judged = if estimated {
                let trend = self.history.trends(site.number).now();
                Judged { trend, verdict: estimate(), evidence: None, mature_s: 0.0 }
            } else {
                let mut evidence = self.history.evidence(site, snapshot);
                if evidence.older_released_per_s > 0.0 && !is_block(site) {
                    evidence.older_released_per_s = 0.0;
                }
                let began_s = *self.began_s.get_or_insert_with(|| {
                    evidence.now_s - snapshot.at_ns.saturating_sub(began_ns) as f64 / 1e9
                });
                let mut verdict = judge(&evidence);
                verdict.since = verdict.since.map(|since_s| (since_s - began_s).max(0.0));
                Judged {
                    trend: evidence.trends.now(),
                    mature_s: evidence.mature_s,
                    evidence: verdict.class.is_finding().then(|| Box::new(evidence)),
                    verdict,
                }
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

#[cfg(test)]
mod tests {
    use tracer_common::kind::Kind;

    use super::*;
    use crate::{
        ledger::{
            Ledger, Sum,
            events::{Block, Event, Handle},
        },
        report::VerdictClass,
        snapshot::{site_figures, windows::Sampling},
        target::Pid,
    };

    const SECOND: u64 = 1_000_000_000;

    /// A judge after snapshots of call sites that acquire a block per second and release none.
    fn judged(sites: u32, seconds: u64, change: impl Fn(&mut Snapshot)) -> Judge {
        let (mut ledger, mut judge) = (Ledger::default(), Judge::default());
        for second in 1..=seconds {
            for site in 1..=sites {
                let value = second << 20 | u64::from(site);
                let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
                let time_ns = (100 + second) * SECOND;
                let block = Block { size: 10, time_ns, position: 0, site, connection: 0 };
                ledger.apply(Event::Acquired { handle, block });
            }
            let at_ns = (100 + second) * SECOND;
            let mut snapshot = Snapshot {
                at_ns,
                last: second == seconds,
                sites: site_figures(&ledger, at_ns, 0, || {}),
                lives_origin_ns: ledger.lives_origin_ns(),
                ..Snapshot::default()
            };
            change(&mut snapshot);
            judge.push(&snapshot, 95 * SECOND, |_| true);
        }
        judge
    }

    #[test]
    fn a_leak_is_suspect_and_has_its_beginning_after_the_attach() {
        let judge = judged(1, 60, |_| {});
        let verdict = &judge.of(1).unwrap().verdict;
        assert_eq!(verdict.class, VerdictClass::Suspect, "{verdict:?}");
        // The first block came six seconds after the attach; cohorts begin at whole seconds.
        assert!(verdict.since.is_some_and(|since_s| (5.0..=7.0).contains(&since_s)), "{verdict:?}");
        let trend = judge.of(1).unwrap().trend.unwrap();
        assert!((trend.count.per_s - 1.0).abs() < 1e-9 && (trend.bytes.per_s - 10.0).abs() < 1e-9);
    }

    #[test]
    fn an_accusation_stands_when_the_load_ends() {
        // A call site whose resources are released: the traffic.
        let traffic = |seconds| SiteFigures {
            number: 2,
            acquired: Sum { count: 50 * seconds, bytes: 0 },
            released: Sum { count: 50 * seconds, bytes: 0 },
            ..SiteFigures::default()
        };
        let mut judge = judged(1, 60, |snapshot| {
            snapshot.sites.push(traffic(snapshot.at_ns / SECOND - 100));
        });
        let suspect = judge.of(1).unwrap().verdict.class;
        let snapshot = |second: u64, count| {
            let leak = SiteFigures {
                outstanding: Sum { count, bytes: 10 * count },
                lives: None,
                ..figures()
            };
            let at_ns = (160 + second) * SECOND;
            Snapshot { at_ns, sites: vec![leak, traffic(60)], ..Snapshot::default() }
        };
        (10..60).for_each(|second| judge.push(&snapshot(second, 60), 95 * SECOND, |_| true));
        let verdict = &judge.of(1).unwrap().verdict;
        assert_eq!((suspect, verdict.class), (VerdictClass::Suspect, VerdictClass::Suspect));
        assert_eq!(verdict.reasons.last().map(String::as_str), Some(NO_LOAD));
        // Until the resources are released after all.
        (60..90).for_each(|second| judge.push(&snapshot(second, 3), 95 * SECOND, |_| true));
        assert_ne!(judge.of(1).unwrap().verdict.class, VerdictClass::Suspect);
    }

    /// The figures of a call site that has acquired sixty resources.
    fn figures() -> SiteFigures {
        let mut ledger = Ledger::default();
        for value in 1..=60 {
            let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
            let time_ns = 100 * SECOND;
            let block = Block { size: 10, time_ns, position: 0, site: 1, connection: 0 };
            ledger.apply(Event::Acquired { handle, block });
        }
        site_figures(&ledger, 160 * SECOND, 0, || {}).remove(0)
    }

    #[test]
    fn estimates_are_not_judged() {
        let judge = judged(1, 60, |snapshot| {
            snapshot.sampling = Some(Sampling { estimated: true, ..Sampling::default() });
        });
        let verdict = &judge.of(1).unwrap().verdict;
        assert_eq!(verdict.class, VerdictClass::Unknown);
        assert!(verdict.reasons[0].starts_with("not enough data"));
        assert!(judge.of(1).unwrap().trend.is_some());
    }

    #[test]
    fn of_very_many_call_sites_all_are_judged_at_the_end() {
        let sites = u32::try_from(PER_REPORT).unwrap() + 500;
        let judge = judged(sites, 12, |_| {});
        let growing = |site| judge.of(site).unwrap().verdict.class == VerdictClass::Growing;
        assert!((1..=sites).all(growing));
    }
}
