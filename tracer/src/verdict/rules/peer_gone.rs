//! Rule: peers have closed or reset their connections, and the program keeps the sockets open. Pure.

use crate::{
    evidence::Evidence,
    format,
    report::VerdictClass,
    verdict::{Opinion, Rule},
};

/// Sockets that must be in that state: single ones may belong to replies that take long.
const LEAST: u64 = 3;

/// See the file's head.
pub(in crate::verdict) struct PeerGone;

impl Rule for PeerGone {
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion> {
        let sockets = evidence.peer_gone.filter(|sockets| sockets.lasting >= LEAST)?;
        Some(Opinion {
            class: VerdictClass::Suspect,
            // Half a minute is long for a close, but a server may have a reason.
            confidence: 0.85,
            reason: format!(
                "the peer of {} of {} open sockets has been gone for at least half a minute (CLOSE_WAIT, CLOSE)",
                format::count(sockets.lasting),
                format::count(sockets.open),
            ),
            withdrawn_by: Some("the program closes them"),
            since_s: None,
            beyond_load: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence;

    #[test]
    fn sockets_whose_peers_have_closed_are_suspect() {
        let of = |lasting| {
            let peer_gone = Some(evidence::PeerGone { lasting, open: 20 });
            PeerGone.opinion(&Evidence { peer_gone, ..Evidence::default() })
        };
        assert_eq!(of(7).unwrap().class, VerdictClass::Suspect);
        assert!(of(7).unwrap().reason.starts_with("the peer of 7 of 20 open sockets"));
        assert_eq!(of(2), None);
    }
}
