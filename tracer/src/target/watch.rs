//! Waits for the end of a process that is not our child.
//!
//! Takes a process id, passes on a descriptor that becomes readable at the process's end. Needs no polling, and
//! cannot confuse the process with a later one of the same id. Does not pass on the exit status, which only the
//! parent gets.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{PidfdFlags, pidfd_open},
};

use super::{Pid, TargetError};

/// Waits for the end of one process. Its descriptor is readable from then on, so that an event loop
/// can wait for it (`tokio::io::unix::AsyncFd` takes it as it is).
#[derive(Debug)]
pub struct Watch {
    pidfd: OwnedFd,
}

impl Watch {
    /// Watches the process that has this id now.
    pub fn new(pid: Pid) -> Result<Self, TargetError> {
        let raw = pid.raw().and_then(rustix::process::Pid::from_raw);
        let raw = raw.ok_or(TargetError::NoSuchProcess(pid))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())
            .map_err(|error| TargetError::reading(pid, "the pidfd", error.into()))?;
        Ok(Self { pidfd })
    }

    /// Whether it has ended; does not wait. A zombie has ended.
    pub fn ended(&self) -> bool {
        // An error of `poll` itself means nothing for the process; the caller asks again later.
        self.poll(Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Waits for its end, for callers without an event loop.
    pub fn wait(&self) -> io::Result<()> {
        loop {
            match self.poll(None) {
                Err(rustix::io::Errno::INTR) | Ok(0) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn poll(&self, limit: Option<&Timespec>) -> rustix::io::Result<usize> {
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], limit)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{super::Pid, Watch};

    #[test]
    fn the_end_of_a_process_is_seen_and_stays_seen() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let watch = Watch::new(Pid(child.id())).unwrap();
        assert!(!watch.ended());
        drop(child.stdin.take());
        watch.wait().unwrap();
        assert!(watch.ended());
        child.wait().unwrap();
        // From here on the kernel may reuse the id; the answer does not change.
        assert!(watch.ended());
    }

    #[test]
    fn a_process_that_does_not_exist_cannot_be_watched() {
        let error = Watch::new(Pid(u32::MAX)).unwrap_err();
        assert_eq!(error.to_string(), "could not find process 4294967295: no such process");
    }
}
