//! The run time of the programs, and the system-call rate of the targets.
//!
//! The kernel counts the run time of programs while a process enables it (`BPF_ENABLE_STATS`, Linux 5.8). That costs
//! each run some tens of nanoseconds, so only runs with an overhead budget enable it.

use std::{
    ffi::c_long,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::programs::raw_trace_point::RawTracePointLink;

use super::{
    failed::{KernelError, program_failed},
    links::{AttachBackend, Programs},
    lookup::{tracepoint, uprobe},
    missed_runs::ProgramStat,
    object::SYSCALLS,
    program::Program,
    syscall::new_fd,
};

/// `BPF_ENABLE_STATS`, whose argument 0 is `BPF_STATS_RUN_TIME`.
const ENABLE_STATS: c_long = 32;

/// The kernel counts the run time of all programs until this is dropped.
pub struct Statistics(#[expect(dead_code, reason = "held, and closed on drop")] OwnedFd);

/// The programs count the system calls of targets until this is dropped.
pub struct Calls(#[expect(dead_code, reason = "held, and detached on drop")] RawTracePointLink);

impl Programs {
    /// Makes the kernel count the run time of programs.
    pub fn count_run_time() -> io::Result<Statistics> {
        let mut kind = 0_u32;
        new_fd(ENABLE_STATS, &mut kind).map(Statistics)
    }

    /// Total run time of the programs attached to functions, in nanoseconds, for the periods in which it was counted.
    pub fn time_ns(&mut self) -> Result<u64, KernelError> {
        let read = |fd: BorrowedFd<'_>| {
            ProgramStat::RunTime.of(fd).map_err(|source| KernelError::Program {
                program: "at functions".to_owned(),
                verifier: String::new(),
                source,
            })
        };
        match &self.attach_backend {
            AttachBackend::Multi(multi) => return multi.programs().map(read).sum(),
            AttachBackend::OldKernelProbes(probes) => return probes.programs().map(read).sum(),
            AttachBackend::Single | AttachBackend::Touch(..) => {}
        }
        let mut sum = 0;
        for name in Program::ALL.map(Program::name) {
            let fd = uprobe(&mut self.ebpf, name)?.fd();
            sum += read(fd.map_err(|error| program_failed(name, error))?.as_fd())?;
        }
        Ok(sum)
    }

    /// Makes the programs count the system calls of targets.
    pub fn count_syscalls(&mut self) -> Result<Calls, KernelError> {
        let (name, point) = SYSCALLS;
        let program = tracepoint(&mut self.ebpf, name)?;
        program
            .attach(point)
            .and_then(|id| program.take_link(id))
            .map(Calls)
            .map_err(|error| program_failed(name, error))
    }
}
