//! Relocates the object's code against its maps, and loads single programs from it.
//!
//! For what aya 0.14 does not support: programs for multi-point links, and programs with helper fallbacks. Takes the
//! object and the maps that aya has created from it, passes on programs.

use std::{
    collections::HashSet,
    ffi::{CStr, c_long},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya::{Ebpf, maps::Map};
use aya_obj::{Object, generated::bpf_insn};

use super::{failed::KernelError, syscall::new_fd};

/// `BPF_PROG_LOAD`.
const PROG_LOAD: c_long = 5;
/// `BPF_PROG_TYPE_KPROBE`: all programs at uprobes are of this type.
pub(super) const KPROBE: u32 = 2;
/// `BPF_PROG_TYPE_TRACEPOINT`: programs of perf events at tracepoints.
pub(super) const TRACEPOINT: u32 = 5;
/// `BPF_PROG_TYPE_PERF_EVENT`.
pub(super) const PERF_EVENT: u32 = 7;
/// The license of the kernel programs: several helpers require a GPL-compatible one.
const LICENSE: &CStr = c"Dual MIT/GPL";
/// Size of the buffer for the verifier's log, bytes.
const VERIFIER_LOG: usize = 1 << 20;

/// The member of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// The object's relocated code.
pub(super) struct Code(Object);

impl Code {
    /// The code of the object in `bytes`, with the maps that `ebpf` has created from it.
    pub(super) fn new(ebpf: &Ebpf, bytes: &[u8]) -> Result<Self, KernelError> {
        relocated(ebpf, bytes).map(Self)
    }

    /// A program, followed by the functions that it calls.
    pub(super) fn instructions(&self, name: &'static str) -> Result<&[bpf_insn], KernelError> {
        let program = self.0.programs.get(name).ok_or(KernelError::Missing { name })?;
        let function = self.0.functions.get(&program.function_key());
        Ok(&function.ok_or(KernelError::Missing { name })?.instructions)
    }
}

/// Parses the object and relocates its code against the maps.
fn relocated(ebpf: &Ebpf, bytes: &[u8]) -> Result<Object, KernelError> {
    let unreadable =
        |error: &dyn std::fmt::Display| KernelError::Unreadable { why: error.to_string() };
    let mut object = Object::parse(bytes).map_err(|error| unreadable(&error))?;
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let maps: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
    // Skips maps of unsupported types; relocation fails if a program uses one.
    let found = maps.iter().filter_map(|(name, map)| {
        let fd = descriptor(ebpf.map(name)?)?;
        Some((name.as_str(), fd.as_raw_fd(), map))
    });
    object.relocate_maps(found, &sections).map_err(|error| unreadable(&error))?;
    object.relocate_calls(&sections).map_err(|error| unreadable(&error))?;
    Ok(object)
}

/// A map's descriptor.
pub(super) fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::Queue(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}

/// Loads one program; if the kernel refuses it, tries again with the verifier's log.
pub(super) fn load_program(
    name: &str,
    kind: u32,
    attach_type: u32,
    instructions: &[bpf_insn],
) -> Result<OwnedFd, KernelError> {
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let attempt = |log: &mut [u8]| {
        let mut attributes = LoadAttributes {
            kind,
            count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
            instructions: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            log_level: u32::from(!log.is_empty()),
            log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
            log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
            kernel_version: 0,
            flags: 0,
            name: short,
            interface: 0,
            attach_type,
        };
        new_fd(PROG_LOAD, &mut attributes)
    };
    attempt(&mut []).or_else(|_| {
        let mut log = vec![0; VERIFIER_LOG];
        attempt(&mut log).map_err(|source| {
            let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
            let verifier = String::from_utf8_lossy(text).into_owned();
            KernelError::Program { program: name.to_owned(), verifier, source }
        })
    })
}
