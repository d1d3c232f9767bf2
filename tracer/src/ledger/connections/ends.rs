//! How connections end. Pure.

use tracer_common::{
    connection::{CLOSE_WAIT, CLOSED, FIN_WAIT1},
    record::Disconnected,
};

/// What ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// The target closed or shut it down first.
    Us,
    /// The peer closed or shut it down first.
    Peer,
    /// The peer reset it.
    Reset,
    /// The peer stopped answering.
    Timeout,
    /// The target ended.
    Exit,
}

impl End {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Peer => "peer",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Exit => "exit",
        }
    }
}

/// `errno(3)` of x86-64 and arm64.
const ETIMEDOUT: u16 = 110;
/// States that follow [`FIN_WAIT1`]: this side closed first. `include/net/tcp_states.h` of the kernel.
const FIN_WAIT2: u32 = 5;
/// As above.
const CLOSING: u32 = 11;
/// Follows [`CLOSE_WAIT`]: the peer closed first.
const LAST_ACK: u32 = 9;

/// Bytes received and sent, `None` where unknown. TCP counts a SYN as a byte sent where this side connected, and a
/// FIN as a byte in its direction.
pub(super) fn bytes(record: &Disconnected, connected: bool) -> (Option<u64>, Option<u64>) {
    let present = u32::from(record.present);
    let peer_first = record.ended_ns != 0 && record.state == CLOSE_WAIT;
    let us_first = record.ended_ns != 0 && record.state == FIN_WAIT1;
    let over = present == CLOSED && record.error == 0;
    let end_in = peer_first || us_first && (present == CLOSING || over);
    let end_out = us_first || peer_first && (present == LAST_ACK || over);
    let known = |bytes: u64, marks: u64| (bytes != u64::MAX).then(|| bytes.saturating_sub(marks));
    (
        known(record.bytes_in, end_in.into()),
        known(record.bytes_out, u64::from(end_out) + u64::from(connected)),
    )
}

/// Who ended it; `None` when the record does not show it.
pub(super) const fn by(record: &Disconnected) -> Option<End> {
    if record.ended_ns == 0 {
        return Some(End::Us);
    }
    match (record.state, record.error) {
        (CLOSE_WAIT | LAST_ACK, _) => Some(End::Peer),
        (FIN_WAIT1 | FIN_WAIT2 | CLOSING, _) => Some(End::Us),
        (CLOSED, ETIMEDOUT) => Some(End::Timeout),
        // Before the target closes it, only the peer can reset it.
        (CLOSED, _) => Some(End::Reset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_that_closes_first_ends_it() {
        let ended = |ended_ns, state, error| {
            by(&Disconnected {
                record: 0,
                number: 1,
                position: 0,
                time_ns: 9,
                bytes_in: 0,
                bytes_out: 0,
                ended_ns,
                state,
                error,
                present: 0,
            })
        };
        // Without an earlier end the present state means nothing.
        assert_eq!(ended(0, 1, 0), Some(End::Us));
        assert_eq!(ended(0, CLOSE_WAIT, 0), Some(End::Us));
        assert_eq!(ended(5, CLOSE_WAIT, 0), Some(End::Peer));
        assert_eq!(ended(5, FIN_WAIT1, 0), Some(End::Us));
        assert_eq!(ended(5, CLOSED, 104), Some(End::Reset));
        assert_eq!(ended(5, CLOSED, 32), Some(End::Reset));
        assert_eq!(ended(5, CLOSED, 110), Some(End::Timeout));
        assert_eq!(ended(5, CLOSED, 0), Some(End::Reset));
        assert_eq!(ended(5, 1, 0), None);
    }

    #[test]
    fn syn_and_fin_do_not_count_as_bytes() {
        let counted = |ended_ns, state: u16, present, error, connected| {
            let record = Disconnected {
                record: 0,
                number: 1,
                position: 0,
                time_ns: 9,
                bytes_in: 11,
                bytes_out: 21,
                ended_ns,
                state: u32::from(state),
                error,
                present,
            };
            bytes(&record, connected)
        };
        // Established, and about to be closed.
        assert_eq!(counted(0, 1, 1, 0, false), (Some(11), Some(21)));
        assert_eq!(counted(0, 1, 1, 0, true), (Some(11), Some(20)));
        // The peer has closed; and we have shut down since.
        assert_eq!(counted(5, 8, 8, 0, false), (Some(10), Some(21)));
        assert_eq!(counted(5, 8, 9, 0, false), (Some(10), Some(20)));
        assert_eq!(counted(5, 8, 7, 0, false), (Some(10), Some(20)));
        // We have shut down; and the peer has closed since.
        assert_eq!(counted(5, 4, 5, 0, false), (Some(11), Some(20)));
        assert_eq!(counted(5, 4, 7, 0, true), (Some(10), Some(19)));
        // It was reset.
        assert_eq!(counted(5, 7, 7, 104, false), (Some(11), Some(21)));
    }
}
