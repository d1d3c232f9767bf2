//! How connections end. Pure.

use tracer_common::{
    connection::{CLOSE_WAIT, CLOSED, FIN_WAIT1},
    record::Disconnected,
};

/// Who ended a connection, or what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// The target closed or shut it down first.
    Us,
    /// The peer did.
    Peer,
    /// The peer broke it off.
    Reset,
    /// The peer was not heard of any more.
    Timeout,
    /// The target ended.
    Exit,
}

impl End {
    /// As reports have it.
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
const ETIMEDOUT: u32 = 110;
/// States that follow [`FIN_WAIT1`]: this side was first. `include/net/tcp_states.h` of the kernel.
const FIN_WAIT2: u32 = 5;
/// As above.
const CLOSING: u32 = 11;
/// That follows [`CLOSE_WAIT`]: the peer was first.
const LAST_ACK: u32 = 9;

/// Who ended it; `None` when the record does not tell.
pub(super) const fn by(record: &Disconnected) -> Option<End> {
    if record.ended_ns == 0 {
        return Some(End::Us);
    }
    match (record.state, record.error) {
        (CLOSE_WAIT | LAST_ACK, _) => Some(End::Peer),
        (FIN_WAIT1 | FIN_WAIT2 | CLOSING, _) => Some(End::Us),
        (CLOSED, ETIMEDOUT) => Some(End::Timeout),
        // Before the target closes it, only the peer can break it off.
        (CLOSED, _) => Some(End::Reset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_go_is_who_ended_it() {
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
            })
        };
        // Without an earlier end the present state says nothing.
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
}
