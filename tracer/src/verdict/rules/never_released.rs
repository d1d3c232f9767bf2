//! Rule: a share of what the call site acquires outlives every usual lifetime, and new ones keep coming. Pure.

use super::{share, surer_with_time};
use crate::{
    evidence::{Evidence, Retained},
    format,
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// Fewer retained resources may be single cases: one in a hundred Poisson counts of mean 1 reaches 5.
const LEAST: u64 = 5;
/// The same where they come in bursts: a cache that keeps all it acquires has grown as often within a few minutes of an
/// uneven load.
const LEAST_BURSTS: f64 = 10.0;
/// Without proof, a leak of what is kept whole has happened so often, one by one, and in both halves of its time.
const CERTAIN_COUNT: u64 = 50;
/// As above.
const CERTAIN_EVEN: f64 = 0.75;
/// Time over which retained ones must keep coming before it is more than a table that fills, seconds. Most tables of a
/// server are full, or fill visibly more slowly, within three quarters of a minute of load.
pub const LEAST_S: f64 = 45.0;
/// Over a shorter time, those that are kept came in one burst: that is no growth yet, seconds.
const LEAST_GROWING_S: f64 = 5.0;
/// From then on doubt halves in this time, seconds.
pub(super) const HALF_S: f64 = 75.0;
/// The same where a part is released and the rest never: what a table keeps it usually keeps whole.
const MIXED_LEAST_S: f64 = 20.0;
/// As above.
const MIXED_HALF_S: f64 = 30.0;
/// Time over which all cohorts must agree for a leak without proof, seconds.
const CERTAIN_S: f64 = 300.0;
/// As above.
const MIXED_CERTAIN_S: f64 = 180.0;
/// Below this share of all acquired ones, part is released.
pub(super) const MIXED: f64 = 0.9;
/// The later half brings at least this share of what the earlier half brought; else it slows down.
pub(super) const SLOWS: f64 = 0.7;
/// Where all are kept, the later half surely brings at least this share: the few that came so far do not show whether
/// a table fills up.
pub(super) const EVEN: f64 = 0.5;
/// Where stragglers are released so fast, in multiples of the time observed, the others only live long.
const REST: f64 = 10.0;
/// Share of the cohorts that must retain something: with fewer, what decides is not the code path but an event.
const AGREE: f64 = 0.9;

/// See the file's head.
pub(in crate::verdict) struct NeverReleased;

impl NeverReleased {
    /// Whether what is retained still grows, and does not slow down.
    pub(super) fn applies(retained: &Retained) -> bool {
        retained.continues
            && retained.count >= LEAST
            && (retained.burst <= 1.0 || retained.times() >= LEAST_BURSTS)
            && retained.over_s >= LEAST_GROWING_S
            && !(retained.pace.differs && retained.pace.ratio < SLOWS)
            && retained.rest_s > REST * retained.over_s
    }
}

impl Rule for NeverReleased {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        let retained = evidence.retained.as_ref().filter(|retained| Self::applies(retained))?;
        let Retained { over_s, count, usual_s, .. } = *retained;
        let mixed = retained.share.high < MIXED;
        let (least_s, half_s, certain_s) = if mixed {
            (MIXED_LEAST_S, MIXED_HALF_S, MIXED_CERTAIN_S)
        } else {
            (LEAST_S, HALF_S, CERTAIN_S)
        };
        let confidence = surer_with_time(0.6, half_s, over_s - least_s).max(0.3);
        let (cohorts, retaining) = retained.cohorts;
        let agree =
            f64::from(retaining) >= AGREE * f64::from(cohorts) || count < u64::from(cohorts) * 5;
        let often = mixed
            || retained.burst <= 1.0 && count >= CERTAIN_COUNT && retained.pace.low >= CERTAIN_EVEN;
        let certain = over_s >= certain_s && retained.stragglers == 0 && agree && often;
        let even = mixed || retained.pace.low >= EVEN;
        let class = if certain && even {
            VerdictClass::Leak
        } else if over_s >= least_s && even {
            VerdictClass::Suspect
        } else {
            VerdictClass::Growing
        };
        let oldest = evidence.now_s - f64::from(retained.since_ms) / 1000.0;
        let usual = if evidence.released.count == 0 {
            "none has been released".to_owned()
        } else {
            format!("released ones lived at most {}", format::seconds(usual_s))
        };
        Some(Opinion {
            class,
            confidence,
            reason: format!(
                "{} of those acquired over {} are never released ({}): {usual}, these up to {}",
                share(retained.share),
                format::seconds(over_s),
                format::count(count),
                format::seconds(oldest),
            ),
            withdrawn_by: Some("old ones are released, or no new ones stay"),
            since_s: Some(f64::from(retained.since_ms) / 1000.0),
            beyond_load: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evidence::{Pace, Share},
        ledger::Sum,
    };

    fn evidence(retained: Retained) -> Evidence {
        let released = Sum { count: 9, bytes: 90 };
        Evidence { now_s: 160.0, released, retained: Some(retained), ..Evidence::default() }
    }

    fn retained(over_s: f64) -> Retained {
        let share = Share { share: 0.1, low: 0.08, high: 0.13 };
        Retained { usual_s: 2.0, share, since_ms: 60_000, over_s, ..Retained::example() }
    }

    #[test]
    fn a_share_that_stays_is_suspect_and_surer_with_time() {
        let opinion = |over_s| NeverReleased.opinion(&evidence(retained(over_s))).unwrap();
        assert_eq!(opinion(10.0).class, VerdictClass::Growing);
        assert_eq!(opinion(30.0).class, VerdictClass::Suspect);
        assert_eq!(opinion(200.0).class, VerdictClass::Leak);
        assert!(opinion(30.0).confidence < opinion(90.0).confidence);
        assert_eq!(
            opinion(90.0).reason,
            "10.0 % (8.0 to 13.0 %) of those acquired over 1m30s are never released (50): released ones lived at \
             most 2.0s, these up to 1m40s"
        );
        // What a table keeps whole takes longer to be suspect.
        let all = Share { share: 1.0, low: 0.95, high: 1.0 };
        let whole =
            |over_s| NeverReleased.opinion(&evidence(Retained { share: all, ..retained(over_s) }));
        assert_eq!(whole(30.0).unwrap().class, VerdictClass::Growing);
        assert_eq!(whole(200.0).unwrap().class, VerdictClass::Suspect);
        let few = Pace { ratio: 1.0, low: 0.4, differs: false };
        let few = Retained { share: all, pace: few, ..retained(200.0) };
        assert_eq!(NeverReleased.opinion(&evidence(few)).unwrap().class, VerdictClass::Growing);
    }

    #[test]
    fn what_is_kept_whole_is_a_leak_without_proof_only_if_it_comes_often_and_one_by_one() {
        let all = Share { share: 1.0, low: 0.95, high: 1.0 };
        let of = |count, burst| {
            let whole = Retained { share: all, count, burst, ..retained(400.0) };
            NeverReleased.opinion(&evidence(whole)).map(|opinion| opinion.class)
        };
        assert_eq!(of(60, 1.0), Some(VerdictClass::Leak));
        assert_eq!(of(20, 1.0), Some(VerdictClass::Suspect));
        assert_eq!(of(300, 5.0), Some(VerdictClass::Suspect));
        // Grown in a few bursts, as a cache does.
        assert_eq!(of(30, 5.0), None);
    }

    #[test]
    fn what_has_ended_slows_down_or_is_released_late_is_not() {
        let none = |retained| assert_eq!(NeverReleased.opinion(&evidence(retained)), None);
        let slows = Pace { ratio: 0.4, low: 0.3, differs: true };
        none(Retained { continues: false, ..retained(60.0) });
        none(Retained { pace: slows, ..retained(60.0) });
        none(Retained { stragglers: 5, rest_s: 300.0, ..retained(60.0) });
        none(Retained { count: 3, ..retained(60.0) });
        none(retained(1.0));
        assert_eq!(NeverReleased.opinion(&Evidence::default()), None);
        // Single stragglers leave a doubt.
        let late = Retained { stragglers: 1, rest_s: 1e5, ..retained(200.0) };
        assert_eq!(NeverReleased.opinion(&evidence(late)).unwrap().class, VerdictClass::Suspect);
    }
}
