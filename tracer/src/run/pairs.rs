//! Groups of probes that depend on each other: leaktrace may record acquisitions only if all of their releases are
//! probed. A release that no probe sees looks like a leak.
//!
//! Takes probes, hands on their groups. Pure.

use tracer_common::{kind::ResourceKind, object::BY_FUNCTION};

use crate::{
    format::file_name,
    probes::{Probe, user_defined::UserProbe},
    target::mappings::FileId,
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
            Self::Memory(_, kind) => format!("{} resources of {}", kind.name(), file_name(path)),
            Self::UserDefined => "memory returned by the functions given by --alloc".to_owned(),
            Self::Library(_, library) => {
                format!("objects of {library} that are not heap blocks, in {}", file_name(path))
            }
        }
    }
}
