//! The thread that ptraces a launched command; the counterpart of [`super::launch`].
//!
//! Takes a prepared command and requests, passes on events. All code here runs on the one thread that
//! has seized the process; it sleeps in the kernel until the command stops.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    time::{Duration, Instant},
};

use super::{
    Pid, TargetError,
    command::Prepared,
    mappings::{self, Mappings},
    ptrace::{Resume, Stop, SyscallEntry, Tracee},
};

/// Syscall stops after which we give up waiting for `ready`: a dynamic loader makes some tens per library.
const MAX_STOPS: usize = 5_000;

/// How long the command waits at its end for [`Launched::let_exit`]: a final drain takes far less, and an
/// unresponsive leaktrace must not hold the command for longer.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A request to the thread.
pub(super) enum Request {
    /// Resume the stopped command.
    Resume,
    /// Let the exiting command exit.
    LetExit,
    /// Detach from the command.
    Detach,
}

/// What happens to the command after [`super::launch::Launched::resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has executed a new program (`exec`): all its mappings are new.
    Executed,
    /// It is about to exit, and its memory map can still be read: it waits for
    /// [`super::launch::Launched::let_exit`], at most two seconds. (Also if its first thread exits before the
    /// others, which is rare: [`Event::Exited`] then comes much later.)
    Exiting,
    /// It has ended.
    Exited {
        /// Its exit status, unless a signal killed it.
        status: Option<i32>,
        /// The signal that killed it.
        signal: Option<i32>,
    },
}

/// A stopped or running command, and the handler of its events.
pub(super) struct Tracer<F> {
    tracee: Tracee,
    requests: Receiver<Request>,
    on_event: F,
    detaching: bool,
}

impl<F: FnMut(Event)> Tracer<F> {
    /// A tracer of the process that this thread has just started.
    pub(super) const fn new(tracee: Tracee, requests: Receiver<Request>, on_event: F) -> Self {
        Self { tracee, requests, on_event, detaching: false }
    }

    /// Runs the program from system call to system call until `ready` returns true. Returns the last stop, and whether
    /// `ready` returned true.
    pub(super) fn hold(
        &self,
        pid: Pid,
        ready: &mut impl FnMut(&Mappings) -> bool,
    ) -> io::Result<(Stop, bool)> {
        let mut is_ready = || mappings::read(pid).is_ok_and(|mapped| ready(&mapped));
        let mut stop = Stop::Exec;
        let mut entry: Option<SyscallEntry> = None;
        for _ in 0..MAX_STOPS {
            match stop {
                Stop::Exec if is_ready() => return Ok((stop, true)),
                Stop::Syscall => match self.tracee.syscall_entry() {
                    None if entry.take().is_some_and(maps_code) && is_ready() => {
                        return Ok((stop, true));
                    }
                    now => entry = now,
                },
                Stop::Exiting | Stop::Exited(_) | Stop::Killed(_) => return Ok((stop, false)),
                _ => {}
            }
            let (how, signal) = resume_from(stop, Resume::ToSyscall);
            self.tracee.resume(how, signal)?;
            stop = self.wait()?;
        }
        Ok((stop, false))
    }

    /// Handles requests and events from the first stop to the command's end.
    pub(super) fn run(&mut self, held: Stop) {
        loop {
            match self.requests.recv() {
                Ok(Request::Resume) => break,
                Ok(Request::LetExit) => {}
                Ok(Request::Detach) | Err(_) => {
                    self.detaching = true;
                    break;
                }
            }
        }
        if let Err(error) = self.follow(held) {
            log::warn!("could not follow the command to its end: {error}");
            (self.on_event)(Event::Exited { status: None, signal: None });
        }
    }

    fn follow(&mut self, held: Stop) -> io::Result<()> {
        let mut stop = held;
        // The exec that starts the command itself is not an event.
        let mut may_be_ours = true;
        loop {
            match stop {
                _ if self.detaching => {}
                Stop::Exec if may_be_ours => {}
                Stop::Exited(status) => {
                    (self.on_event)(Event::Exited { status: Some(status), signal: None });
                }
                Stop::Killed(signal) => {
                    (self.on_event)(Event::Exited { status: None, signal: Some(signal) });
                }
                Stop::Exec => (self.on_event)(Event::Executed),
                Stop::Exiting => {
                    (self.on_event)(Event::Exiting);
                    self.await_let_exit();
                }
                _ => {}
            }
            if matches!(stop, Stop::Exited(_) | Stop::Killed(_)) {
                return Ok(());
            }
            let (how, signal) = resume_from(stop, Resume::Run);
            if self.detaching {
                return self.tracee.resume(Resume::Detach, signal);
            }
            self.tracee.resume(how, signal)?;
            may_be_ours = false;
            stop = self.wait_or_detach()?;
        }
    }

    /// The next stop; a request to detach causes one.
    fn wait_or_detach(&mut self) -> io::Result<Stop> {
        loop {
            match self.tracee.wait() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    let detach = loop {
                        match self.requests.try_recv() {
                            Ok(Request::Detach) | Err(TryRecvError::Disconnected) => break true,
                            Ok(_) => {}
                            Err(TryRecvError::Empty) => break false,
                        }
                    };
                    if detach && !self.detaching {
                        self.detaching = true;
                        self.tracee.interrupt()?;
                    }
                }
                other => return other,
            }
        }
    }

    /// The next stop; ignores signals to this thread.
    fn wait(&self) -> io::Result<Stop> {
        loop {
            match self.tracee.wait() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn await_let_exit(&mut self) {
        let deadline = Instant::now() + EXIT_TIMEOUT;
        loop {
            match self.requests.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Request::LetExit) | Err(RecvTimeoutError::Timeout) => return,
                Ok(Request::Resume) => {}
                Ok(Request::Detach) | Err(RecvTimeoutError::Disconnected) => {
                    self.detaching = true;
                    return;
                }
            }
        }
    }
}

/// Forks the command and waits until its program is loaded.
pub(super) fn run_program(command: &Prepared) -> Result<(Tracee, Pid), TargetError> {
    let failed =
        |step| move |source| TargetError::Launch { command: command.typed(), step, source };
    let waiting = command.fork().map_err(failed("fork a process"))?;
    let raw = waiting.pid;
    let pid = Pid(raw.unsigned_abs());
    let tracee = match Tracee::seize(raw) {
        Ok(tracee) => tracee,
        Err(error) => {
            // The child exits when its pipe closes; the program has not run.
            drop(waiting);
            // SAFETY: waits for our own child; a null status pointer is allowed.
            unsafe { libc::waitpid(raw, std::ptr::null_mut(), libc::__WALL) };
            return Err(failed("trace the new process")(error));
        }
    };
    let exec_error = waiting.run().map_err(failed("run the new process"))?;
    loop {
        let stop = match tracee.wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(failed("wait for the new process"))?,
        };
        match stop {
            Stop::Exec => return Ok((tracee, pid)),
            Stop::Exited(_) | Stop::Killed(_) => {
                let unknown = || io::Error::other("the program was killed while it was loaded");
                return Err(command.refused(exec_error.read().unwrap_or_else(unknown)));
            }
            _ => {}
        }
        let (how, signal) = resume_from(stop, Resume::Run);
        tracee.resume(how, signal).map_err(failed("run the new process"))?;
    }
}

/// How to resume from a stop: delivers signals, and leaves a process stopped by job control stopped.
const fn resume_from(stop: Stop, run: Resume) -> (Resume, i32) {
    match stop {
        Stop::Signal(signal) => (run, signal),
        Stop::Group => (Resume::Listen, 0),
        _ => (run, 0),
    }
}

/// Whether the call may add executable memory: `mmap` and `mprotect` both take the protection as third argument.
fn maps_code(call: SyscallEntry) -> bool {
    let maps = [libc::SYS_mmap, libc::SYS_mprotect].map(i64::cast_unsigned);
    maps.contains(&call.number) && call.third & u64::from(libc::PROT_EXEC.unsigned_abs()) != 0
}
