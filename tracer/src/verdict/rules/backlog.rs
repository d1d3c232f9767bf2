//! Rule: a backlog. What comes in is released in order, but ever later: it grows without end all the same. Pure.

use super::surer_with_time;
use crate::{
    evidence::Evidence,
    format,
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// How fast the oldest one's age must rise, seconds per second: slower changes come from the load.
const LEAST_SLOPE: f64 = 0.1;
/// At 1 nothing is released, which is another rule's case.
const MOST_SLOPE: f64 = 0.95;
/// Age of the oldest that is worth a word, seconds: a receiver that pauses catches up within less.
const LEAST_AGE_S: f64 = 10.0;
/// How much more must wait than at the beginning, as a factor: where less comes in, the oldest waits longer in a cache, too.
const LEAST_RISE: f64 = 1.3;
/// How much the number must grow in the time that the oldest waits, as a share: a cache that is full does not grow.
const LEAST_GROWTH: f64 = 0.1;
/// Time over which it must have risen, seconds.
const LEAST_S: f64 = 40.0;
/// From then on doubt halves in this time, seconds.
const HALF_S: f64 = 60.0;

/// See the file's head.
pub(in crate::verdict) struct Backlog;

impl Rule for Backlog {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        let ages = evidence.ages.filter(|_| evidence.in_order)?;
        let (oldest, median) = (ages.oldest?, ages.median?);
        let [later, _] = evidence.trends.refreshes?.later;
        let more = later.per_s * ages.oldest_s;
        let waits = (LEAST_SLOPE..MOST_SLOPE).contains(&oldest.per_s)
            && ages.lately? >= LEAST_SLOPE
            && median.per_s > LEAST_SLOPE / 2.0
            && ages.oldest_s >= LEAST_AGE_S
            && ages.over_s >= LEAST_S;
        let grows = evidence.risen >= LEAST_RISE
            && more >= LEAST_GROWTH * evidence.outstanding.count as f64;
        if !waits || !grows {
            return None;
        }
        Some(Opinion {
            class: VerdictClass::Suspect,
            confidence: surer_with_time(0.5, HALF_S, evidence.observed_s.min(300.0) - LEAST_S),
            reason: format!(
                "a backlog: released in order, but the oldest has waited {}, {:.2} s longer every second",
                format::seconds(ages.oldest_s),
                oldest.per_s,
            ),
            withdrawn_by: Some("the oldest one's age stops rising"),
            since_s: None,
            beyond_load: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evidence::{Ages, Slope, Trend, Trends},
        ledger::Sum,
    };

    fn evidence(waits: f64, grows: f64) -> Evidence {
        let slope = |per_s| Slope { per_s, low: f64::NEG_INFINITY, high: f64::INFINITY };
        let count = slope(grows);
        let trend = Trend {
            count,
            bytes: count,
            later: [count; 2],
            since_s: 0.0,
            over_s: 59.0,
            changed: false,
        };
        let ages = Ages {
            oldest_s: 20.0,
            median_s: 10.0,
            over_s: 80.0,
            oldest: Some(slope(waits)),
            median: Some(slope(waits / 2.0)),
            lately: Some(waits),
        };
        Evidence {
            observed_s: 100.0,
            outstanding: Sum { count: 400, bytes: 4000 },
            in_order: true,
            risen: 3.0,
            ages: Some(ages),
            trends: Trends { refreshes: Some(trend), ..Trends::default() },
            ..Evidence::default()
        }
    }

    #[test]
    fn a_queue_that_grows_is_a_backlog() {
        let opinion = Backlog.opinion(&evidence(0.25, 5.0)).unwrap();
        assert_eq!(opinion.class, VerdictClass::Suspect);
        assert_eq!(
            opinion.reason,
            "a backlog: released in order, but the oldest has waited 20s, 0.25 s longer every second"
        );
    }

    #[test]
    fn a_cache_that_is_full_or_fills_is_not() {
        assert_eq!(Backlog.opinion(&evidence(0.0, 0.0)), None);
        // Less comes in: the oldest waits longer, but there are not more.
        assert_eq!(Backlog.opinion(&evidence(0.25, 0.1)), None);
        // Nothing is released.
        assert_eq!(Backlog.opinion(&evidence(1.0, 5.0)), None);
        assert_eq!(Backlog.opinion(&Evidence { in_order: false, ..evidence(0.25, 5.0) }), None);
    }
}
