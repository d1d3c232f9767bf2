//! What a release has removed from the ledger, until it is known whether the release stands.
//!
//! A part of the ledger, which puts it back if a resize fails. Pure.

use tracer_common::kind::Kind;

use super::{
    events::{Block, Handle},
    ranges::FreedPart,
};

/// What a resize released, in case it fails.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) handle: Handle,
    pub(super) taken: Taken,
}

/// What a release removed from the ledger.
#[derive(Debug)]
pub(super) enum Taken {
    /// A block.
    Block(Block),
    /// Parts of ranges.
    Parts(Vec<FreedPart>),
    /// Unknown, and counted as such.
    Unknown,
    /// A block that was settled before.
    Owed(Block),
    /// The block may still arrive with a fork: the release at this position is held until then.
    Held(u64),
    /// A release that does not count.
    Nothing,
}

/// How many unknown releases the release of an unknown resource is. A join is none: musl joins a thread that has ended when
/// it is detached, and that was its release already.
pub(super) const fn counts(handle: &Handle) -> u64 {
    !matches!(handle.kind, Kind::Thread) as u64
}
