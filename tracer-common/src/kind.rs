//! What kinds of resource there are: as the ledger keeps them ([`Kind`]), and as users ask for them and read of them
//! ([`ResourceKind`]). The only lists.
//!
//! A kind is data: the ledger treats all alike, apart from how a release finds its resource.

/// A kind of resource in records and in the ledger. The number is what travels in records; retired numbers stay
/// reserved: 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A block of the C allocator family: `malloc` and its relatives. An object of a library that is a heap block of its
    /// own is a block, acquired at a call site of the constructor.
    Heap = 0,
    /// Anonymous memory mapped by the program itself, not by its allocator.
    Mmap = 1,
    /// A page of anonymous memory that has become resident. Only without probes.
    Pages = 2,
    /// A file descriptor, of whatever type.
    Descriptor = 3,
    /// An object of a library that lies in memory of the caller's.
    CallerAllocated = 5,
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
    pub const ALL: [Self; 5] =
        [Self::Heap, Self::Mmap, Self::Pages, Self::Descriptor, Self::CallerAllocated];

    /// The kind with this number, or `None` for a number that no kind has.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Heap),
            1 => Some(Self::Mmap),
            2 => Some(Self::Pages),
            3 => Some(Self::Descriptor),
            5 => Some(Self::CallerAllocated),
            _ => None,
        }
    }

    /// How a release names what it releases.
    pub const fn extent(self) -> Extent {
        match self {
            Self::Heap | Self::Pages | Self::Descriptor | Self::CallerAllocated => Extent::Handle,
            Self::Mmap => Extent::Range,
        }
    }

    /// Whether it is a file descriptor. They belong to a table of descriptors, and not to memory: another program
    /// in the same process keeps them.
    #[inline(always)]
    pub const fn is_descriptor(self) -> bool {
        matches!(self, Self::Descriptor)
    }
}

/// A kind of resource in options and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "user", serde(rename_all = "snake_case"))]
pub enum ResourceKind {
    /// Blocks of the C allocator family that are not objects of a library.
    Heap,
    /// Anonymous memory mapped by the program itself, not by its allocator.
    Mmap,
    /// Anonymous memory that has become resident: pages, by who touched them. Only without probes.
    Pages,
    /// File descriptors of anything but sockets.
    Fd,
    /// File descriptors of sockets.
    Socket,
    /// Objects of libraries, wherever they lie.
    Object,
}

impl ResourceKind {
    /// Every kind, in the order in which options and reports list them.
    pub const ALL: [Self; 6] =
        [Self::Heap, Self::Mmap, Self::Pages, Self::Fd, Self::Socket, Self::Object];

    /// Those that probed functions acquire.
    pub const PROBED: [Self; 3] = [Self::Heap, Self::Mmap, Self::Object];

    /// Those that can be asked for.
    pub const OFFERED: [Self; 5] = [Self::Heap, Self::Mmap, Self::Fd, Self::Socket, Self::Object];

    /// The name in reports, on the screen and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Mmap => "mmap",
            Self::Pages => "pages",
            Self::Fd => "fd",
            Self::Socket => "socket",
            Self::Object => "object",
        }
    }

    /// One line for help texts.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Heap => "blocks of the C allocator: malloc, calloc, realloc, memalign, new",
            Self::Mmap => "anonymous memory mapped by the program itself: mmap, mremap",
            Self::Pages => "anonymous memory that has become resident, by who touched it",
            Self::Fd => "file descriptors of files, pipes, epoll, eventfd, timers and the like",
            Self::Socket => "file descriptors of sockets",
            Self::Object => "objects of libraries, by their type name: events, buffers, SSL …",
        }
    }

    /// Whether it is a kind of file descriptor.
    pub const fn is_descriptor(self) -> bool {
        matches!(self, Self::Fd | Self::Socket)
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn number_and_kind_are_each_others_inverse() {
        for number in 0..=u8::MAX {
            let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == number);
            assert_eq!(Kind::from_number(number), kind);
        }
        assert!(Kind::ALL.is_sorted());
    }
}
