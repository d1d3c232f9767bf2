//! The records in the ring buffer, from the programs to the collector.
//!
//! Fixed-width integers only, padding spelled out, checked by zerocopy's derives on both sides.
//! The first word holds the type of the record; the collector rejects unknown types.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{attach::ProbeNumber, connection::PATH, limits::STACK_DEPTH};

/// [`Change`]: a resource was acquired (only ranges, and resources for which the table of young ones has no space).
pub const ACQUIRE: u32 = 1;
/// [`Change`]: a resource that is not young was released.
pub const RELEASE: u32 = 2;
/// [`Change`]: a resize has begun; its old resource is released unless a [`RESTORE`] follows.
pub const RESIZE: u32 = 3;
/// [`Change`]: the resize that this thread began has failed; the old resource is unchanged.
pub const RESTORE: u32 = 4;
/// [`Stack`]: the stack of a new call site.
pub const STACK: u32 = 5;

/// [`ProcessEvent`]: a target has forked; its child is a target too, with a copy of its memory.
pub const FORK: u32 = 6;
/// [`ProcessEvent`]: a target has executed another program.
pub const EXEC: u32 = 7;
/// [`ProcessEvent`]: a target has started a process with a copy of its descriptor table.
pub const FORK_FILES: u32 = 8;
/// [`ProcessEvent`]: a process that shared memory but had its own descriptor table has ended.
pub const END_FILES: u32 = 9;

/// [`Connected`]: a connection was opened, or seen for the first time.
pub const CONNECTED: u32 = 10;
/// [`Disconnected`]: a connection has ended: its last descriptor is being closed.
pub const DISCONNECTED: u32 = 11;

/// [`Change`]: a resource that may no longer be young is an object of the given call site.
pub const RETAG: u32 = 12;

/// [`Moved`]: a resize has moved a library object.
pub const MOVE: u32 = 13;

/// [`RangeClosed`]: all file descriptors of a range were closed at once.
pub const CLOSE_RANGE: u32 = 14;

/// [`ProcessEvent`]: a target has ended, and with it its memory and its descriptor table. Only where children are
/// followed.
pub const END: u32 = 15;

/// [`Change`]: a thread has ended. [`Change::position`] is the one at which it was started, and identifies it.
pub const THREAD_ENDED: u32 = 20;
/// [`Change`]: a thread is detached: with its end it is released.
pub const THREAD_DETACHED: u32 = 21;

/// Flag in [`Change::flags`] of a descriptor's release: it may not have been open, so the collector ignores an unknown
/// one.
pub const MAY_BE_CLOSED: u8 = 1;

/// An event of a process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessEvent {
    /// [`FORK`], [`EXEC`], [`FORK_FILES`], [`END_FILES`] or [`END`].
    pub record: u32,
    /// The process: the child, or the one that executed another program. Numbered as in [`Change`].
    pub pid: u32,
    /// Owner of the memory (or descriptor table) that it had until then: the parent, or itself when a process with
    /// memory of its own executes another program.
    pub parent: u32,
    /// Explicit padding.
    pub padding: u32,
    /// As in [`Change`].
    pub position: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
}

/// A change of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Change {
    /// [`ACQUIRE`], [`RELEASE`], [`RESIZE`], [`RESTORE`] or [`RETAG`].
    pub record: u32,
    /// Number of the kind.
    pub kind: u8,
    /// [`MAY_BE_CLOSED`], or 0.
    pub flags: u8,
    /// Number of the probe.
    pub probe: ProbeNumber,
    /// Target (thread group id as the kernel's initial namespace knows it).
    pub pid: u32,
    /// Thread, in the same numbering.
    pub tid: u32,
    /// Address or other handle; the start of a range.
    pub handle: u64,
    /// Bytes; 0 for a release by handle.
    pub size: u64,
    /// Sequence position: the ring buffer's producer position at the event. A release acts on
    /// resources with a position not above its own.
    pub position: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Return address of the call; 0 where it was not read.
    pub caller: u64,
    /// Number of the call site of an acquisition; 0 when unknown.
    pub site: u32,
    /// Number of the connection that the thread served when it acquired; 0 for none.
    pub connection: u32,
}

/// A resize has moved an object that is in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Moved {
    /// [`MOVE`].
    pub record: u32,
    /// Number of the kind of both handles.
    pub kind: u32,
    /// As in [`Change`].
    pub pid: u32,
    /// Explicit padding.
    pub padding: u32,
    /// Its old handle.
    pub from: u64,
    /// Its new handle.
    pub to: u64,
    /// Bytes of its new block.
    pub size: u64,
    /// Sequence position of the resize's beginning, as in [`Change`].
    pub position: u64,
}

/// All open file descriptors of a range were closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RangeClosed {
    /// [`CLOSE_RANGE`].
    pub record: u32,
    /// Owner of the descriptor table.
    pub pid: u32,
    /// The first descriptor.
    pub first: u32,
    /// The last one.
    pub last: u32,
    /// As in [`Change`].
    pub position: u64,
}

/// A connection was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Connected {
    /// [`CONNECTED`].
    pub record: u32,
    /// Number given to the connection.
    pub number: u32,
    /// Owner of the descriptor table that holds it.
    pub pid: u32,
    /// Its descriptor.
    pub fd: u32,
    /// As in [`Change`].
    pub position: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Its identity in the programs: the address of the kernel's `struct sock`.
    pub socket: u64,
    /// Inode number of the socket, as `/proc/PID/fd` shows it.
    pub inode: u64,
    /// Number of the call site that opened it; 0 when unknown.
    pub site: u32,
    /// Process of the peer, in the kernel's initial pid namespace; 0 when unknown.
    pub peer_pid: u32,
    /// Address family, such as [`crate::connection::INET`].
    pub family: u16,
    /// Local port; 0 without one.
    pub local_port: u16,
    /// Port of the peer.
    pub peer_port: u16,
    /// Protocol of the internet family, such as [`crate::connection::TCP`].
    pub protocol: u8,
    /// The side that opened it, see [`crate::connection::Role`].
    pub role: u8,
    /// Local address; IPv4 uses the first 4 bytes.
    pub local: [u8; 16],
    /// Address of the peer.
    pub peer: [u8; 16],
    /// Valid bytes of [`Connected::path`].
    pub path_length: u32,
    /// Name of the unix socket that accepted the connection; the first byte is 0 for an abstract name.
    pub path: [u8; PATH],
}

/// A connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Disconnected {
    /// [`DISCONNECTED`].
    pub record: u32,
    /// Number of the connection.
    pub number: u32,
    /// As in [`Change`].
    pub position: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Bytes received as TCP counts them: the end of the stream counts as one. `u64::MAX` when unknown.
    pub bytes_in: u64,
    /// Bytes handed to the socket for sending, counted in the same way; on the connecting side the beginning of the
    /// stream counts as one as well.
    pub bytes_out: u64,
    /// `CLOCK_MONOTONIC` of its leaving the established state, nanoseconds; 0 when this close ends it.
    pub ended_ns: u64,
    /// State that it entered then, such as [`crate::connection::CLOSE_WAIT`]; otherwise its present state.
    pub state: u32,
    /// Error of the socket then, as in `errno(3)`; 0 without one.
    pub error: u16,
    /// Its present state.
    pub present: u16,
}

/// The head of a stack record; `depth` addresses of 8 bytes follow, innermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackHead {
    /// [`STACK`].
    pub record: u32,
    /// Number given to the call site.
    pub site: u32,
    /// Target, as in [`Change`].
    pub pid: u32,
    /// Number of the probe: the function or the system call.
    pub probe: ProbeNumber,
    /// For a file descriptor its [`crate::descriptor::FdType`]; for a constructor of two kinds of object the kind,
    /// 0 or 1.
    pub detail: u16,
    /// Addresses that follow.
    pub depth: u32,
    /// Why unwinding stopped, see [`crate::stack::StackEnd`].
    pub end: u32,
}

/// A stack record at its full length; the programs send only the used part.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stack {
    /// The call site that the stack belongs to.
    pub head: StackHead,
    /// Return addresses, innermost first: the first is in the function that called the probed one.
    pub frames: [u64; STACK_DEPTH],
}

const _: () = assert!(size_of::<Change>() == 64 && align_of::<Change>() == 8);
const _: () = assert!(size_of::<Connected>() == 208 && size_of::<Disconnected>() == 56);
const _: () = assert!(size_of::<Moved>() == 48 && size_of::<RangeClosed>() == 24);
const _: () = assert!(size_of::<ProcessEvent>() == 32 && align_of::<ProcessEvent>() == 8);
const _: () = assert!(size_of::<StackHead>() == 24 && align_of::<StackHead>() == 4);
const _: () = assert!(size_of::<Stack>() == 24 + 8 * STACK_DEPTH && align_of::<Stack>() == 8);
