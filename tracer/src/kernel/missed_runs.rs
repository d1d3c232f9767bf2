//! Statistics that the kernel keeps of each program: its run time, and its missed runs.
//!
//! The kernel skips a program at a tracepoint while a run of the same program is interrupted on the same CPU (Linux
//! 6.1). It skips one at a kprobe or perf event while another program or a map operation is interrupted there, and
//! counts that since Linux 6.7. The counts cover all processes: the kernel does not record which one was affected.

use std::{
    cell::Cell,
    ffi::c_long,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::Ebpf;

use super::syscall::{bpf, number};

/// `BPF_OBJ_GET_INFO_BY_FD`.
const GET_INFO: c_long = 15;

/// The member of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoAttributes {
    fd: u32,
    length: u32,
    info: u64,
}

/// A statistic of a program, by its index in `struct bpf_prog_info` in 64-bit words.
#[derive(Clone, Copy)]
pub(super) enum ProgramStat {
    /// `run_time_ns`.
    RunTime = 24,
    /// `recursion_misses`.
    Skipped = 26,
}

impl ProgramStat {
    /// Its value for one program since the program was loaded; 0 on a kernel that does not count it.
    pub(super) fn of(self, program: BorrowedFd<'_>) -> io::Result<u64> {
        let mut info = [0_u64; Self::Skipped as usize + 1];
        let mut attributes = InfoAttributes {
            fd: number(program),
            length: u32::try_from(size_of_val(&info)).map_err(io::Error::other)?,
            info: info.as_mut_ptr() as u64,
        };
        bpf(GET_INFO, &mut attributes)?;
        Ok(info.get(self as usize).copied().unwrap_or(0))
    }
}

/// A program with its name.
pub(super) type NamedProgram = (String, OwnedFd);

/// A program whose missed runs are not counted as losses. A missed run only loses the time at which a connection ceased
/// to be established: its state is read again at its close. And missed runs are frequent: the program runs for the
/// connections of all processes, and an interrupt may bring the next change during a run
/// (`docs/decisions/0009-descriptors.md`).
const HARMLESS: &str = "state_changes";

/// Counts the missed runs of the programs.
pub(super) struct MissedRuns {
    /// Each program, with its count at the last reading.
    programs: Vec<(NamedProgram, Cell<u64>)>,
    /// The total when recording was turned off; `None` while it is on.
    at_off: Option<u64>,
    /// Missed runs while recording was off.
    ignored: u64,
}

impl MissedRuns {
    /// Counts the missed runs of all programs that `ebpf` has loaded, and of `others`.
    pub(super) fn new(ebpf: &Ebpf, others: Vec<NamedProgram>) -> io::Result<Self> {
        let mut programs = others;
        for (name, program) in ebpf.programs().filter(|(name, _)| *name != HARMLESS) {
            // An error means that this run does not need the program and has not loaded it.
            if let Ok(fd) = program.fd() {
                programs.push((name.to_owned(), fd.as_fd().try_clone_to_owned()?));
            }
        }
        let programs = programs.into_iter().map(|program| (program, Cell::new(0))).collect();
        Ok(Self { programs, at_off: Some(0), ignored: 0 })
    }

    /// Call this before recording is turned on or off.
    pub(super) fn switch(&mut self, on: bool) {
        let now = self.total();
        match self.at_off {
            Some(before) if on => {
                self.ignored += now - before.min(now);
                self.at_off = None;
            }
            None if !on => self.at_off = Some(now),
            _ => {}
        }
    }

    /// Missed runs while recording was on.
    pub(super) fn skipped(&self) -> u64 {
        self.at_off.unwrap_or_else(|| self.total()).saturating_sub(self.ignored)
    }

    /// Missed runs since the programs were loaded.
    fn total(&self) -> u64 {
        let mut sum = 0_u64;
        for ((name, program), before) in &self.programs {
            // Does not fail for programs that we hold open.
            let count = ProgramStat::Skipped.of(program.as_fd()).unwrap_or(0);
            if before.replace(count) != count {
                log::info!("the kernel has skipped {count} runs of the program `{name}`");
            }
            sum = sum.saturating_add(count);
        }
        sum
    }
}
