//! What the programs cost, and how fast targets work.
//!
//! The kernel counts the time that programs take while somebody asks for it (`BPF_ENABLE_STATS`, Linux 5.8). That costs
//! each run some tens of nanoseconds, so it is asked for with a budget only.

use std::{
    ffi::c_long,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::programs::raw_trace_point::RawTracePointLink;

use super::{
    links::{AttachBackend, Programs},
    missed_runs::Counted,
    object::{Failed, SYSCALLS, program_failed, tracepoint, uprobe},
    program::Program,
    syscall::new_fd,
};

/// `BPF_ENABLE_STATS`, whose argument 0 is `BPF_STATS_RUN_TIME`.
const ENABLE_STATS: c_long = 32;

/// The kernel counts the time of all programs until this is dropped.
pub struct Statistics(#[expect(dead_code, reason = "held, and closed")] OwnedFd);

/// System calls of targets are counted until this is dropped.
pub struct Calls(#[expect(dead_code, reason = "held, and detached")] RawTracePointLink);

impl Programs {
    /// Has the kernel count the time that programs take.
    pub fn count_time() -> io::Result<Statistics> {
        let mut kind = 0_u32;
        new_fd(ENABLE_STATS, &mut kind).map(Statistics)
    }

    /// Time that the programs at functions have taken while it was counted, in nanoseconds.
    pub fn time_ns(&mut self) -> Result<u64, Failed> {
        let read = |fd: BorrowedFd<'_>| {
            Counted::Time.of(fd).map_err(|source| Failed::Program {
                program: "at functions".to_owned(),
                verifier: String::new(),
                source,
            })
        };
        match &self.way {
            AttachBackend::Multi(multi) => return multi.programs().map(read).sum(),
            AttachBackend::OldKernelProbes(older) => return older.programs().map(read).sum(),
            AttachBackend::One | AttachBackend::Touch(..) => {}
        }
        let mut sum = 0;
        for name in Program::ALL.map(Program::name) {
            let fd = uprobe(&mut self.ebpf, name)?.fd();
            sum += read(fd.map_err(|error| program_failed(name, error))?.as_fd())?;
        }
        Ok(sum)
    }

    /// Has the system calls of targets counted.
    pub fn count_calls(&mut self) -> Result<Calls, Failed> {
        let (name, point) = SYSCALLS;
        let program = tracepoint(&mut self.ebpf, name)?;
        program
            .attach(point)
            .and_then(|id| program.take_link(id))
            .map(Calls)
            .map_err(|error| program_failed(name, error))
    }
}
