//! Programs for kernels that have no attach cookies (before Linux 5.15).
//!
//! There a program is loaded once for each cookie, which stands in its code: a hit need not be told apart by where it was,
//! so nothing has to be kept right when targets fork, execute or load. A function's programs are loaded when it is
//! probed first.

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
    helper_fallbacks::{
        self, GET_ATTACH_COOKIE, GET_CURRENT_TASK, GET_CURRENT_TASK_BTF, Stack, TASK_PT_REGS,
    },
    links::Point,
    object::Failed,
};

/// The programs at functions, as they are needed.
pub(super) struct OldKernelProbes {
    code: Code,
    /// By name, and by the cookie in their code.
    loaded: BTreeMap<(&'static str, u64), OwnedFd>,
}

/// Whether the kernel has attach cookies, and with them (since the same release) tells programs a task's registers.
pub(super) fn has_cookies() -> bool {
    load_program("leaktrace_try", KPROBE, 0, &helper_fallbacks::asking(GET_ATTACH_COOKIE)).is_ok()
}

/// Maps counted towards the limit of locked memory until Linux 5.11.
pub(super) fn lift_memory_limit() {
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        log::info!("the limit of locked memory stays as it is: {error}");
    }
}

impl OldKernelProbes {
    /// None loaded yet, of the object in `bytes`, with the maps that `ebpf` has made from it.
    pub(super) fn new(ebpf: &Ebpf, bytes: &[u8]) -> Result<Self, Failed> {
        Ok(Self { code: Code::new(ebpf, bytes)?, loaded: BTreeMap::new() })
    }

    /// The program with this name that is told this cookie.
    pub(super) fn program(
        &mut self,
        name: &'static str,
        cookie: Cookie,
    ) -> Result<BorrowedFd<'_>, Failed> {
        let instructions = self.code.instructions(name)?;
        let asks = helper_fallbacks::has_call(instructions, GET_ATTACH_COOKIE);
        let cookie = if asks { cookie.0 } else { 0 };
        let program = match self.loaded.entry((name, cookie)) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(free) => {
                let mut instructions = instructions.to_vec();
                let answer = helper_fallbacks::returning(cookie);
                helper_fallbacks::replace_by_function(
                    &mut instructions,
                    GET_ATTACH_COOKIE,
                    &answer,
                );
                free.insert(load_program(name, KPROBE, 0, &instructions)?)
            }
        };
        Ok((*program).as_fd())
    }

    /// All that are loaded.
    pub(super) fn programs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.loaded.values().map(|fd| fd.as_fd())
    }

    /// Puts a program on one point, until what is returned is closed.
    pub(super) fn attach(
        &mut self,
        name: &'static str,
        at_return: bool,
        pid: Option<NonZeroU32>,
        path: &Path,
        point: &Point,
    ) -> Result<OwnedFd, Failed> {
        let program = self.program(name, point.cookie)?;
        event::at_function(program, at_return, pid, path, point.offset).map_err(|source| {
            Failed::Program { program: name.to_owned(), verifier: String::new(), source }
        })
    }
}

/// A program at page faults that finds a thread's registers by itself.
pub(super) fn at_page_faults(
    code: &Code,
    name: &'static str,
    stack: Stack,
) -> Result<OwnedFd, Failed> {
    let mut instructions = code.instructions(name)?.to_vec();
    helper_fallbacks::replace_by_helper(&mut instructions, GET_CURRENT_TASK_BTF, GET_CURRENT_TASK);
    let answer = helper_fallbacks::task_registers(stack);
    helper_fallbacks::replace_by_function(&mut instructions, TASK_PT_REGS, &answer);
    load_program(name, PERF_EVENT, 0, &instructions)
}
