//! The traced processes, as the process tree grows.

use crate::{
    collect::snapshot::ProcessEvent,
    target::{Identity, Pid},
};

/// One traced process.
pub struct Member {
    /// Its identity.
    pub(super) identity: Identity,
    /// Its parent, if it became a target by fork.
    pub(super) parent: Option<Pid>,
    /// When that fork happened, by the clock of the snapshots.
    pub(super) since_ns: Option<u64>,
}

impl Member {
    /// A target given by the user.
    pub fn named(identity: Identity) -> Self {
        Self { identity, parent: None, since_ns: None }
    }
}

/// Adds a forked process, or updates one after an exec.
pub(super) fn related(members: &mut Vec<Member>, kin: &ProcessEvent) {
    let known = members.iter().position(|one| one.identity.pid == kin.pid);
    let like = kin.parent.or(Some(kin.pid));
    let like = members.iter().find(|one| Some(one.identity.pid) == like);
    let Some(like) = like.or(members.first()) else { return };
    // A process that ended before its identity was read has its parent's.
    let like = Identity { pid: kin.pid, ..like.identity.clone() };
    let identity = kin.identity.clone().unwrap_or(like);
    if let Some(parent) = kin.parent {
        let member = Member { identity, parent: Some(parent), since_ns: Some(kin.at_ns) };
        match known.and_then(|at| members.get_mut(at)) {
            Some(place) => *place = member,
            None => members.push(member),
        }
    } else if let Some(place) = known.and_then(|at| members.get_mut(at)) {
        place.identity = identity;
    }
}
