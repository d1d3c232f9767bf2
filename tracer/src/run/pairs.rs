//! What may be recorded: acquisitions whose releases are probed, all of them. A release that no probe sees looks like
//! a leak.
//!
//! Takes probes, hands on which of them depend on each other. Pure.

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
    /// The functions that the user named, in whatever files.
    UserDefined,
    /// Objects of a library in one file that end by a function, and not with their heap block.
    Library(FileId, String),
}

impl Group {
    /// The group that a probe belongs to; `None` for what no release has to be seen of: objects that end with their heap
    /// block, or by what their memory says.
    pub(super) fn of(probe: &Probe, user_probes: &[UserProbe]) -> Option<Self> {
        let (file, _) = probe.object.as_ref()?;
        if let Some(of) = &probe.function.object {
            let by_function = of.function.own == BY_FUNCTION;
            let library = of.kind.library.to_string();
            return by_function.then_some(Self::Library(*file, library));
        }
        if user_probes.iter().any(|wish| wish.function.name == probe.function.name) {
            return Some(Self::UserDefined);
        }
        Some(Self::Memory(*file, probe.function.kind))
    }

    /// Whether nothing of `self` is recorded where nothing of `other` is: memory that an allocator maps for itself is told
    /// from the program's own mappings by the allocator's call that it is part of.
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

    /// What is not recorded, in words; `path` is that of the file where a probe is missing.
    pub(super) fn what(&self, path: &str) -> String {
        match self {
            Self::Memory(_, ResourceKind::Heap) => {
                format!("memory allocated by {}", file_name(path))
            }
            Self::Memory(_, kind) => format!("{} resources of {}", kind.name(), file_name(path)),
            Self::UserDefined => "what the functions given by --alloc return".to_owned(),
            Self::Library(_, library) => {
                format!("objects of {library} that are not heap blocks, in {}", file_name(path))
            }
        }
    }
}
