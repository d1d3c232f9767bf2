//! Multi-point links: attach a program to many points at once, and detach it from all of them at once.
//!
//! Removing the probes of perf events takes 0.1 s each, one after the other. A multi-point link releases all its
//! points within milliseconds, and then waits once (46 ms here). Linux has such links since 6.6; aya 0.14
//! does not support them, so their programs are loaded here, after aya has created the maps.
//! Source: `bpf_uprobe_multi_link_attach` in Linux' `kernel/trace/bpf_trace.c`.

use std::{
    collections::BTreeMap,
    ffi::{CString, c_long},
    io,
    num::NonZeroU32,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::Ebpf;
use aya_obj::copy_instructions;

use super::{
    code::{Code, KPROBE, load_program},
    failed::KernelError,
    program::Point,
    syscall::{new_fd, number},
};

/// `BPF_LINK_CREATE`.
const LINK_CREATE: c_long = 28;
/// `BPF_TRACE_UPROBE_MULTI`.
const UPROBE_MULTI: u32 = 48;
/// `BPF_F_UPROBE_MULTI_RETURN`.
const RETURN: u32 = 1;
/// `r0 = 0; exit`.
const NOTHING: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/// The member of `union bpf_attr` for `BPF_LINK_CREATE` with `uprobe_multi`.
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

/// The programs of this run, loaded for multi-point links, by name.
pub(super) struct Multi(BTreeMap<&'static str, OwnedFd>);

impl Multi {
    /// Loads the programs `names` of the object in `bytes`, with the maps that `ebpf` has created from it.
    /// `None` on kernels without such links, or whose links cover only one thread of a process.
    pub(super) fn load(
        ebpf: &Ebpf,
        bytes: &[u8],
        names: impl Iterator<Item = &'static str>,
    ) -> Result<Option<Self>, KernelError> {
        if !is_supported() {
            return Ok(None);
        }
        let code = Code::new(ebpf, bytes)?;
        let programs = names.map(|name| {
            let instructions = code.instructions(name)?;
            Ok((name, load_program(name, KPROBE, UPROBE_MULTI, instructions)?))
        });
        programs.collect::<Result<_, KernelError>>().map(|programs| Some(Self(programs)))
    }

    /// The program with this name.
    pub(super) fn program(&self, name: &'static str) -> Result<BorrowedFd<'_>, KernelError> {
        self.0.get(name).map(|fd| fd.as_fd()).ok_or(KernelError::Missing { name })
    }

    /// All programs.
    pub(super) fn programs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.values().map(|fd| fd.as_fd())
    }

    /// Attaches the program `name` to all of `points` of the file `path` or to none; if `at_return` is set, at the
    /// returns of the functions that start there. For the process `pid`, or for every process that maps the file.
    pub(super) fn link(
        &self,
        name: &'static str,
        at_return: bool,
        pid: Option<NonZeroU32>,
        path: &Path,
        points: &[Point],
    ) -> Result<OwnedFd, KernelError> {
        let offsets: Vec<u64> = points.iter().map(|point| point.offset).collect();
        let cookies: Vec<u64> = points.iter().map(|point| point.cookie.0).collect();
        let flags = if at_return { RETURN } else { 0 };
        let pid = pid.map_or(0, NonZeroU32::get);
        link(self.program(name)?, path, pid, flags, &offsets, &cookies).map_err(|source| {
            KernelError::Program { program: name.to_owned(), verifier: String::new(), source }
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

/// Whether this kernel has such links and their pid filter works. The first kernels with such links let only the thread
/// with the given id through; fixed kernels refuse a negative id before they look at the path.
fn is_supported() -> bool {
    let Ok(nothing) = copy_instructions(&NOTHING) else { return false };
    let Ok(program) = load_program("leaktrace_try", KPROBE, UPROBE_MULTI, &nothing) else {
        return false;
    };
    let attempt = |pid: u32| {
        let result = link(program.as_fd(), Path::new("/"), pid, 0, &[0], &[0]);
        result.err().and_then(|error| error.raw_os_error())
    };
    attempt(0) == Some(libc::EBADF) && attempt(u32::MAX) == Some(libc::EINVAL)
}
