//! Groups of probes that depend on each other: leaktrace may record acquisitions only if all of their releases are
//! probed. A release that no probe sees looks like a leak.
//!
//! Takes probes, passes on their groups. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tracer_common::{attach::ProbeNumber, kind::ResourceKind, object::BY_FUNCTION};

use crate::{
    format::file_name,
    probes::{Probe, user_defined::UserProbe},
    target::{Pid, mappings::FileId},
};

/// Probes that are recorded together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// The functions of one file for one kind of memory, or for threads.
    Memory(FileId, ResourceKind),
    /// The functions that the user named, in any file.
    UserDefined,
    /// Objects of a library in one file that a function destroys, and that do not end with their heap block.
    Library(FileId, String),
}

impl Group {
    /// The group of a probe; `None` if no release of its objects has to be seen: they end with their heap block, or
    /// when a field in their memory says so.
    pub(super) fn of(probe: &Probe, user_probes: &[UserProbe]) -> Option<Self> {
        let (file, _) = probe.object.as_ref()?;
        if let Some(of) = &probe.function.object {
            let by_function = of.function.own == BY_FUNCTION;
            let library = of.kind.library.to_string();
            return by_function.then_some(Self::Library(*file, library));
        }
        if user_probes.iter().any(|user| user.function.name == probe.function.name) {
            return Some(Self::UserDefined);
        }
        Some(Self::Memory(*file, probe.function.kind))
    }

    /// Whether `self` can be recorded only together with `other`: leaktrace distinguishes an allocator's own mappings
    /// from the program's by the surrounding call of the allocator.
    pub(super) fn depends_on(&self, other: &Self) -> bool {
        self == other
            || matches!(
                (self, other),
                (
                    Self::Memory(_, ResourceKind::Mmap),
                    Self::Memory(_, ResourceKind::Heap) | Self::UserDefined
                )
            )
    }

    /// The group in words; `path` is the file in which a probe is missing.
    pub(super) fn what(&self, path: &str) -> String {
        match self {
            Self::Memory(_, ResourceKind::Heap) => {
                format!("memory allocated by {}", file_name(path))
            }
            Self::Memory(_, ResourceKind::Thread) => {
                format!("threads started by {}", file_name(path))
            }
            Self::Memory(..) => format!("memory mapped by {}", file_name(path)),
            Self::UserDefined => "memory returned by the functions given by --alloc".to_owned(),
            Self::Library(_, library) => {
                format!("caller-allocated memory of {library} objects in {}", file_name(path))
            }
        }
    }
}

/// Groups that are not recorded, because a probe that they need is not on.
#[derive(Debug, Default)]
pub(super) struct ClosedGroups {
    /// Why, in a sentence, by whose probes it is about (one target's, or everybody's) and group.
    closed: BTreeMap<(Option<Pid>, Group), String>,
}

impl ClosedGroups {
    /// A probe is not on, for the reason `why`. If its group needs it, the group is closed.
    pub(super) fn close(
        &mut self,
        scope: Option<Pid>,
        probe: &Probe,
        user_probes: &[UserProbe],
        why: &str,
    ) {
        if !probe.function.is_needed() {
            return;
        }
        let Some(group) = Group::of(probe, user_probes) else { return };
        let path = probe.object.as_ref().map(|(_, path)| path.to_string_lossy());
        let path = path.as_deref().unwrap_or("?");
        let (what, name, file) = (group.what(path), &probe.function.name, file_name(path));
        let sentence = format!("{what} is not traced: `{name}` of {file} cannot be probed: {why}");
        self.closed.entry((scope, group)).or_insert(sentence);
    }

    /// Why a probe must not be on, if its group is closed.
    pub(super) fn closes(
        &self,
        scope: Option<Pid>,
        probe: &Probe,
        user_probes: &[UserProbe],
    ) -> Option<&String> {
        let group = Group::of(probe, user_probes)?;
        let mut closed = self.closed.iter().filter(|((of, _), _)| *of == scope);
        closed.find(|((_, other), _)| group.depends_on(other)).map(|(_, why)| why)
    }

    /// Has the probes of closed groups detached. `detach` takes links apart for that, and returns the other probes of
    /// these links that the kernel refused to attach again: a group that needs one of them is closed, too. Returns every
    /// probe that is off, with the reason.
    pub(super) fn withdraw(
        &mut self,
        scope: Option<Pid>,
        probes: &[Probe],
        user_probes: &[UserProbe],
        mut detach: impl FnMut(&BTreeSet<ProbeNumber>) -> Vec<(ProbeNumber, String)>,
    ) -> BTreeMap<ProbeNumber, String> {
        let mut off = BTreeMap::new();
        while self.closed.keys().any(|(of, _)| *of == scope) {
            let attached = probes
                .iter()
                .filter(|probe| probe.place.is_ok() && !off.contains_key(&probe.number));
            let closed: BTreeMap<ProbeNumber, String> = attached
                .filter_map(|one| Some((one.number, self.closes(scope, one, user_probes)?.clone())))
                .collect();
            if closed.is_empty() {
                break;
            }
            let numbers = closed.keys().copied().collect();
            off.extend(closed);
            for (number, why) in detach(&numbers) {
                if let Some(probe) = probes.iter().find(|probe| probe.number == number) {
                    self.close(scope, probe, user_probes, &why);
                }
                off.insert(number, why);
            }
        }
        off
    }

    /// Each reason once.
    pub(super) fn reasons(&self) -> BTreeSet<String> {
        self.closed.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::{Absent, Outcome, Place, catalog::LIBC};

    const FILE: FileId = FileId { device: (0, 0), inode: 1 };

    fn probe(name: &str) -> Probe {
        Probe {
            number: 0,
            function: LIBC.iter().find(|one| one.name == name).unwrap().clone(),
            aliases: Vec::new(),
            object: Some((FILE, "/lib/libc.so.6".into())),
            place: Err(Absent::Missing),
            outcome: Outcome::None,
        }
    }

    #[test]
    fn an_allocator_without_its_free_is_not_recorded_and_neither_are_mappings() {
        let mut closed = ClosedGroups::default();
        closed.close(None, &probe("free"), &[], "no room");
        for name in ["malloc", "realloc", "free", "mmap", "munmap"] {
            assert!(closed.closes(None, &probe(name), &[]).is_some(), "{name}");
        }
        assert_eq!(closed.closes(Some(Pid(7)), &probe("malloc"), &[]), None, "another's probes");
        let reasons: Vec<String> = closed.reasons().into_iter().collect();
        let sentence = "memory allocated by libc.so.6 is not traced: `free` of libc.so.6 cannot be \
                        probed: no room";
        assert_eq!(reasons, [sentence]);
    }

    /// A probe with its own number, in the file `inode`, that can be attached.
    fn located(number: ProbeNumber, name: &str, inode: u64) -> Probe {
        let file = FileId { inode, ..FILE };
        let place = Ok(Place { offset: 0, behind_entry: 0, emulated: true, words: 0 });
        let object = Some((file, "/lib/libc.so.6".into()));
        Probe { number, object, place, ..probe(name) }
    }

    #[test]
    fn a_link_that_cannot_be_attached_again_closes_the_groups_that_need_its_probes() {
        let probes = [
            located(0, "malloc", 1),
            located(1, "free", 1),
            located(2, "malloc", 2),
            located(3, "free", 2),
            located(4, "malloc", 3),
        ];
        let mut closed = ClosedGroups::default();
        let nothing = closed.withdraw(None, &probes, &[], |_| panic!("no group is closed"));
        assert!(nothing.is_empty());
        closed.close(None, &probes[1], &[], "no room");
        let mut calls = Vec::new();
        // The releases of both files were in one link; the kernel refuses the second one now.
        let off = closed.withdraw(None, &probes, &[], |numbers| {
            calls.push(numbers.iter().copied().collect::<Vec<_>>());
            if numbers.contains(&1) { vec![(3, "out of memory".to_owned())] } else { Vec::new() }
        });
        assert_eq!(calls, [vec![0, 1], vec![2]]);
        assert_eq!(off.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3], "{off:?}");
        assert!(off[&2].ends_with("out of memory") && off[&3] == "out of memory", "{off:?}");
        assert_eq!(closed.reasons().len(), 2);
        assert!(closed.closes(None, &probes[4], &[]).is_none());
    }

    #[test]
    fn a_function_that_only_acquires_is_not_needed() {
        let mut closed = ClosedGroups::default();
        for name in ["malloc", "calloc", "posix_memalign", "mmap"] {
            closed.close(None, &probe(name), &[], "no room");
        }
        assert!(closed.reasons().is_empty());
    }

    #[test]
    fn mappings_without_munmap_leave_the_heap_alone() {
        let mut closed = ClosedGroups::default();
        closed.close(None, &probe("munmap"), &[], "no room");
        assert!(closed.closes(None, &probe("mmap"), &[]).is_some());
        assert_eq!(closed.closes(None, &probe("malloc"), &[]), None);
    }
}
