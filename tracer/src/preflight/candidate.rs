//! Checks whether a process can be traced.
//!
//! Takes [`Roots`] and a process id, passes on a [`Candidate`] and the failure that tracing it would cause. Reads the
//! process's `/proc` entry and its mapped objects; must not attach probes.

use std::{
    fs::{self, File},
    io::Read as _,
};

use super::{Roots, text, value};
use crate::{
    error::Failure,
    probes::allocator::Surveyor,
    target::{Pid, mappings},
};

/// Facts about a process; `None` if unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub pid: u32,
    /// Path of its executable.
    pub exe: Option<String>,
    /// Its command name; kernel threads have one too.
    pub comm: Option<String>,
    /// Width of its pointers: 32 or 64.
    pub bits: Option<u8>,
    /// Whether it is a kernel thread.
    pub kernel_thread: bool,
    /// Whether it has exited but is not reaped.
    pub zombie: bool,
    /// Its parent.
    pub parent: Option<u32>,
    /// Its permitted capabilities, a bit each.
    pub capabilities: Option<u64>,
    /// Seccomp mode: 0 none, 1 strict, 2 filters.
    pub seccomp: Option<u32>,
    /// A sentence for each of its allocators; `None` if they were not searched for, or if its mappings cannot be read.
    pub allocators: Option<Vec<String>>,
    /// Whether its executable has no function symbols, as far as known.
    pub stripped: bool,
}

impl Candidate {
    /// Reads the facts.
    pub fn gather(roots: &Roots, pid: u32) -> Result<Self, Failure> {
        let entry = roots.proc.join(pid.to_string());
        let Some(status) = text(&entry.join("status")) else {
            return Err(Failure::NoSuchProcess { pid });
        };
        let exe = fs::read_link(entry.join("exe")).ok();
        let zombie = value(&status, "State").is_some_and(|state| state.starts_with(['Z', 'X']));
        Ok(Self {
            pid,
            exe: exe.map(|path| path.to_string_lossy().into_owned()),
            comm: value(&status, "Name").map(str::to_owned),
            bits: File::open(entry.join("exe")).ok().and_then(|mut file| bits(&mut file)),
            // Only a process with an address space has a `VmSize`; a zombie has none either.
            kernel_thread: !zombie && value(&status, "VmSize").is_none(),
            zombie,
            parent: value(&status, "PPid").and_then(|parent| parent.parse().ok()),
            capabilities: value(&status, "CapPrm")
                .and_then(|bits| u64::from_str_radix(bits, 16).ok()),
            seccomp: value(&status, "Seccomp").and_then(|mode| mode.parse().ok()),
            allocators: None,
            stripped: false,
        })
    }

    /// Searches for its allocators too, in the same way as tracing.
    #[must_use]
    pub fn with_allocators(self) -> Self {
        let pid = Pid(self.pid);
        let Ok(mappings) = mappings::read(pid) else { return self };
        let survey = Surveyor::default().survey(pid, &mappings);
        let sentences = survey.allocators.into_iter().map(|one| one.sentence).collect();
        Self { allocators: Some(sentences), stripped: !survey.has_symbols, ..self }
    }

    /// The first reason why it cannot be traced.
    pub fn check(&self) -> Result<(), Failure> {
        let pid = self.pid;
        if self.zombie {
            return Err(Failure::Zombie { pid, parent: self.parent.filter(|parent| *parent > 1) });
        }
        if self.kernel_thread {
            return Err(Failure::KernelThread { pid });
        }
        if self.bits == Some(32) {
            let exe = self.exe.clone().unwrap_or_else(|| "?".to_owned());
            return Err(Failure::ThirtyTwoBit { pid, exe });
        }
        if self.allocators.as_ref().is_some_and(Vec::is_empty) {
            return Err(Failure::NoAllocator { pid, stripped: self.stripped });
        }
        Ok(())
    }
}

/// Word size of an ELF file: its fifth byte is the class.
fn bits(file: &mut File) -> Option<u8> {
    let mut head = [0; 5];
    file.read_exact(&mut head).ok()?;
    match head {
        [0x7f, b'E', b'L', b'F', 1] => Some(32),
        [0x7f, b'E', b'L', b'F', 2] => Some(64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Candidate {
        Candidate {
            pid: 4121,
            exe: Some("/srv/gateway".to_owned()),
            comm: Some("gateway".to_owned()),
            bits: Some(64),
            kernel_thread: false,
            zombie: false,
            parent: Some(1),
            capabilities: Some(0),
            seccomp: Some(0),
            allocators: Some(vec!["glibc 2.36 from libc.so.6".to_owned()]),
            stripped: false,
        }
    }

    #[test]
    fn each_obstacle_is_reported() {
        assert!(good().check().is_ok());
        assert!(Candidate { allocators: None, ..good() }.check().is_ok());
        for (candidate, named) in [
            (Candidate { bits: Some(32), ..good() }, "ThirtyTwoBit"),
            (Candidate { allocators: Some(vec![]), ..good() }, "NoAllocator"),
            (Candidate { kernel_thread: true, exe: None, ..good() }, "KernelThread"),
            (Candidate { zombie: true, exe: None, ..good() }, "Zombie"),
        ] {
            let failure = format!("{:?}", candidate.check().unwrap_err());
            assert!(failure.starts_with(named), "{failure}");
        }
    }

    #[test]
    fn the_test_process_can_be_traced() {
        let own =
            Candidate::gather(&Roots::default(), std::process::id()).unwrap().with_allocators();
        assert!(own.check().is_ok(), "{own:?}");
        assert_eq!(own.bits, Some(64));
        assert!(!own.allocators.unwrap().is_empty());
    }

    #[test]
    fn an_unused_id_is_not_a_process() {
        let failure = Candidate::gather(&Roots::default(), i32::MAX.unsigned_abs()).unwrap_err();
        assert!(matches!(failure, Failure::NoSuchProcess { .. }));
    }
}
