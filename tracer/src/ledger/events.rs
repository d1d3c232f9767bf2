//! Bytes → [`Event`]; rejects malformed records. Allocates only for stacks.

use std::sync::Arc;

use tracer_common::{
    attach::ProbeNumber,
    descriptor::FdType,
    kind::Kind,
    object::IS_OBJECT,
    record::{
        ACQUIRE, CLOSE_RANGE, CONNECTED, Change, Connected, DISCONNECTED, Disconnected, END,
        END_FILES, EXEC, FORK, FORK_FILES, MAY_BE_CLOSED, MOVE, Moved, ProcessEvent, RELEASE,
        RESIZE, RESTORE, RETAG, RangeClosed, STACK, StackHead, THREAD_DETACHED, THREAD_ENDED,
    },
    stack::{Digest, StackEnd},
    state::{Key, Young},
};
use zerocopy::FromBytes as _;

use crate::target::{Pid, code_history::Load};

/// Identifies a resource: the key of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle {
    /// Its process.
    pub pid: Pid,
    /// Its kind.
    pub kind: Kind,
    /// Address or number.
    pub value: u64,
}

/// What the ledger keeps of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Bytes.
    pub size: u64,
    /// `CLOCK_MONOTONIC` of the acquisition, nanoseconds.
    pub time_ns: u64,
    /// Sequence position, see `record::Change::position`.
    pub position: u64,
    /// Number of its call site; 0 for the unknown one.
    pub site: u32,
    /// Number of the connection that it was acquired for; 0 for none.
    pub connection: u32,
}

/// An event of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A resource was acquired.
    Acquired {
        /// The resource.
        handle: Handle,
        /// Its details.
        block: Block,
    },
    /// A resource (for kinds by range: `size` bytes from the handle on) was released.
    Released {
        /// The resource.
        handle: Handle,
        /// Bytes, for ranges.
        size: u64,
        /// Sequence position.
        position: u64,
        /// `CLOCK_MONOTONIC`, nanoseconds; 0 when unknown.
        time_ns: u64,
        /// Number of the probe.
        probe: ProbeNumber,
        /// Return address of the call, 0 when it was not recorded.
        caller: u64,
        /// The thread, if this begins a resize that may still fail.
        resizing: Option<u32>,
    },
    /// A file descriptor was closed.
    Closed {
        /// The process whose table it is in.
        pid: Pid,
        /// Its number.
        fd: u32,
        /// Sequence position.
        position: u64,
        /// `CLOCK_MONOTONIC`, nanoseconds; 0 when unknown.
        time_ns: u64,
        /// Whether it may not have been open.
        may_be_closed: bool,
    },
    /// All open file descriptors of a range were closed.
    RangeClosed {
        /// The process whose table they are in.
        pid: Pid,
        /// The first number.
        first: u32,
        /// The last number.
        last: u32,
        /// Sequence position.
        position: u64,
    },
    /// The resize that `thread` of the handle's process began has failed.
    Restored {
        /// The resource.
        handle: Handle,
        /// The thread.
        thread: u32,
    },
    /// Code was mapped.
    Loaded(Load),
    /// A block turns out to be a library object, acquired at that call site.
    Retagged {
        /// The block.
        handle: Handle,
        /// Number of the call site.
        site: u32,
        /// Sequence position.
        position: u64,
    },
    /// A resize has moved an object.
    Moved {
        /// Its old handle.
        from: u64,
        /// Its new handle.
        handle: Handle,
        /// New size of its block, bytes.
        size: u64,
        /// Sequence position of the start of the resize.
        position: u64,
    },
    /// A call site was seen for the first time.
    Site(Site),
    /// A target has forked.
    Forked {
        /// The forking process.
        parent: Pid,
        /// The new process, a target from now on.
        child: Pid,
        /// Whether this is the copy of its table of file descriptors; otherwise, of its memory.
        files: bool,
        /// Sequence position.
        position: u64,
        /// `CLOCK_MONOTONIC`, nanoseconds.
        time_ns: u64,
    },
    /// A target has called exec.
    Executed {
        /// The process.
        pid: Pid,
        /// The process whose memory it shared before, if not its own: it is a new target.
        parent: Option<Pid>,
        /// Sequence position.
        position: u64,
        /// `CLOCK_MONOTONIC`, nanoseconds.
        time_ns: u64,
    },
    /// A thread has changed its state.
    Thread {
        /// The thread.
        handle: Handle,
        /// How.
        change: ThreadChange,
        /// `CLOCK_MONOTONIC`, nanoseconds.
        time_ns: u64,
    },
    /// A target has ended.
    Ended {
        /// The process.
        pid: Pid,
        /// Sequence position.
        position: u64,
        /// `CLOCK_MONOTONIC`, nanoseconds.
        time_ns: u64,
    },
    /// A connection was opened.
    Connected(Box<Connected>),
    /// A connection has ended.
    Disconnected(Disconnected),
    /// A process has ended that shared its memory and had its own table of file descriptors.
    FilesEnded {
        /// The process.
        pid: Pid,
        /// Sequence position.
        position: u64,
    },
}

impl Event {
    /// The release of what was acquired at `position` and is found to be gone: no probe has seen the call.
    pub(crate) const fn found_released(handle: Handle, position: u64) -> Self {
        let (size, time_ns, probe, caller) = (0, 0, 0, 0);
        Self::Released { handle, size, position, time_ns, probe, caller, resizing: None }
    }
}

/// How a thread changes its state, other than by being joined, which is a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadChange {
    /// It is detached, at this sequence position: with its end it is released.
    Detached(u64),
    /// It has ended. It was started at this sequence position.
    Ended(u64),
}

/// A call site as the BPF programs report it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its number.
    pub number: u32,
    /// Its target.
    pub pid: Pid,
    /// Number of the probe: the function called.
    pub probe: ProbeNumber,
    /// The type of the descriptors that are opened there.
    pub fd_type: FdType,
    /// For a function that creates objects of two types: which one, 0 or 1.
    pub detail: u8,
    /// Return addresses, innermost first, each with the number of its code's generation
    /// ([`crate::target::code_history`]).
    pub frames: Arc<[u64]>,
    /// The same as the BPF programs know them: without generations.
    pub unwound: Arc<[u64]>,
    /// Why unwinding stopped.
    pub end: StackEnd,
    /// Whether the target has called exec since: the addresses belong to the former program's memory.
    pub former: bool,
    /// The call site that this is a copy of, if it came with a fork; its own number if that one is gone, or if it stands
    /// for processes that have ended.
    pub origin: Option<u32>,
    /// The program in memory that the addresses belong to: equal for processes that have forked from each other.
    pub image: u32,
}

impl Site {
    /// The digest by which the BPF programs find its number.
    pub(crate) fn digest(&self) -> Digest {
        let seed = Digest::seeded(self.pid.0, u32::from(self.probe) | u32::from(self.detail) << 16);
        let all = self.unwound.iter().fold(seed, |digest, frame| digest.with(*frame));
        all.with(self.end as u64)
    }
}

/// Decodes a record; `None` when it is malformed or unknown.
pub fn decode(record: &[u8]) -> Option<Event> {
    let (kind, _) = u32::read_from_prefix(record).ok()?;
    match kind {
        STACK => stack(record),
        ACQUIRE | RELEASE | RESIZE | RESTORE | RETAG | THREAD_DETACHED | THREAD_ENDED => {
            change(&Change::read_from_bytes(record).ok()?)
        }
        MOVE => moved(&Moved::read_from_bytes(record).ok()?),
        CLOSE_RANGE => RangeClosed::read_from_bytes(record).ok().map(range_closed),
        FORK | EXEC | FORK_FILES | END_FILES | END => {
            Some(process_event(ProcessEvent::read_from_bytes(record).ok()?))
        }
        CONNECTED => Connected::read_from_bytes(record).ok().map(Box::new).map(Event::Connected),
        DISCONNECTED => Disconnected::read_from_bytes(record).ok().map(Event::Disconnected),
        _ => None,
    }
}

fn process_event(event: ProcessEvent) -> Event {
    let ProcessEvent { position, time_ns, .. } = event;
    let (pid, parent) = (Pid(event.pid), Pid(event.parent));
    match event.record {
        FORK | FORK_FILES => {
            let files = event.record == FORK_FILES;
            Event::Forked { parent, child: pid, files, position, time_ns }
        }
        END_FILES => Event::FilesEnded { pid, position },
        END => Event::Ended { pid, position, time_ns },
        _ => {
            let parent = (parent != pid).then_some(parent);
            Event::Executed { pid, parent, position, time_ns }
        }
    }
}

/// The event for a drained resource.
pub fn drained(key: &Key, young: &Young) -> Option<Event> {
    // Its position distinguishes programs of the process before and after an exec.
    let [kind, ..] = key.kind.to_le_bytes();
    let kind = Kind::from_number(kind)?;
    Some(Event::Acquired {
        handle: Handle { pid: Pid(key.pid), kind, value: key.handle },
        block: Block {
            size: young.size,
            time_ns: young.time_ns,
            position: young.position,
            site: young.site & !IS_OBJECT,
            connection: young.connection,
        },
    })
}

fn change(change: &Change) -> Option<Event> {
    let kind = Kind::from_number(change.kind)?;
    let handle = Handle { pid: Pid(change.pid), kind, value: change.handle };
    Some(match change.record {
        ACQUIRE => Event::Acquired {
            handle,
            block: Block {
                size: change.size,
                time_ns: change.time_ns,
                position: change.position,
                site: change.site,
                connection: change.connection,
            },
        },
        RESTORE => Event::Restored { handle, thread: change.tid },
        THREAD_DETACHED | THREAD_ENDED => {
            let (position, time_ns) = (change.position, change.time_ns);
            let ended = change.record == THREAD_ENDED;
            let changed = if ended { ThreadChange::Ended } else { ThreadChange::Detached };
            Event::Thread { handle, change: changed(position), time_ns }
        }
        RETAG => Event::Retagged { handle, site: change.site, position: change.position },
        RELEASE if kind.is_descriptor() => Event::Closed {
            pid: handle.pid,
            fd: u32::try_from(change.handle).ok()?,
            position: change.position,
            time_ns: change.time_ns,
            may_be_closed: change.flags & MAY_BE_CLOSED != 0,
        },
        record => Event::Released {
            handle,
            size: change.size,
            position: change.position,
            time_ns: change.time_ns,
            probe: change.probe,
            caller: change.caller,
            resizing: (record == RESIZE).then_some(change.tid),
        },
    })
}

fn moved(moved: &Moved) -> Option<Event> {
    let kind = Kind::from_number(u8::try_from(moved.kind).ok()?)?;
    let handle = Handle { pid: Pid(moved.pid), kind, value: moved.to };
    Some(Event::Moved { from: moved.from, handle, size: moved.size, position: moved.position })
}

fn range_closed(closed: RangeClosed) -> Event {
    let RangeClosed { pid, first, last, position, .. } = closed;
    Event::RangeClosed { pid: Pid(pid), first, last, position }
}

fn stack(record: &[u8]) -> Option<Event> {
    let (head, rest) = StackHead::read_from_prefix(record).ok()?;
    let depth = usize::try_from(head.depth).ok()?;
    let (frames, _) = rest.as_chunks::<8>();
    let frames = frames.get(..depth)?;
    let detail = u8::try_from(head.detail).ok()?;
    let frames: Arc<[u64]> = frames.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    Some(Event::Site(Site {
        number: head.site,
        pid: Pid(head.pid),
        probe: head.probe,
        fd_type: FdType::from_number(detail),
        detail,
        unwound: Arc::clone(&frames),
        frames,
        end: StackEnd::from_number(u8::try_from(head.end).ok()?),
        former: false,
        origin: None,
        image: 0,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes as _;

    use super::*;

    #[test]
    fn a_stack_has_as_many_addresses_as_its_depth_says() {
        let head =
            StackHead { record: STACK, site: 7, pid: 1, probe: 3, detail: 0, depth: 2, end: 1 };
        let mut bytes = head.as_bytes().to_vec();
        bytes.extend([0x10_u64, 0x20, 0x30].iter().flat_map(|word| word.to_ne_bytes()));
        let Some(Event::Site(site)) = decode(&bytes) else { panic!("not a stack") };
        assert_eq!(&*site.frames, &[0x10, 0x20]);
        assert_eq!((site.number, site.probe, site.end), (7, 3, StackEnd::FramePointerLost));
    }

    #[test]
    fn a_stack_shorter_than_its_depth_is_rejected() {
        let head =
            StackHead { record: STACK, site: 7, pid: 1, probe: 3, detail: 0, depth: 2, end: 1 };
        let mut bytes = head.as_bytes().to_vec();
        bytes.extend(0x10_u64.to_ne_bytes());
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn an_unknown_kind_is_rejected() {
        let change = Change {
            record: RELEASE,
            kind: 250,
            flags: 0,
            pid: 1,
            tid: 1,
            handle: 1,
            size: 0,
            position: 0,
            time_ns: 0,
            caller: 0,
            site: 0,
            probe: 0,
            connection: 0,
        };
        assert_eq!(decode(change.as_bytes()), None);
        assert!(decode(Change { kind: 0, ..change }.as_bytes()).is_some());
    }

    #[test]
    fn closes_of_a_descriptor_and_of_a_range_are_decoded() {
        let change = Change {
            record: RELEASE,
            kind: Kind::Descriptor as u8,
            flags: MAY_BE_CLOSED,
            pid: 1,
            tid: 1,
            handle: 5,
            size: 0,
            position: 9,
            time_ns: 0,
            caller: 0,
            site: 0,
            probe: 0,
            connection: 0,
        };
        let (pid, position) = (Pid(1), 9);
        let closed =
            |may_be_closed| Some(Event::Closed { pid, fd: 5, position, time_ns: 0, may_be_closed });
        assert_eq!(decode(change.as_bytes()), closed(true));
        assert_eq!(decode(Change { flags: 0, ..change }.as_bytes()), closed(false));
        assert_eq!(decode(Change { handle: 1 << 32, ..change }.as_bytes()), None);
        let range = RangeClosed { record: CLOSE_RANGE, pid: 1, first: 3, last: u32::MAX, position };
        let event = Event::RangeClosed { pid, first: 3, last: u32::MAX, position };
        assert_eq!(decode(range.as_bytes()), Some(event));
    }

    #[test]
    fn an_object_that_has_moved_has_two_handles() {
        let moved = Moved {
            record: MOVE,
            kind: 0,
            pid: 1,
            padding: 0,
            from: 16,
            to: 32,
            size: 100,
            position: 9,
        };
        let handle = Handle { pid: Pid(1), kind: Kind::Heap, value: 32 };
        let event = Event::Moved { from: 16, handle, size: 100, position: 9 };
        assert_eq!(decode(moved.as_bytes()), Some(event));
        assert_eq!(decode(Moved { kind: 250, ..moved }.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            drop(decode(&bytes));
        }
    }
}
