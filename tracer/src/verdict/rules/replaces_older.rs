//! Rule: as many resources from before the attach are released as new ones stay: a full cache replaces its entries. Pure.

use crate::{
    evidence::Evidence,
    format,
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// Releases of older resources per new one that stays. They may be of other call sites, too, so fewer explain nothing.
const LEAST: f64 = 0.8;

/// See the file's head.
pub(in crate::verdict) struct ReplacesOlder;

impl Rule for ReplacesOlder {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        let rate = evidence.trends.now()?.count.per_s;
        let released = evidence.older_released_per_s;
        (rate > 0.0 && released >= LEAST * rate).then(|| Opinion {
            class: VerdictClass::Growing,
            confidence: 0.6,
            reason: format!(
                "meanwhile {} acquired before the attach are released: they may replace each other",
                format::count_per_s(released).trim_start_matches('+'),
            ),
            withdrawn_by: Some("it goes on rising when those are gone"),
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
    fn as_many_older_ones_must_be_released() {
        let of = |released| {
            ReplacesOlder
                .opinion(&Evidence { older_released_per_s: released, ..rising(10.0, 30.0) })
        };
        assert!(of(9.0).is_some());
        assert_eq!(of(3.0), None);
        let flat = Evidence { older_released_per_s: 9.0, ..rising(0.0, 30.0) };
        assert_eq!(ReplacesOlder.opinion(&flat), None);
    }
}
