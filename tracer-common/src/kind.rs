//! What sorts of resource there are: the only list.
//!
//! A kind is data: the ledger treats all alike, apart from how a release finds its resource.

/// A sort of resource. The number is what travels in records; retired numbers stay reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "user", serde(rename_all = "snake_case"))]
#[repr(u8)]
pub enum Kind {
    /// A block of the C allocator family: `malloc` and its relatives.
    Heap = 0,
    /// Anonymous memory mapped by the program itself, not by its allocator.
    Mmap = 1,
    /// Anonymous memory that has become resident: pages, by who touched them. Only without probes.
    Pages = 2,
}

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;

/// How a release names what it releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// By the handle that the acquisition returned.
    Handle,
    /// By a range of addresses: parts can be released, and several resources at once.
    Range,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 3] = [Self::Heap, Self::Mmap, Self::Pages];

    /// Those that probed functions acquire.
    pub const PROBED: [Self; 2] = [Self::Heap, Self::Mmap];

    /// The kind with this number, or `None` for a number that no kind has.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Heap),
            1 => Some(Self::Mmap),
            2 => Some(Self::Pages),
            _ => None,
        }
    }

    /// The name in reports, on the screen and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Mmap => "mmap",
            Self::Pages => "pages",
        }
    }

    /// One line for help texts.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Heap => "blocks of the C allocator: malloc, calloc, realloc, memalign, new",
            Self::Mmap => "anonymous memory mapped by the program itself: mmap, mremap",
            Self::Pages => "anonymous memory that has become resident, by who touched it",
        }
    }

    /// How a release names what it releases.
    pub const fn extent(self) -> Extent {
        match self {
            Self::Heap | Self::Pages => Extent::Handle,
            Self::Mmap => Extent::Range,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn number_and_kind_are_each_others_inverse() {
        for (number, kind) in (0_u8..).zip(Kind::ALL) {
            assert_eq!(kind as u8, number);
            assert_eq!(Kind::from_number(number), Some(kind));
        }
        assert_eq!(Kind::from_number(u8::try_from(Kind::ALL.len()).unwrap()), None);
    }
}
