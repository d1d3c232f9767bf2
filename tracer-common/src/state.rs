//! What the programs keep in maps.
//!
//! Values that user space reads or writes carry the same derives as the records.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    limits::{EXECUTABLE_RANGES, STACK_DEPTH},
    record::Stack,
    stack::Digest,
};

/// Key of a resource: whose, of what kind, which.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct Key {
    /// Target.
    pub pid: u32,
    /// Number of the kind in the lowest byte; above it [`Target::programs`].
    pub kind: u32,
    /// Address or other handle.
    pub handle: u64,
}

/// A resource in the kernel's table of the young: acquired, and neither released nor drained.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct Young {
    /// Bytes.
    pub size: u64,
    /// `CLOCK_MONOTONIC` of the acquisition, nanoseconds.
    pub time_ns: u64,
    /// Producer position of the ring buffer at the acquisition: its place in the order of things.
    pub position: u64,
    /// Number of the call site; 0 when unknown.
    pub site: u32,
    /// Thread that acquired it.
    pub tid: u32,
}

/// What died young at one call site, per CPU: it never reached the collector otherwise.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct Died {
    /// Resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Bounds of executable memory: `start` included, `end` not.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct CodeRange {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
}

/// That a process is a target. Apart from [`Process`], which the collector renews: this is changed by
/// the programs alone once it is there.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Target {
    /// Whose memory it runs in: its own id, but for the child of a `vfork`, which runs in its parent's.
    pub owner: u32,
    /// 1 when its children are targets too.
    pub follow: u32,
    /// How many programs it has run one after the other, the first not counted: tells what each
    /// acquired apart where addresses are the same.
    pub programs: u32,
}

/// One target's code as the programs know it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Process {
    /// Where hijacked returns lead in this target; 0 while the collector has not seen it.
    pub trampoline: u64,
    /// The code of the allocator: a call from there, made during a call, is part of that call.
    pub allocator: CodeRange,
    /// Executable memory, ascending; unused ones at the end have `start == u64::MAX >> 1`.
    pub code: [CodeRange; EXECUTABLE_RANGES],
}

impl Process {
    /// A target whose executable memory is `ranges` (ascending, at most [`EXECUTABLE_RANGES`]).
    pub fn new(ranges: &[CodeRange]) -> Self {
        let unused = CodeRange { start: u64::MAX >> 1, end: 0 };
        let mut code = [unused; EXECUTABLE_RANGES];
        for (place, range) in code.iter_mut().zip(ranges) {
            *place = *range;
        }
        Self { trampoline: 0, allocator: CodeRange::default(), code }
    }
}

/// No resize under way.
pub const OLD_NONE: u32 = 0;
/// The old resource was taken out of the young.
pub const OLD_YOUNG: u32 = 1;
/// The old resource was announced to the collector by a resize record.
pub const OLD_ANNOUNCED: u32 = 2;

/// One thread: the call it is in, and room to take a stack.
///
/// Programs can be preempted on kernels since 6.0, so room per CPU would be shared; room per thread
/// is not.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Thread {
    /// 1 while a probed function that returns something has been entered and not left.
    pub active: u32,
    /// Call site of the call; 0 when unknown.
    pub site: u32,
    /// Cookie of the function.
    pub cookie: u64,
    /// Where the return address lies: tells nested calls and abandoned ones apart.
    pub slot: u64,
    /// The return address before the return probe replaced it.
    pub caller: u64,
    /// Bytes asked for.
    pub size: u64,
    /// Where the handle will be stored, for out-pointers.
    pub out_pointer: u64,
    /// What became of the resource a resize is about: [`OLD_NONE`] and its kin.
    pub old_state: u32,
    /// Explicit padding.
    pub padding: u32,
    /// Handle of the old resource.
    pub old_handle: u64,
    /// The old resource when it was young.
    pub old: Young,
    /// Digest of the stack under way.
    pub digest: Digest,
    /// The stack under way.
    pub stack: Stack,
}

const _: () = assert!(size_of::<Key>() == 16 && size_of::<Young>() == 32);
const _: () = assert!(size_of::<Thread>() == 64 + 32 + 16 + 24 + 8 * STACK_DEPTH);

#[cfg(test)]
mod tests {
    use super::{CodeRange, Process};

    #[test]
    fn unused_ranges_sort_behind_every_user_address_and_hold_none() {
        let process = Process::new(&[CodeRange { start: 0x1000, end: 0x2000 }]);
        assert_eq!(process.code[0], CodeRange { start: 0x1000, end: 0x2000 });
        assert!(process.code[1].start > 1 << 57 && process.code[1].end == 0);
    }
}
