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
    hold::{Programs, Way},
    object::{Failed, PACE, Program, program_failed, tracepoint, uprobe},
    syscall::{bpf, new_fd, number},
};

/// `BPF_OBJ_GET_INFO_BY_FD`.
const GET_INFO: c_long = 15;
/// `BPF_ENABLE_STATS`, whose argument 0 is `BPF_STATS_RUN_TIME`.
const ENABLE_STATS: c_long = 32;
/// Where `struct bpf_prog_info` has `run_time_ns`, in words of 64 bits.
const RUN_TIME: usize = 24;

/// The member of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoAttributes {
    fd: u32,
    length: u32,
    info: u64,
}

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
            run_time(fd).map_err(|source| Failed::Program {
                program: "at functions".to_owned(),
                verifier: String::new(),
                source,
            })
        };
        match &self.way {
            Way::Multi(multi) => return multi.programs().map(read).sum(),
            Way::Older(older) => return older.programs().map(read).sum(),
            Way::One | Way::Touch(..) => {}
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
        let (name, point) = PACE;
        let program = tracepoint(&mut self.ebpf, name)?;
        program
            .attach(point)
            .and_then(|id| program.take_link(id))
            .map(Calls)
            .map_err(|error| program_failed(name, error))
    }
}

fn run_time(program: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = [0_u64; RUN_TIME + 1];
    let mut attributes = InfoAttributes {
        fd: number(program),
        length: u32::try_from(size_of_val(&info)).map_err(io::Error::other)?,
        info: info.as_mut_ptr() as u64,
    };
    bpf(GET_INFO, &mut attributes)?;
    Ok(info.get(RUN_TIME).copied().unwrap_or(0))
}
