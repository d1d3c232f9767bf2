//! What the kernel counts of each program: the time that it takes, and runs that were left out.
//!
//! A program at a tracepoint is left out where a run of it has been interrupted on the same processor (Linux 6.1). One at
//! a function or an event of the kernel's is left out where another program has been, or a map operation; that is counted since
//! Linux 6.7. Which process it was about is not known: the count is of all.

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

/// What is counted, by its place in `struct bpf_prog_info` in words of 64 bits.
#[derive(Clone, Copy)]
pub(super) enum Counted {
    /// `run_time_ns`.
    Time = 24,
    /// `recursion_misses`.
    Skipped = 26,
}

impl Counted {
    /// Of one program, since it was loaded. 0 on a kernel that does not count it.
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

/// A program, and what it is called.
pub(super) type Named = (String, OwnedFd);

/// Runs of it that are left out cost nothing but the moment at which a connection ceased to be established: its state is
/// looked at once more when it is closed. And they are frequent: it meets the connections of all processes, and an interrupt
/// that brings in the next change while it runs is not waited for (`docs/decisions/0009-descriptors.md`).
const HARMLESS: &str = "state_changes";

/// The programs whose runs may be left out.
pub(super) struct MissedRuns {
    /// How many of each were when last asked.
    programs: Vec<(Named, Cell<u64>)>,
    /// How many of all were when recording was turned off; `None` while it is on.
    at_off: Option<u64>,
    /// Runs that were left out while it was off.
    ignored: u64,
}

impl MissedRuns {
    /// All that `ebpf` has loaded, and `others`.
    pub(super) fn new(ebpf: &Ebpf, others: Vec<Named>) -> io::Result<Self> {
        let mut programs = others;
        for (name, program) in ebpf.programs().filter(|(name, _)| *name != HARMLESS) {
            // The others were not wanted.
            if let Ok(fd) = program.fd() {
                programs.push((name.to_owned(), fd.as_fd().try_clone_to_owned()?));
            }
        }
        let programs = programs.into_iter().map(|program| (program, Cell::new(0))).collect();
        Ok(Self { programs, at_off: Some(0), ignored: 0 })
    }

    /// Recording is about to be turned on or off.
    pub(super) fn switch(&mut self, on: bool) {
        let now = self.all();
        match self.at_off {
            Some(before) if on => {
                self.ignored += now - before.min(now);
                self.at_off = None;
            }
            None if !on => self.at_off = Some(now),
            _ => {}
        }
    }

    /// Runs that were left out while recording was on.
    pub(super) fn skipped(&self) -> u64 {
        self.at_off.unwrap_or_else(|| self.all()).saturating_sub(self.ignored)
    }

    /// Runs that were left out since the programs were loaded.
    fn all(&self) -> u64 {
        let mut sum = 0_u64;
        for ((name, program), before) in &self.programs {
            // The kernel knows all that we hold.
            let count = Counted::Skipped.of(program.as_fd()).unwrap_or(0);
            if before.replace(count) != count {
                log::info!("{count} runs of the program `{name}` were left out");
            }
            sum = sum.saturating_add(count);
        }
        sum
    }
}
