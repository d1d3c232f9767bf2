//! Rule: the outstanding resources approach a level: they fall, rise ever more slowly, or have just stopped. Pure.

use super::{never_released::SLOWS, surer_with_time};
use crate::{
    evidence::Evidence,
    format,
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// Time after a rise until a level counts as steady, seconds.
const LEVEL_S: f64 = 15.0;
/// Doubt halves in this time, seconds.
const HALF_S: f64 = 10.0;

/// See the file's head.
pub(in crate::verdict) struct Settling;

impl Rule for Settling {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        let trend = evidence.trends.now()?;
        let settling = |reason, confidence| {
            Some(Opinion {
                class: VerdictClass::Settling,
                confidence,
                reason,
                withdrawn_by: Some("it rises again"),
                since_s: Some(trend.since_s),
                beyond_load: false,
            })
        };
        if trend.count.falls() {
            let reason = format!(
                "falls by {} for {}",
                format::count_per_s(-trend.count.per_s).trim_start_matches('+'),
                format::seconds(trend.over_s),
            );
            return settling(reason, surer_with_time(0.5, HALF_S, trend.over_s));
        }
        if let Some(retained) = &evidence.retained
            && retained.continues
            && retained.pace.differs
            && retained.pace.ratio < SLOWS
        {
            let reason = format!(
                "rises ever more slowly: the later half of {} brought {} of what the earlier half did",
                format::seconds(retained.over_s),
                format::percent(retained.pace.ratio),
            );
            return settling(reason, surer_with_time(0.5, 2.0 * HALF_S, retained.over_s));
        }
        if trend.changed && !trend.count.rises() && trend.over_s < LEVEL_S {
            let reason = format!("has stopped rising {} ago", format::seconds(trend.over_s));
            return settling(reason, surer_with_time(0.5, HALF_S, trend.over_s));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::rules::tests::rising;

    #[test]
    fn what_falls_or_has_just_stopped_is_settling() {
        let falls = Settling.opinion(&rising(-10.0, 30.0)).unwrap();
        assert_eq!(
            (falls.class, falls.reason.as_str()),
            (VerdictClass::Settling, "falls by 10/s for 30s")
        );
        let stopped = |over_s| {
            let mut evidence = rising(0.0, over_s);
            if let Some(trend) = &mut evidence.trends.refreshes {
                trend.changed = true;
            }
            Settling.opinion(&evidence)
        };
        assert_eq!(stopped(6.0).unwrap().reason, "has stopped rising 6.0s ago");
        assert_eq!(stopped(20.0), None);
        assert_eq!(Settling.opinion(&rising(10.0, 30.0)), None);
    }
}
