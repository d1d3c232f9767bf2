//! Groups of probes that depend on each other: leaktrace may record acquisitions only if all of their releases are
//! probed. A release that no probe sees looks like a leak.
//!
//! Takes probes, hands on their groups. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tracer_common::{kind::ResourceKind, object::BY_FUNCTION};

use crate::{
    format::file_name,
    probes::{Probe, user_defined::UserProbe},
    target::{Pid, mappings::FileId},
};

/// Probes that are recorded together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// The allocator functions of one file for one kind of memory.
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

    /// Each reason once.
    pub(super) fn reasons(&self) -> BTreeSet<String> {
        self.closed.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::{Absent, Outcome, catalog::LIBC};

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
