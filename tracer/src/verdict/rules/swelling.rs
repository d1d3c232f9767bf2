//! Rule: the resources do not become more, but larger, without end: what is appended to them is never removed. Pure.

use super::{
    never_released::{HALF_S, LEAST_S, SLOWS},
    surer_with_time,
};
use crate::{
    evidence::Evidence,
    format,
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// How much larger they must have become, as a share of what they are: buffers that find their final size grow, too.
const LEAST_GROWTH: f64 = 0.3;
/// How much more there may be meanwhile, as a share: else it is their number that grows.
const MOST_MORE: f64 = 0.05;

/// See the file's head.
pub(in crate::verdict) struct Swelling;

impl Rule for Swelling {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        let trend = evidence.trends.now()?;
        let [_, rises] = trend.rises();
        let [_, later] = trend.later;
        let (number, bytes) =
            (evidence.outstanding.count as f64, evidence.outstanding.bytes as f64);
        let more = trend.count.per_s * trend.over_s;
        let grown = trend.bytes.per_s * trend.over_s;
        let swells = rises
            && later.per_s >= SLOWS * trend.bytes.per_s
            && trend.over_s >= LEAST_S
            && grown >= LEAST_GROWTH * bytes
            && more.abs() <= MOST_MORE * number;
        swells.then(|| Opinion {
            class: VerdictClass::Suspect,
            confidence: surer_with_time(0.6, HALF_S, trend.over_s - LEAST_S),
            reason: format!(
                "they do not become more, but larger: by {} ({} to {}) for {}, and the last half of it no more slowly",
                format::bytes_per_s(trend.bytes.per_s),
                format::bytes_per_s(trend.bytes.low),
                format::bytes_per_s(trend.bytes.high),
                format::seconds(trend.over_s),
            ),
            withdrawn_by: Some("they stop growing"),
            since_s: Some(trend.since_s),
            beyond_load: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evidence::Slope, verdict::rules::tests::rising};

    /// A thousand resources whose bytes rise by this rate.
    fn evidence(bytes_per_s: f64, more_per_s: f64, over_s: f64) -> Evidence {
        let mut evidence = rising(more_per_s, over_s);
        if let Some(trend) = &mut evidence.trends.refreshes {
            let off = bytes_per_s / 10.0;
            trend.bytes =
                Slope { per_s: bytes_per_s, low: bytes_per_s - off, high: bytes_per_s + off };
            trend.later = [trend.count, trend.bytes];
        }
        evidence
    }

    #[test]
    fn what_grows_in_size_alone_is_suspect() {
        let opinion = Swelling.opinion(&evidence(1_000.0, 0.0, 60.0)).unwrap();
        assert_eq!(opinion.class, VerdictClass::Suspect);
        assert_eq!(
            opinion.reason,
            "they do not become more, but larger: by +1000 B/s (+900 B/s to +1.1 KiB/s) for 1m00s, and the last half \
             of it no more slowly"
        );
    }

    #[test]
    fn what_grows_little_briefly_or_in_number_is_not() {
        assert_eq!(Swelling.opinion(&evidence(100.0, 0.0, 60.0)), None);
        assert_eq!(Swelling.opinion(&evidence(1_000.0, 0.0, 30.0)), None);
        assert_eq!(Swelling.opinion(&evidence(1_000.0, 5.0, 60.0)), None);
        let mut slower = evidence(1_000.0, 0.0, 60.0);
        if let Some(trend) = &mut slower.trends.refreshes {
            trend.later[1].per_s = 500.0;
        }
        assert_eq!(Swelling.opinion(&slower), None);
    }
}
