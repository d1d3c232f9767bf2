//! The traced processes, as the process tree grows.

use serde::{Deserialize, Serialize};

use crate::{
    snapshot::ProcessEvent,
    target::{Identity, Pid},
};

/// Forked processes that have ended and are still shown: the newest. A server may have had a million.
const ENDED: usize = 100;

/// One traced process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its identity.
    pub(super) identity: Identity,
    /// Its parent, if it was not given by the user.
    pub(super) parent: Option<Pid>,
    /// When that fork happened, by the clock of the snapshots.
    pub(super) since_ns: Option<u64>,
}

impl Member {
    /// A target given by the user.
    pub fn named(identity: Identity) -> Self {
        Self { identity, parent: None, since_ns: None }
    }

    /// A descendant of one, which was running before.
    pub fn adopted(identity: Identity, parent: Pid) -> Self {
        Self { identity, parent: Some(parent), since_ns: None }
    }
}

/// Drops forked processes that have ended, the oldest first, except the newest of them. `is_ended` says which have. Returns
/// what it dropped.
pub(super) fn forget_ended(members: &mut Vec<Member>, is_ended: impl Fn(Pid) -> bool) -> Vec<Pid> {
    let ended = |one: &Member| one.parent.is_some() && is_ended(one.identity.pid);
    let mut surplus = members.iter().filter(|one| ended(one)).count().saturating_sub(ENDED);
    let mut dropped = Vec::new();
    if surplus > 0 {
        members.retain(|one| {
            let drops = surplus > 0 && ended(one);
            if drops {
                surplus -= 1;
                dropped.push(one.identity.pid);
            }
            !drops
        });
    }
    dropped
}

/// Adds a forked process, or updates one after an exec.
pub(super) fn update(members: &mut Vec<Member>, event: &ProcessEvent) {
    // Most events are about new processes.
    let known = members.iter().rposition(|one| one.identity.pid == event.pid);
    let template = event.parent.or(Some(event.pid));
    let template = members.iter().find(|one| Some(one.identity.pid) == template);
    let Some(template) = template.or(members.first()) else { return };
    // A process that ended before its identity was read has its parent's.
    let template = Identity { pid: event.pid, ..template.identity.clone() };
    let identity = event.identity.clone().unwrap_or(template);
    if let Some(parent) = event.parent {
        let member = Member { identity, parent: Some(parent), since_ns: Some(event.at_ns) };
        // In the order of their forks: the oldest are dropped first.
        if let Some(at) = known {
            members.remove(at);
        }
        members.push(member);
    } else if let Some(place) = known.and_then(|at| members.get_mut(at)) {
        place.identity = identity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_million_children_that_have_ended_the_newest_stay() {
        let identity = |pid| Identity {
            pid: Pid(pid),
            exe: None,
            cmdline: Vec::new(),
            fd_limit: None,
            start_time: 0,
        };
        let mut members = vec![Member::named(identity(1))];
        for pid in 2..1000 {
            let at_ns = pid.into();
            let (parent, executed) = (Some(Pid(1)), false);
            let event = ProcessEvent { pid: Pid(pid), parent, identity: None, at_ns, executed };
            update(&mut members, &event);
            // The second child and the parent live.
            let dropped = forget_ended(&mut members, |pid| pid.0 > 2);
            assert!(dropped.len() <= 1);
        }
        assert_eq!(members.len(), 2 + ENDED);
        assert_eq!(members.last().unwrap().identity.pid, Pid(999));
    }
}
