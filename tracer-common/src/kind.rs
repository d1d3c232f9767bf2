//! Kinds of resource: as records and the ledger have them ([`Kind`]), and as options and reports name them
//! ([`ResourceKind`]). Each list is defined only here.
//!
//! A kind is data: the ledger treats all kinds alike, except in how a release finds its resource.

pub use crate::arch::PAGE_BYTES;

/// A kind of resource in records and in the ledger. Records carry its number; retired numbers stay
/// reserved: 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A block of the C allocator family: `malloc` and its relatives. A library object that is a heap block of its
    /// own has this kind, acquired at a call site of the constructor.
    Heap = 0,
    /// Memory mapped by the program itself, not by its allocator: anonymous, shared or of a file; and what it adds to
    /// its data segment.
    Mmap = 1,
    /// A page of anonymous memory that has become resident. Only without probes.
    Pages = 2,
    /// A file descriptor, of whatever type.
    Descriptor = 3,
    /// A library object in memory that its caller allocated.
    CallerAllocated = 5,
    /// A thread, by its `pthread_t`: the address of the C library's structure for it, at the top of its stack.
    Thread = 6,
}

/// How a release identifies its resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// By the handle that the acquisition returned.
    Handle,
    /// By an address range: it can release a part of a resource, or several at once.
    Range,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 6] = [
        Self::Heap,
        Self::Mmap,
        Self::Pages,
        Self::Descriptor,
        Self::CallerAllocated,
        Self::Thread,
    ];

    /// The kind with this number, or `None` for an unknown number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Heap),
            1 => Some(Self::Mmap),
            2 => Some(Self::Pages),
            3 => Some(Self::Descriptor),
            5 => Some(Self::CallerAllocated),
            6 => Some(Self::Thread),
            _ => None,
        }
    }

    /// How a release identifies its resources.
    pub const fn extent(self) -> Extent {
        match self {
            Self::Heap | Self::Pages | Self::Descriptor | Self::CallerAllocated | Self::Thread => {
                Extent::Handle
            }
            Self::Mmap => Extent::Range,
        }
    }

    /// Whether it is a file descriptor. Descriptors belong to a descriptor table rather than to memory: they survive
    /// an `execve`.
    #[inline(always)]
    pub const fn is_descriptor(self) -> bool {
        matches!(self, Self::Descriptor)
    }

    /// Whether the child of a fork has a copy. It has a copy of all memory, but of the threads only the one that forked.
    pub const fn is_inherited(self) -> bool {
        !matches!(self, Self::Thread)
    }
}

/// A kind of resource in options and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "user", serde(rename_all = "snake_case"))]
pub enum ResourceKind {
    /// Blocks of the C allocator family that are not library objects.
    Heap,
    /// Memory mapped by the program itself, not by its allocator: anonymous, shared or of a file.
    Mmap,
    /// Anonymous memory that has become resident: pages, by the stack that touched them. Only without probes.
    Pages,
    /// File descriptors, except sockets.
    Fd,
    /// File descriptors of sockets.
    Socket,
    /// Library objects, on the heap or caller-allocated.
    Object,
    /// Threads of the C library.
    Thread,
}

impl ResourceKind {
    /// Every kind, in the order in which options and reports list them.
    pub const ALL: [Self; 7] =
        [Self::Heap, Self::Mmap, Self::Pages, Self::Fd, Self::Socket, Self::Object, Self::Thread];

    /// The kinds that probed functions acquire.
    pub const PROBED: [Self; 4] = [Self::Heap, Self::Mmap, Self::Object, Self::Thread];

    /// The kinds that `--kind` accepts.
    pub const OFFERED: [Self; 6] =
        [Self::Heap, Self::Mmap, Self::Fd, Self::Socket, Self::Object, Self::Thread];

    /// The name in reports, on the screen and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Mmap => "mmap",
            Self::Pages => "pages",
            Self::Fd => "fd",
            Self::Socket => "socket",
            Self::Object => "object",
            Self::Thread => "thread",
        }
    }

    /// One line for help texts.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Heap => "blocks of the C allocator: malloc, calloc, realloc, memalign, new",
            Self::Mmap => "memory and files mapped by the program itself: mmap, mremap, sbrk",
            Self::Pages => "anonymous memory that has become resident, by who touched it",
            Self::Fd => "file descriptors of files, pipes, epoll, eventfd, timers and the like",
            Self::Socket => "file descriptors of sockets",
            Self::Object => "objects of libraries, by their type name: events, buffers, SSL …",
            Self::Thread => "threads that run, or have ended and nobody has joined: pthread_create",
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
    fn kind_numbers_round_trip() {
        for number in 0..=u8::MAX {
            let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == number);
            assert_eq!(Kind::from_number(number), kind);
        }
        assert!(Kind::ALL.is_sorted());
    }
}
