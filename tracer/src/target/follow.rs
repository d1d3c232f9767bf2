//! The thread that traces a held command: the other side of [`super::launch`].
//!
//! Takes a prepared command and orders, hands on events. Everything here runs on the one thread that
//! has seized the process; it sleeps in the kernel until the command stops.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    time::{Duration, Instant},
};

use super::{
    Pid, TargetError,
    command::Prepared,
    launch::Event,
    mappings::{self, Mappings},
    ptrace::{Entered, Go, Stop, Tracee},
};

/// Syscall stops after which we stop asking: a dynamic loader makes some tens per library.
const STOPS_BOUND: usize = 5_000;

/// How long the command waits at its end for [`Launched::let_exit`]: a final drain takes far less,
/// and nobody should notice a leaktrace that has gone silent.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// What the thread is told.
pub(super) enum Order {
    /// Let the held command run.
    Resume,
    /// Let the ending command end.
    LetExit,
    /// Give the command back.
    Detach,
}

/// A held or running command, and who is told about it.
pub(super) struct Tracer<F> {
    tracee: Tracee,
    orders: Receiver<Order>,
    on_event: F,
    detaching: bool,
}

impl<F: FnMut(Event)> Tracer<F> {
    /// For the process that this thread has just started.
    pub(super) const fn new(tracee: Tracee, orders: Receiver<Order>, on_event: F) -> Self {
        Self { tracee, orders, on_event, detaching: false }
    }

    /// Runs the program call by call until `ready` agrees; where it stands then, and whether it
    /// agreed.
    pub(super) fn hold(
        &self,
        pid: Pid,
        ready: &mut impl FnMut(&Mappings) -> bool,
    ) -> io::Result<(Stop, bool)> {
        let mut agreed = || mappings::read(pid).is_ok_and(|mapped| ready(&mapped));
        let mut stop = Stop::Exec;
        let mut entered: Option<Entered> = None;
        for _ in 0..STOPS_BOUND {
            match stop {
                Stop::Exec if agreed() => return Ok((stop, true)),
                Stop::Syscall => match self.tracee.entered() {
                    None if entered.take().is_some_and(maps_code) && agreed() => {
                        return Ok((stop, true));
                    }
                    now => entered = now,
                },
                Stop::Exiting | Stop::Exited(_) | Stop::Killed(_) => return Ok((stop, false)),
                _ => {}
            }
            let (how, signal) = onward(stop, Go::ToSyscall);
            self.tracee.go(how, signal)?;
            stop = self.wait()?;
        }
        Ok((stop, false))
    }

    /// From being held to the end.
    pub(super) fn obey(&mut self, held: Stop) {
        loop {
            match self.orders.recv() {
                Ok(Order::Resume) => break,
                Ok(Order::LetExit) => {}
                Ok(Order::Detach) | Err(_) => {
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
        // The exec of the command itself is no news.
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
            let (how, signal) = onward(stop, Go::Run);
            if self.detaching {
                return self.tracee.go(Go::Free, signal);
            }
            self.tracee.go(how, signal)?;
            may_be_ours = false;
            stop = self.wait_or_detach()?;
        }
    }

    /// The next stop; an order to detach makes one.
    fn wait_or_detach(&mut self) -> io::Result<Stop> {
        loop {
            match self.tracee.wait() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    let detach = loop {
                        match self.orders.try_recv() {
                            Ok(Order::Detach) | Err(TryRecvError::Disconnected) => break true,
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

    /// The next stop, whatever signals come to this thread.
    fn wait(&self) -> io::Result<Stop> {
        loop {
            match self.tracee.wait() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn await_let_exit(&mut self) {
        let limit = Instant::now() + EXIT_PATIENCE;
        loop {
            match self.orders.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(Order::LetExit) | Err(RecvTimeoutError::Timeout) => return,
                Ok(Order::Resume) => {}
                Ok(Order::Detach) | Err(RecvTimeoutError::Disconnected) => {
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
            // The child ends when its pipe closes; nothing of the program has run.
            drop(waiting);
            // SAFETY: waits for our own child; no answer is asked for.
            unsafe { libc::waitpid(raw, std::ptr::null_mut(), libc::__WALL) };
            return Err(failed("trace the new process")(error));
        }
    };
    let fault = waiting.go().map_err(failed("run the new process"))?;
    loop {
        let stop = match tracee.wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(failed("wait for the new process"))?,
        };
        match stop {
            Stop::Exec => return Ok((tracee, pid)),
            Stop::Exited(_) | Stop::Killed(_) => {
                let unknown = || io::Error::other("the program was killed while it was loaded");
                return Err(command.refused(fault.read().unwrap_or_else(unknown)));
            }
            _ => {}
        }
        let (how, signal) = onward(stop, Go::Run);
        tracee.go(how, signal).map_err(failed("run the new process"))?;
    }
}

/// How a stop is left: signals are delivered, and who was stopped by job control stays so.
const fn onward(stop: Stop, run: Go) -> (Go, i32) {
    match stop {
        Stop::Signal(signal) => (run, signal),
        Stop::Group => (Go::Listen, 0),
        _ => (run, 0),
    }
}

/// Whether the call may bring executable memory; `mmap` and `mprotect` both take the protection
/// third.
fn maps_code(call: Entered) -> bool {
    let maps = [libc::SYS_mmap, libc::SYS_mprotect].map(i64::cast_unsigned);
    maps.contains(&call.number) && call.third & u64::from(libc::PROT_EXEC.unsigned_abs()) != 0
}
