//! Programs for kernels that have no attach cookies (before Linux 5.15).
//!
//! Loads a program once for each cookie, with the cookie as a constant in its code. A hit then needs no lookup by
//! address, so nothing has to be updated when targets fork, exec or load libraries. The programs of a function are
//! loaded when it is first probed.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    num::NonZeroU32,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::Ebpf;
use rustix::process::{Resource, Rlimit, setrlimit};
use tracer_common::attach::Cookie;

use super::{
    code::{Code, KPROBE, PERF_EVENT, load_program},
    event,
    failed::KernelError,
    helper_fallbacks::{
        self, GET_ATTACH_COOKIE, GET_CURRENT_TASK, GET_CURRENT_TASK_BTF, Stack, TASK_PT_REGS,
    },
    program::Point,
};

/// The programs attached to functions, loaded on demand.
pub(super) struct OldKernelProbes {
    code: Code,
    /// By name and by the cookie in their code.
    loaded: BTreeMap<(&'static str, u64), OwnedFd>,
}

/// Whether the kernel has attach cookies, and with them (since the same release) `bpf_task_pt_regs`.
pub(super) fn has_cookies() -> bool {
    load_program("leaktrace_try", KPROBE, 0, &helper_fallbacks::calling(GET_ATTACH_COOKIE)).is_ok()
}

/// Raises `RLIMIT_MEMLOCK`: until Linux 5.11, maps counted toward the limit of locked memory.
pub(super) fn lift_memory_limit() {
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        log::info!("could not raise the limit of locked memory: {error}");
    }
}

impl OldKernelProbes {
    /// Loads nothing yet. `bytes` is the object; `ebpf` has created its maps.
    pub(super) fn new(ebpf: &Ebpf, bytes: &[u8]) -> Result<Self, KernelError> {
        Ok(Self { code: Code::new(ebpf, bytes)?, loaded: BTreeMap::new() })
    }

    /// The program with this name and this cookie; loads it if necessary.
    pub(super) fn program(
        &mut self,
        name: &'static str,
        cookie: Cookie,
    ) -> Result<BorrowedFd<'_>, KernelError> {
        let instructions = self.code.instructions(name)?;
        let reads_cookie = helper_fallbacks::has_call(instructions, GET_ATTACH_COOKIE);
        let cookie = if reads_cookie { cookie.0 } else { 0 };
        let program = match self.loaded.entry((name, cookie)) {
            Entry::Occupied(loaded) => loaded.into_mut(),
            Entry::Vacant(vacant) => {
                let mut instructions = instructions.to_vec();
                let function = helper_fallbacks::returning(cookie);
                helper_fallbacks::replace_by_function(
                    &mut instructions,
                    GET_ATTACH_COOKIE,
                    &function,
                );
                vacant.insert(load_program(name, KPROBE, 0, &instructions)?)
            }
        };
        Ok((*program).as_fd())
    }

    /// All loaded programs.
    pub(super) fn programs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.loaded.values().map(|fd| fd.as_fd())
    }

    /// Attaches a program to one point, until the returned descriptor is closed.
    pub(super) fn attach(
        &mut self,
        name: &'static str,
        at_return: bool,
        pid: Option<NonZeroU32>,
        path: &Path,
        point: &Point,
    ) -> Result<OwnedFd, KernelError> {
        let program = self.program(name, point.cookie)?;
        event::at_function(program, at_return, pid, path, point.offset).map_err(|source| {
            KernelError::Program { program: name.to_owned(), verifier: String::new(), source }
        })
    }
}

/// Loads a page-fault program that finds a thread's registers in the kernel stack by itself.
pub(super) fn at_page_faults(
    code: &Code,
    name: &'static str,
    stack: Stack,
) -> Result<OwnedFd, KernelError> {
    let mut instructions = code.instructions(name)?.to_vec();
    helper_fallbacks::replace_by_helper(&mut instructions, GET_CURRENT_TASK_BTF, GET_CURRENT_TASK);
    let function = helper_fallbacks::task_registers(stack);
    helper_fallbacks::replace_by_function(&mut instructions, TASK_PT_REGS, &function);
    load_program(name, PERF_EVENT, 0, &instructions)
}
