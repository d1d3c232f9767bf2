//! Rule: the outstanding resources rise, by their minima. Pure.

use super::surer_with_time;
use crate::{
    evidence::{Evidence, Trend},
    format,
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// Shortest time that a rise is judged over, seconds.
const LEAST_S: f64 = 5.0;
/// Smallest rise over that time, as a share of all that is outstanding: a smaller one comes and goes with the load. (What
/// is never released shows in its cohorts, however much else there is.)
const LEAST_SHARE: f64 = 0.05;
/// Fewer resources more come and go by chance.
const LEAST_MORE: f64 = 5.0;
/// The most that a rise alone can be trusted: it is looked for at every report, so some will come by chance.
const MOST: f64 = 0.9;
/// The same where the later half of the time does not surely rise by itself.
const MOST_OF_ONE: f64 = 0.75;
/// How far an uneven rise must have gone, as a factor, and how many resources must be there.
const FAR: f64 = 1.5;
/// As above.
const LEAST: u64 = 20;
/// Doubt halves in this time, seconds.
const HALF_S: f64 = 15.0;

/// See the file's head.
pub(in crate::verdict) struct Rising;

impl Rising {
    /// The trend that rises, if any does: the present one, else the slowest.
    pub(super) fn trend(evidence: &Evidence) -> Option<Trend> {
        let trends = &evidence.trends;
        let outstanding = evidence.outstanding;
        let rises = |trend: &Trend| {
            let more = |per_s: f64, now: u64| per_s * trend.over_s >= LEAST_SHARE * now as f64;
            let [count, bytes] = trend.rises();
            trend.over_s >= LEAST_S
                && (count
                    && trend.count.per_s * trend.over_s >= LEAST_MORE
                    && more(trend.count.per_s, outstanding.count)
                    || bytes && more(trend.bytes.per_s, outstanding.bytes))
        };
        let slow = || trends.five_minutes.filter(rises);
        trends.now().filter(rises).or_else(slow)
    }

    /// What has risen far, though so unevenly that its slope has no bounds.
    fn unevenly(evidence: &Evidence) -> Option<Opinion> {
        let trend = evidence.trends.now()?;
        let [later, _] = trend.later;
        let rises = evidence.risen >= FAR
            && evidence.outstanding.count >= LEAST
            && trend.over_s >= LEAST_S
            && trend.count.per_s > 0.0
            && later.per_s >= trend.count.per_s / 2.0;
        rises.then(|| Opinion {
            class: VerdictClass::Growing,
            confidence: 0.6,
            reason: format!("rises unevenly, by about {}", format::count_per_s(trend.count.per_s)),
            withdrawn_by: Some("it stops rising"),
            since_s: Some(trend.since_s),
            beyond_load: false,
        })
    }
}

impl Rule for Rising {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        let Some(trend) = Self::trend(evidence) else { return Self::unevenly(evidence) };
        let [by_count, _] = trend.rises();
        let rate = |rate: f64| {
            if by_count { format::count_per_s(rate) } else { format::bytes_per_s(rate) }
        };
        let [later_count, later_bytes] = trend.later;
        let later = if by_count { later_count } else { later_bytes };
        let most = if later.rises() { MOST } else { MOST_OF_ONE };
        let slope = if by_count { trend.count } else { trend.bytes };
        Some(Opinion {
            class: VerdictClass::Growing,
            confidence: surer_with_time(0.5, HALF_S, trend.over_s).min(most),
            reason: format!(
                "rises by {} ({} to {}) for {}",
                rate(slope.per_s),
                rate(slope.low),
                rate(slope.high),
                format::seconds(trend.over_s),
            ),
            withdrawn_by: Some("it stops rising"),
            since_s: Some(trend.since_s),
            beyond_load: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::rules::tests::rising;

    #[test]
    fn a_sure_rise_is_growing() {
        let opinion = Rising.opinion(&rising(10.0, 30.0)).unwrap();
        assert_eq!(opinion.class, VerdictClass::Growing);
        assert_eq!(opinion.reason, "rises by +10/s (+9.0/s to +11/s) for 30s");
        assert!(opinion.confidence > 0.8);
    }

    #[test]
    fn a_short_a_small_and_a_past_rise_are_not() {
        assert_eq!(Rising.opinion(&rising(10.0, 3.0)), None);
        // One percent of what is outstanding.
        assert_eq!(Rising.opinion(&rising(0.3, 30.0)), None);
        let mut past = rising(10.0, 30.0);
        if let Some(trend) = &mut past.trends.refreshes {
            trend.later = [rising(0.5, 30.0).trends.now().unwrap().count; 2];
        }
        assert_eq!(Rising.opinion(&past), None);
    }

    #[test]
    fn what_has_risen_far_but_unevenly_is_growing_too() {
        let mut uneven = Evidence { risen: 3.0, ..rising(10.0, 30.0) };
        if let Some(trend) = &mut uneven.trends.refreshes {
            trend.count.low = f64::NEG_INFINITY;
            trend.bytes.low = f64::NEG_INFINITY;
        }
        assert_eq!(Rising.opinion(&uneven).unwrap().reason, "rises unevenly, by about +10/s");
        assert_eq!(Rising.opinion(&Evidence { risen: 1.1, ..uneven }), None);
    }
}
