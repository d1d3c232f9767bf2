//! Rule: too little was seen for a verdict. Pure.

use crate::{
    evidence::Evidence,
    format,
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// Shortest time that is judged, seconds: as many refreshes, by default, as a change needs on both sides.
const LEAST_S: f64 = 8.0;

/// See the file's head.
pub(in crate::verdict) struct TooLittle;

impl Rule for TooLittle {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        let over_s = evidence.observed_s;
        (over_s < LEAST_S || evidence.trends.now().is_none()).then(|| Opinion {
            class: VerdictClass::Unknown,
            confidence: 0.0,
            reason: format!("not enough data: seen for {}", format::seconds(over_s)),
            withdrawn_by: None,
            since_s: None,
            beyond_load: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::rules::tests::rising;

    #[test]
    fn a_few_seconds_are_too_little() {
        let short = Evidence { observed_s: 3.0, ..rising(1.0, 3.0) };
        assert_eq!(TooLittle.opinion(&short).unwrap().reason, "not enough data: seen for 3.0s");
        assert_eq!(TooLittle.opinion(&rising(1.0, 30.0)), None);
    }
}
