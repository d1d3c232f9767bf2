//! Rule: the outstanding resources follow the load. Pure.

use crate::{
    evidence::{Evidence, Follows},
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// See the file's head.
pub(in crate::verdict) struct FollowsLoad;

impl Rule for FollowsLoad {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        // Resources that are retained do not follow requests: they add up.
        let connections = evidence.connections.filter(Follows::explains);
        let requests =
            evidence.requests.filter(|one| one.explains() && evidence.retained.is_none());
        let (what, follows) = connections
            .map(|one| ("the number of open connections", one))
            .or(requests.map(|one| ("the rate at which it is called", one)))?;
        Some(Opinion {
            class: VerdictClass::Growing,
            confidence: 0.8,
            reason: format!("follows {what} (correlation {:.2})", follows.correlation),
            withdrawn_by: Some("it goes on rising when the load does not"),
            since_s: None,
            beyond_load: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_load_that_explains_all_counts() {
        let of = |correlation, rest_rises| {
            let connections = Some(Follows { correlation, rest_rises });
            FollowsLoad.opinion(&Evidence { connections, ..Evidence::default() })
        };
        assert_eq!(
            of(0.97, false).unwrap().reason,
            "follows the number of open connections (correlation 0.97)"
        );
        assert_eq!(of(0.97, true), None);
        assert_eq!(of(0.5, false), None);
        assert_eq!(FollowsLoad.opinion(&Evidence::default()), None);
    }
}
