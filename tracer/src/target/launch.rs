//! Launches a command and stops it before its program runs, so that probes are attached from the first call.
//!
//! Takes a program and a predicate (whether everything needed is mapped), passes on a process that is stopped
//! in its loader, and later the event of its end. ptrace ties a tracee to one thread, so a dedicated thread
//! forks the process, stops it, delivers its signals and waits for its end. The command belongs to the user:
//! it inherits our standard streams, and it keeps running when leaktrace quits or dies. Only its first thread
//! is traced, and only signals, execs and the exit stop it: once resumed, its system calls have no overhead.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::thread::JoinHandleExt,
    sync::{
        Once,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub use super::command::Streams;
use super::{
    Pid, TargetError,
    command::Prepared,
    follow::{Request, Tracer, run_program},
    mappings::Mappings,
    ptrace::Stop,
};

pub use super::follow::Event;

/// How long a detach may take; the thread reacts within a scheduler tick.
const DETACH_TIMEOUT: Duration = Duration::from_secs(1);

/// A command started by us. Dropping it detaches from the command, like [`Launched::detach`].
#[derive(Debug)]
pub struct Launched {
    pid: Pid,
    ready: bool,
    requests: Sender<Request>,
    tracer: Option<JoinHandle<()>>,
}

impl Launched {
    /// Starts a command with these standard streams and stops it as soon as `ready` returns true. The tracing thread calls `ready` when the program
    /// is loaded, and after each system call that maps executable memory, before the loader runs any of the mapped
    /// code. If `ready` never returns true, the command is stopped at its exit. From [`Launched::resume`] on, the
    /// tracing thread calls `on_event`; the command waits during the call, so `on_event` should only forward the event.
    pub fn start(
        program: &OsStr,
        arguments: &[OsString],
        streams: Streams,
        mut ready: impl FnMut(&Mappings) -> bool + Send + 'static,
        on_event: impl FnMut(Event) + Send + 'static,
    ) -> Result<Self, TargetError> {
        let command = Prepared::new(program, arguments, streams)?;
        let typed = command.typed();
        let failed = |step, source| TargetError::Launch { command: typed.clone(), step, source };
        install_wake_handler().map_err(|error| failed("set up a signal", error))?;
        let (requests, incoming) = mpsc::channel();
        let (held, holding) = mpsc::channel();
        let trace = move || {
            let (tracee, pid) = match run_program(&command) {
                Ok(started) => started,
                Err(error) => {
                    drop(held.send(Err(error)));
                    return;
                }
            };
            let mut thread = Tracer::new(tracee, incoming, on_event);
            let (stop, ready) = thread.hold(pid, &mut ready).unwrap_or((Stop::Interrupted, false));
            // If there is no `Launched` any more, its channel is closed, and the thread detaches.
            drop(held.send(Ok((pid, ready))));
            thread.run(stop);
        };
        let tracer = thread::Builder::new()
            .name("launch".to_owned())
            .spawn(trace)
            .map_err(|error| failed("start a thread", error))?;
        let (pid, ready) = holding
            .recv()
            .map_err(|gone| failed("hold the new process", io::Error::other(gone)))??;
        Ok(Self { pid, ready, requests, tracer: Some(tracer) })
    }

    /// The process id.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether `ready` returned true; otherwise the command is stopped at its exit, or where we gave up.
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Resumes the command.
    pub fn resume(&self) {
        self.request(Request::Resume);
    }

    /// After [`Event::Exiting`]: lets the command exit.
    pub fn let_exit(&self) {
        self.request(Request::LetExit);
    }

    /// Detaches from the command: it keeps running, or resumes if it was stopped, and is not traced any more.
    pub fn detach(self) {
        drop(self);
    }

    /// Sends a request to the tracing thread, which may have ended.
    fn request(&self, request: Request) {
        drop(self.requests.send(request));
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        self.request(Request::Detach);
        let Some(tracer) = self.tracer.take() else { return };
        let deadline = Instant::now() + DETACH_TIMEOUT;
        while !tracer.is_finished() && Instant::now() < deadline {
            // Repeated, because a signal between the thread's check of its requests and its wait does
            // not end the wait.
            // SAFETY: the thread has not been joined, so its id is valid.
            unsafe { libc::pthread_kill(tracer.as_pthread_t(), WAKE_SIGNAL) };
            thread::sleep(Duration::from_millis(1));
        }
        // If the thread is stuck nevertheless, the kernel detaches the command when we exit.
    }
}

/// Interrupts a thread's wait. Ignored by default, so that a stray one does no harm; tokio does not use it.
const WAKE_SIGNAL: libc::c_int = libc::SIGURG;

/// Installs a handler that does nothing, without `SA_RESTART`: the wait then ends with `EINTR`.
fn install_wake_handler() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        // SAFETY: an all-zero action is a valid one, with no flags and an empty mask; the handler
        // does nothing, which is async-signal-safe.
        let failed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
            libc::sigaction(WAKE_SIGNAL, &raw const action, std::ptr::null_mut()) < 0
        };
        if failed {
            result = Err(io::Error::last_os_error());
        }
    });
    result
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
