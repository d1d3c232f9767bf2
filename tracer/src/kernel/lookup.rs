//! Programs and maps of a loaded object, by name.
//!
//! Takes the object as aya has loaded it, passes on programs, their descriptors, and slots of program arrays.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::{
    Ebpf,
    programs::{ProgramError, ProgramFd, RawTracePoint, UProbe},
};

use super::{
    code::descriptor,
    failed::{KernelError, program_failed},
    syscall,
};

/// The raw-tracepoint program of this name.
pub(super) fn tracepoint<'ebpf>(
    ebpf: &'ebpf mut Ebpf,
    name: &'static str,
) -> Result<&'ebpf mut RawTracePoint, KernelError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(KernelError::Missing { name })
}

/// The uprobe program of this name.
pub(super) fn uprobe<'ebpf>(
    ebpf: &'ebpf mut Ebpf,
    name: &'static str,
) -> Result<&'ebpf mut UProbe, KernelError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(KernelError::Missing { name })
}

/// Stores a program that others tail-call in a program array, which the kernel empties when its last descriptor is
/// closed.
pub(super) fn set_tail_call(
    ebpf: &Ebpf,
    map: &'static str,
    slot: u32,
    program: BorrowedFd<'_>,
) -> Result<(), KernelError> {
    let array = ebpf.map(map).and_then(descriptor).ok_or(KernelError::Missing { name: map })?;
    syscall::set_program(array, slot, program)
        .map_err(|source| KernelError::Map { map: map.to_owned(), source })
}

/// A duplicate of a program's descriptor.
pub(super) fn owned_fd(
    fd: Result<&ProgramFd, ProgramError>,
    name: &'static str,
) -> Result<OwnedFd, KernelError> {
    fd.and_then(|fd| fd.as_fd().try_clone_to_owned().map_err(ProgramError::IOError))
        .map_err(|error| program_failed(name, error))
}
