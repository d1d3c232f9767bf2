//! Who is traced, as families grow.

use crate::{
    collect::snapshot::ProcessEvent,
    target::{Identity, Pid},
};

/// One of those who are traced.
pub struct Member {
    /// Who it is.
    pub(super) identity: Identity,
    /// Whose child, if it became a target by being born.
    pub(super) parent: Option<Pid>,
    /// When that was, by the clock of the snapshots.
    pub(super) since_ns: Option<u64>,
}

impl Member {
    /// A target that was named.
    pub fn named(identity: Identity) -> Self {
        Self { identity, parent: None, since_ns: None }
    }
}

/// A process became a target, or another program.
pub(super) fn related(members: &mut Vec<Member>, kin: &ProcessEvent) {
    let known = members.iter().position(|one| one.identity.pid == kin.pid);
    let like = kin.parent.or(Some(kin.pid));
    let like = members.iter().find(|one| Some(one.identity.pid) == like);
    let Some(like) = like.or(members.first()) else { return };
    // One that has ended before it could be asked is what its parent is.
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
