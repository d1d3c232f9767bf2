//! The traced processes, as the process tree grows.

use serde::{Deserialize, Serialize};

use crate::{
    snapshot::ProcessEvent,
    target::{Identity, Pid},
};

/// One traced process.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
pub(super) fn update(members: &mut Vec<Member>, event: &ProcessEvent) {
    let known = members.iter().position(|one| one.identity.pid == event.pid);
    let template = event.parent.or(Some(event.pid));
    let template = members.iter().find(|one| Some(one.identity.pid) == template);
    let Some(template) = template.or(members.first()) else { return };
    // A process that ended before its identity was read has its parent's.
    let template = Identity { pid: event.pid, ..template.identity.clone() };
    let identity = event.identity.clone().unwrap_or(template);
    if let Some(parent) = event.parent {
        let member = Member { identity, parent: Some(parent), since_ns: Some(event.at_ns) };
        match known.and_then(|at| members.get_mut(at)) {
            Some(place) => *place = member,
            None => members.push(member),
        }
    } else if let Some(place) = known.and_then(|at| members.get_mut(at)) {
        place.identity = identity;
    }
}
