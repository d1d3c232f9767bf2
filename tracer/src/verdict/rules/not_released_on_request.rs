//! Rule: the program asked the library to release objects, and they stay. Pure.

use crate::{
    evidence::Evidence,
    format,
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// Objects that must have stayed: a few may wait for a peer or a timer for long.
const LEAST: u64 = 5;
/// The share of the call site's objects that they must be, at least.
const SHARE: f64 = 0.05;

/// See the file's head.
pub(in crate::verdict) struct NotReleasedOnRequest;

impl Rule for NotReleasedOnRequest {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        let unreleased = evidence.unreleased?;
        let (lasting, objects) = (unreleased.lasting, unreleased.objects);
        (lasting >= LEAST && lasting as f64 >= SHARE * objects as f64).then(|| Opinion {
            class: VerdictClass::Suspect,
            confidence: 0.8,
            reason: format!(
                "the release of at least {} objects was requested half a minute ago or earlier, and they are still there",
                format::count(lasting),
            ),
            withdrawn_by: Some("they go"),
            since_s: None,
            beyond_load: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Unreleased;

    #[test]
    fn objects_that_stay_after_a_request_are_suspect() {
        let of = |lasting, objects| {
            let unreleased = Some(Unreleased { lasting, objects });
            NotReleasedOnRequest.opinion(&Evidence { unreleased, ..Evidence::default() })
        };
        assert_eq!(of(40, 50).unwrap().class, VerdictClass::Suspect);
        assert_eq!(of(4, 4), None);
        assert_eq!(of(10, 5000), None);
    }
}
