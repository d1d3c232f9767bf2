//! `bpf(2)` itself, for the commands that aya 0.14 lacks.

use std::{
    ffi::c_long,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

/// `BPF_MAP_UPDATE_ELEM`.
const MAP_UPDATE_ELEM: c_long = 2;

/// The member of `union bpf_attr` for `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct ElementAttributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// One `bpf(2)` call; returns its result, or the error. The caller fills in the attributes of `command` as bpf(2)
/// describes them, and what they point to outlives the call.
pub(super) fn bpf<T>(command: c_long, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: see above.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

/// The same for commands that return a new file descriptor.
pub(super) fn new_fd<T>(command: c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is new, and nothing else owns it.
    bpf(command, attributes).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor in the form of `union bpf_attr`.
pub(super) fn number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

/// Stores `program` in slot `slot` of the program array `map`.
pub(super) fn set_program(
    map: BorrowedFd<'_>,
    slot: u32,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let (key, value) = (slot, number(program));
    let mut attributes = ElementAttributes {
        map: number(map),
        padding: 0,
        key: (&raw const key) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE_ELEM, &mut attributes).map(drop)
}
