//! Reasons for lost events. Defined only here.
//!
//! The kernel side counts by number, one counter per CPU; name and sentence come from here.
//! A retired reason keeps its number.

/// Why an acquisition, a release or a stack did not reach the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Loss {
    /// An acquisition found no space in the table of young resources or in the ring buffer.
    AcquireDropped = 0,
    /// A release of a drained resource found no space in the ring buffer.
    ReleaseDropped = 1,
    /// A young resource could not be removed from the kernel's table (lock contention).
    ReleaseBusy = 2,
    /// A thread beyond the bound of followed threads acquired something.
    ThreadsFull = 3,
    /// A call site beyond the bound of call sites; its resource is counted under "unknown stack".
    SitesFull = 4,
    /// A new stack found no space in the ring buffer; the resource is counted under "unknown stack".
    StackDropped = 5,
    /// A probe was hit but the program's arguments could not be read.
    Unreadable = 6,
    /// Unmatched releases were set aside, with the resources that they may have released.
    Doubtful = 7,
    /// A record that this version of the collector does not understand.
    Malformed = 8,
    /// A child beyond the bound of targets, or whose fork record found no space in the ring buffer.
    ChildDropped = 9,
    /// A thread has a descriptor table of its own, whose descriptors are not traced.
    TableUnshared = 10,
    /// A connection beyond the bound of connections, or whose record found no space in the ring buffer.
    ConnectionDropped = 11,
    /// The kernel skipped a run of a program, since it interrupted another program or a map operation on the same CPU.
    /// The kernel counts these, regardless of the process.
    ProgramSkipped = 12,
    /// A release request for a library object found no space in its map.
    AskDropped = 13,
    /// A release that no probe saw: the heap says that the block is free. Counted by the collector.
    MissedRelease = 14,
}

impl Loss {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 15] = [
        Self::AcquireDropped,
        Self::ReleaseDropped,
        Self::ReleaseBusy,
        Self::ThreadsFull,
        Self::SitesFull,
        Self::StackDropped,
        Self::Unreadable,
        Self::Doubtful,
        Self::Malformed,
        Self::ChildDropped,
        Self::TableUnshared,
        Self::ConnectionDropped,
        Self::ProgramSkipped,
        Self::AskDropped,
        Self::MissedRelease,
    ];

    /// The key in the report's `accounting.lost`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcquireDropped => "acquire_dropped",
            Self::ReleaseDropped => "release_dropped",
            Self::ReleaseBusy => "release_busy",
            Self::ThreadsFull => "threads_full",
            Self::SitesFull => "sites_full",
            Self::StackDropped => "stack_dropped",
            Self::Unreadable => "unreadable",
            Self::Doubtful => "doubtful",
            Self::Malformed => "malformed",
            Self::ChildDropped => "child_dropped",
            Self::TableUnshared => "table_unshared",
            Self::ConnectionDropped => "connection_dropped",
            Self::ProgramSkipped => "program_skipped",
            Self::AskDropped => "ask_dropped",
            Self::MissedRelease => "missed_release",
        }
    }

    /// What it means for the figures, for a person.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::AcquireDropped => "acquisitions not recorded: kernel table and ring buffer full",
            Self::ReleaseDropped => "releases not recorded: ring buffer full",
            Self::ReleaseBusy => "releases not recorded: kernel table busy",
            Self::ThreadsFull => "acquisitions not recorded: too many threads at once",
            Self::SitesFull => "acquisitions under 'unknown stack': too many call sites",
            Self::StackDropped => "acquisitions under 'unknown stack': ring buffer full",
            Self::Unreadable => "calls not recorded: arguments not readable",
            Self::Doubtful => "resources set aside: their release may be among the lost ones",
            Self::Malformed => "records not understood by the collector",
            Self::TableUnshared => "threads with a descriptor table of their own, not traced",
            Self::ConnectionDropped => {
                "connections not recorded: too many at once, or ring buffer full"
            }
            Self::ProgramSkipped => {
                "events of any process not looked at: the kernel skipped our program"
            }
            Self::AskDropped => "objects shown without 'release asked': too many at once",
            Self::MissedRelease => "releases that no probe saw: the heap has these blocks as free",
            Self::ChildDropped => "children not followed: too many targets, or ring buffer full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Loss;

    #[test]
    fn reasons_are_in_the_order_of_their_numbers() {
        for (number, reason) in (0_u32..).zip(Loss::ALL) {
            assert_eq!(reason as u32, number);
        }
    }
}
