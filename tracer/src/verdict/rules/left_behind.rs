//! Rule: closed connections leave resources behind, again and again. Pure.

use super::{
    never_released::{EVEN, LEAST_S as TABLE_S, MIXED, NeverReleased},
    share, surer_with_time,
};
use crate::{
    evidence::Evidence,
    format,
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// Closed connections that must have left something: fewer may be single cases.
const LEAST: u64 = 20;
/// Connections that must agree for a leak without proof.
const CERTAIN: u64 = 100;
/// Time over which they must have closed, seconds: a cache of sessions fills with the first connections.
const LEAST_S: f64 = 20.0;
/// Share of the connections that leave something behind, above which it is no table that they fill.
const NEARLY_ALL: f64 = 0.9;
/// As [`LEAST_S`], for a leak.
const CERTAIN_S: f64 = 60.0;
/// From then on doubt halves in this time, seconds.
const HALF_S: f64 = 30.0;

/// See the file's head.
pub(in crate::verdict) struct LeftBehind;

impl Rule for LeftBehind {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        let orphans = evidence.orphans.filter(|orphans| orphans.sum.count >= LEAST)?;
        // What connections left behind once, and no more, is a table that they filled.
        let retained =
            evidence.retained.as_ref().filter(|retained| NeverReleased::applies(retained))?;
        let connections = orphans.share.share * orphans.closed as f64;
        // Several resources of one connection are a burst, too.
        let burst = retained.burst * connections / orphans.sum.count as f64;
        let leaving = connections / burst.max(1.0);
        // What a table keeps, it keeps whole, and has from some of the connections.
        let may_be_table = retained.share.high >= MIXED && orphans.share.low < NEARLY_ALL;
        let least_s = if may_be_table { TABLE_S } else { LEAST_S };
        let even = !may_be_table || retained.pace.low >= EVEN;
        if leaving < LEAST as f64 || retained.over_s < least_s || !even {
            return None;
        }
        let certain =
            leaving >= CERTAIN as f64 && retained.over_s >= CERTAIN_S && retained.stragglers == 0;
        Some(Opinion {
            class: if certain { VerdictClass::Leak } else { VerdictClass::Suspect },
            confidence: surer_with_time(0.7, HALF_S, retained.over_s - LEAST_S),
            reason: format!(
                "left behind by {} of {} closed connections ({} in {})",
                share(orphans.share),
                format::count(orphans.closed),
                format::bytes(orphans.sum.bytes),
                format::count(orphans.sum.count),
            ),
            withdrawn_by: Some("connections close without leaving any behind"),
            since_s: Some(f64::from(retained.since_ms) / 1000.0),
            beyond_load: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evidence::{Orphans, Retained, Share},
        ledger::Sum,
    };

    fn evidence(left: u64, closed: u64, over_s: f64, continues: bool) -> Evidence {
        let share = Share { share: 1.0, low: 0.9, high: 1.0 };
        let retained =
            Retained { count: left, share, since_ms: 0, over_s, continues, ..Retained::example() };
        let sum = Sum { count: left, bytes: left * 1024 };
        let orphans = Orphans { sum, closed, share: Share::of(left, closed).unwrap() };
        Evidence { retained: Some(retained), orphans: Some(orphans), ..Evidence::default() }
    }

    #[test]
    fn what_many_connections_leave_is_a_leak() {
        let opinion = LeftBehind.opinion(&evidence(120, 150, 90.0, true)).unwrap();
        assert_eq!(opinion.class, VerdictClass::Leak);
        assert_eq!(
            opinion.reason,
            "left behind by 80.0 % (72.7 to 86.1 %) of 150 closed connections (120 KiB in 120)"
        );
        assert_eq!(
            LeftBehind.opinion(&evidence(148, 150, 30.0, true)).unwrap().class,
            VerdictClass::Suspect
        );
        assert_eq!(
            LeftBehind.opinion(&evidence(60, 60, 90.0, true)).unwrap().class,
            VerdictClass::Suspect
        );
    }

    #[test]
    fn few_connections_and_a_table_that_is_full_are_not() {
        assert_eq!(LeftBehind.opinion(&evidence(3, 150, 90.0, true)), None);
        assert_eq!(LeftBehind.opinion(&evidence(120, 150, 5.0, true)), None);
        assert_eq!(LeftBehind.opinion(&evidence(120, 150, 90.0, false)), None);
        // In bursts, as a cache grows; several resources of each connection are none.
        let bursts = |burst| {
            let mut evidence = evidence(30, 1500, 90.0, true);
            let retained = evidence.retained.as_mut().unwrap();
            (retained.count, retained.burst) = (120, burst);
            evidence.orphans.as_mut().unwrap().sum.count = 120;
            LeftBehind.opinion(&evidence)
        };
        assert!(bursts(4.0).is_some() && bursts(11.0).is_none());
        // A table may have an entry of some of the connections.
        assert_eq!(LeftBehind.opinion(&evidence(120, 150, 30.0, true)), None);
    }
}
