//! Rule: the outstanding resources stay on one level. Pure.

use super::surer_with_time;
use crate::{
    evidence::Evidence,
    format,
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// Doubt halves in this time, seconds.
const HALF_S: f64 = 30.0;

/// See the file's head.
pub(in crate::verdict) struct Flat;

impl Rule for Flat {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        let trend = evidence.trends.now()?;
        let over_s = trend.over_s.max(0.0);
        Some(Opinion {
            class: VerdictClass::Steady,
            confidence: surer_with_time(0.5, HALF_S, over_s),
            reason: if evidence.outstanding.count == 0 {
                "nothing is outstanding".to_owned()
            } else {
                format!("flat for {}", format::seconds(over_s))
            },
            withdrawn_by: None,
            since_s: Some(trend.since_s),
            beyond_load: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::Sum, verdict::rules::tests::rising};

    #[test]
    fn a_level_is_steady_and_surer_with_time() {
        let (short, long) = (rising(0.0, 10.0), rising(0.0, 60.0));
        let [short, long] = [short, long].map(|evidence| Flat.opinion(&evidence).unwrap());
        assert_eq!((long.class, long.reason.as_str()), (VerdictClass::Steady, "flat for 1m00s"));
        assert!(short.confidence < long.confidence);
        let nothing = Evidence { outstanding: Sum::default(), ..rising(0.0, 60.0) };
        assert_eq!(Flat.opinion(&nothing).unwrap().reason, "nothing is outstanding");
    }
}
