//! Links that put a program on many attach points at once, and take all of them out at once.
//!
//! A probe of the older way (a perf event) is taken out in 0.1 s, one after the other. A link of this
//! kind lets go of all its points within milliseconds, and then waits once (46 ms here). Linux has
//! them since 6.6; aya 0.14 does not know them, so the programs meant for them are loaded here, after
//! aya has made the maps. Source: `bpf_uprobe_multi_link_attach` in Linux' `kernel/trace/bpf_trace.c`.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::{CString, c_long},
    io,
    num::NonZeroU32,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::{Ebpf, maps::Map};
use aya_obj::{Object, copy_instructions, generated::bpf_insn};

use super::{
    hold::Point,
    object::Failed,
    syscall::{new_fd, number},
};

/// `BPF_PROG_LOAD`.
const PROG_LOAD: c_long = 5;
/// `BPF_LINK_CREATE`.
const LINK_CREATE: c_long = 28;
/// `BPF_PROG_TYPE_KPROBE`: all programs at uprobes are of this type.
const KPROBE: u32 = 2;
/// `BPF_TRACE_UPROBE_MULTI`.
const UPROBE_MULTI: u32 = 48;
/// `BPF_F_UPROBE_MULTI_RETURN`.
const RETURN: u32 = 1;
/// `r0 = 0; exit`.
const NOTHING: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
/// Room for what the verifier says when it refuses a program, in bytes.
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

/// The member for `BPF_LINK_CREATE` with `uprobe_multi`.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    counters: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    pid: u32,
    padding: u32,
}

/// The programs of this run, as links take them, by name.
pub(super) struct Multi(BTreeMap<&'static str, OwnedFd>);

impl Multi {
    /// Loads the programs called `names` of the object in `bytes`, with the maps that `ebpf` has made from it.
    /// `None` on kernels that do not have such links, or whose links see one thread of a process only.
    pub(super) fn load(
        ebpf: &Ebpf,
        bytes: &[u8],
        names: impl Iterator<Item = &'static str>,
    ) -> Result<Option<Self>, Failed> {
        if !is_supported() {
            return Ok(None);
        }
        let object = relocated(ebpf, bytes)?;
        let programs = names.map(|name| {
            let program = object.programs.get(name).ok_or(Failed::Missing { name })?;
            let function = object.functions.get(&program.function_key());
            let function = function.ok_or(Failed::Missing { name })?;
            Ok((name, load_program(name, &function.instructions, &program.license)?))
        });
        programs.collect::<Result<_, Failed>>().map(|programs| Some(Self(programs)))
    }

    /// The program with this name.
    pub(super) fn program(&self, name: &'static str) -> Result<BorrowedFd<'_>, Failed> {
        self.0.get(name).map(|fd| fd.as_fd()).ok_or(Failed::Missing { name })
    }

    /// All of them.
    pub(super) fn programs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.values().map(|fd| fd.as_fd())
    }

    /// Puts the program `name` on all of `points` of the file `path`, or on none: at the return from the
    /// function that begins there if `at_return` says so. For the process `pid`, or every process that maps the
    /// file.
    pub(super) fn link(
        &self,
        name: &'static str,
        at_return: bool,
        pid: Option<NonZeroU32>,
        path: &Path,
        points: &[Point],
    ) -> Result<OwnedFd, Failed> {
        let offsets: Vec<u64> = points.iter().map(|point| point.offset).collect();
        let cookies: Vec<u64> = points.iter().map(|point| point.cookie.0).collect();
        let flags = if at_return { RETURN } else { 0 };
        let pid = pid.map_or(0, NonZeroU32::get);
        link(self.program(name)?, path, pid, flags, &offsets, &cookies).map_err(|source| {
            Failed::Program { program: name.to_owned(), verifier: String::new(), source }
        })
    }
}

fn link(
    program: BorrowedFd<'_>,
    path: &Path,
    pid: u32,
    multi_flags: u32,
    offsets: &[u64],
    cookies: &[u64],
) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = LinkAttributes {
        program: number(program),
        target: 0,
        attach_type: UPROBE_MULTI,
        flags: 0,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        counters: 0,
        cookies: cookies.as_ptr() as u64,
        count: u32::try_from(offsets.len()).map_err(io::Error::other)?,
        multi_flags,
        pid,
        padding: 0,
    };
    new_fd(LINK_CREATE, &mut attributes)
}

/// Whether this kernel has such links. They began with a filter that let only the thread through whose
/// id was given; kernels where that is mended refuse an id below zero before they look at the path.
fn is_supported() -> bool {
    let Ok(nothing) = copy_instructions(&NOTHING) else { return false };
    let Ok(program) = load_program("leaktrace_try", &nothing, c"GPL") else { return false };
    let attempt = |pid: u32| {
        let outcome = link(program.as_fd(), Path::new("/"), pid, 0, &[0], &[0]);
        outcome.err().and_then(|error| error.raw_os_error())
    };
    attempt(0) == Some(libc::EBADF) && attempt(u32::MAX) == Some(libc::EINVAL)
}

/// The object's code with the maps filled in.
fn relocated(ebpf: &Ebpf, bytes: &[u8]) -> Result<Object, Failed> {
    let unreadable = |error: &dyn std::fmt::Display| Failed::Unreadable { why: error.to_string() };
    let mut object = Object::parse(bytes).map_err(|error| unreadable(&error))?;
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let maps: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
    // A map that nothing can be done with here is left out, and missed when a program wants it.
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

/// Loads one program; if it is refused, once more for the reason.
fn load_program(
    name: &str,
    instructions: &[bpf_insn],
    license: &std::ffi::CStr,
) -> Result<OwnedFd, Failed> {
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let attempt = |log: &mut [u8]| {
        let mut attributes = LoadAttributes {
            kind: KPROBE,
            count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
            instructions: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: u32::from(!log.is_empty()),
            log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
            log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
            kernel_version: 0,
            flags: 0,
            name: short,
            interface: 0,
            attach_type: UPROBE_MULTI,
        };
        new_fd(PROG_LOAD, &mut attributes)
    };
    attempt(&mut []).or_else(|_| {
        let mut log = vec![0; VERIFIER_LOG];
        attempt(&mut log).map_err(|source| {
            let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
            let verifier = String::from_utf8_lossy(said).into_owned();
            Failed::Program { program: name.to_owned(), verifier, source }
        })
    })
}
