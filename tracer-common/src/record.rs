//! The records in the ring buffer: what the programs tell the collector.
//!
//! Fixed-width integers only, padding spelled out, checked by zerocopy's derives on both sides.
//! The first word says which record it is; the collector refuses what it does not know.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{attach::ProbeNumber, connection::PATH, limits::STACK_DEPTH};

/// [`Change`]: a resource was acquired (only what finds no room among the young, and ranges).
pub const ACQUIRE: u32 = 1;
/// [`Change`]: a resource that is not young was released.
pub const RELEASE: u32 = 2;
/// [`Change`]: a resize has begun; its old resource is released unless a [`RESTORE`] follows.
pub const RESIZE: u32 = 3;
/// [`Change`]: the resize that this thread began has failed; the old resource is as before.
pub const RESTORE: u32 = 4;
/// [`Stack`]: the stack of a new call site.
pub const STACK: u32 = 5;

/// [`ProcessEvent`]: a target has forked; its child is a target too, with a copy of its memory.
pub const FORK: u32 = 6;
/// [`ProcessEvent`]: another program runs in a target from now on.
pub const EXEC: u32 = 7;
/// [`ProcessEvent`]: a target has started a process with a copy of its table of file descriptors.
pub const FORK_FILES: u32 = 8;
/// [`ProcessEvent`]: a process that had only its table of file descriptors to itself has ended.
pub const END_FILES: u32 = 9;

/// [`Connected`]: a connection has begun, or was met for the first time.
pub const CONNECTED: u32 = 10;
/// [`Disconnected`]: a connection is over: its last descriptor is being closed.
pub const DISCONNECTED: u32 = 11;

/// [`Change`]: a resource that may not be young any more is an object of the call site told.
pub const RETAG: u32 = 12;

/// [`Moved`]: a resize has moved a library's object.
pub const MOVE: u32 = 13;

/// [`RangeClosed`]: all file descriptors of a range were closed at once.
pub const CLOSE_RANGE: u32 = 14;

/// In [`Change::flags`] of a descriptor's release: it may not have been open, so an unknown one is no news.
pub const MAY_BE_CLOSED: u8 = 1;

/// Something happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessEvent {
    /// [`FORK`], [`EXEC`], [`FORK_FILES`] or [`END_FILES`].
    pub record: u32,
    /// The process it is about: the child, or the one that runs another program. As in [`Change`].
    pub pid: u32,
    /// Whose memory (or table of file descriptors) it had until then: the parent's; its own when a process with
    /// memory of its own becomes another program.
    pub parent: u32,
    /// Explicit padding.
    pub padding: u32,
    /// As in [`Change`].
    pub position: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
}

/// Something happened to one resource.
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
    /// Place in the order of things: the ring buffer's producer position when it happened. A
    /// release acts on resources with a position not above its own.
    pub position: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Return address of the call: who asked; 0 where it was not taken.
    pub caller: u64,
    /// Number of the call site of an acquisition; 0 when unknown.
    pub site: u32,
    /// Number of the connection that the thread served when it acquired; 0 for none.
    pub connection: u32,
}

/// A resize has moved an object that the collector has.
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
    /// Its handle until now.
    pub from: u64,
    /// Its handle from now on.
    pub to: u64,
    /// Bytes of its block from now on.
    pub size: u64,
    /// Position of the resize's beginning, as in [`Change`].
    pub position: u64,
}

/// The file descriptors of a range were closed, as far as they were open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RangeClosed {
    /// [`CLOSE_RANGE`].
    pub record: u32,
    /// Whose table of file descriptors.
    pub pid: u32,
    /// The first descriptor.
    pub first: u32,
    /// The last one.
    pub last: u32,
    /// As in [`Change`].
    pub position: u64,
}

/// A connection has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Connected {
    /// [`CONNECTED`].
    pub record: u32,
    /// Number of the connection from now on.
    pub number: u32,
    /// Whose table of file descriptors has it.
    pub pid: u32,
    /// Its descriptor.
    pub fd: u32,
    /// As in [`Change`].
    pub position: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// What the programs know it by: where the kernel has its socket.
    pub socket: u64,
    /// Inode number of the socket, as `/proc/PID/fd` shows it.
    pub inode: u64,
    /// Number of the call site that began it; 0 when unknown.
    pub site: u32,
    /// Process at the other end, in the kernel's initial namespace; 0 when not known.
    pub peer_pid: u32,
    /// Address family, such as [`crate::connection::INET`].
    pub family: u16,
    /// Port on this side; 0 when there is none.
    pub local_port: u16,
    /// The same on the other side.
    pub peer_port: u16,
    /// Protocol of the internet family, such as [`crate::connection::TCP`].
    pub protocol: u8,
    /// Who began it, see [`crate::connection::Role`].
    pub role: u8,
    /// Address on this side: its first 4 bytes for IPv4.
    pub local: [u8; 16],
    /// The same on the other side.
    pub peer: [u8; 16],
    /// Bytes of [`Connected::path`] that count.
    pub path_length: u32,
    /// Name of a unix socket on the side that was connected to; the first byte is 0 for one outside of the file
    /// system.
    pub path: [u8; PATH],
}

/// A connection is over.
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
    /// Bytes received as TCP counts them: the end of the stream is one. `u64::MAX` when not known.
    pub bytes_in: u64,
    /// Bytes given to be sent, counted in the same way; the beginning is one as well for who has connected.
    pub bytes_out: u64,
    /// When it ceased to be established, `CLOCK_MONOTONIC`, nanoseconds; 0 when this close is the first that ends it.
    pub ended_ns: u64,
    /// State that it went into then, such as [`crate::connection::CLOSE_WAIT`]; its present one otherwise.
    pub state: u32,
    /// Error of the socket then, as in `errno(3)`; 0 without one.
    pub error: u16,
    /// Its state at present.
    pub present: u16,
}

/// The head of a stack record; `depth` addresses of 8 bytes follow, innermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackHead {
    /// [`STACK`].
    pub record: u32,
    /// Number of the call site from now on.
    pub site: u32,
    /// Target, as in [`Change`].
    pub pid: u32,
    /// Number of the probe: the function or the system call.
    pub probe: ProbeNumber,
    /// Of a file descriptor: what it leads to, see [`crate::descriptor::FdType`]. Of a function that makes objects of two
    /// kinds: which one, 0 or 1.
    pub detail: u16,
    /// Addresses that follow.
    pub depth: u32,
    /// Why unwinding stopped, see [`crate::stack::StackEnd`].
    pub end: u32,
}

/// A stack record at its full length; only the part in use travels.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stack {
    /// What the stack belongs to.
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
