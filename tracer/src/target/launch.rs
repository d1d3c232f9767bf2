//! A command of ours, held before its program runs, so that probes are on from the first call.
//!
//! Takes a program and a question ("is what you need mapped now?"), hands on a process that stands
//! still in its loader, and later the news of its end. ptrace ties a tracee to one thread, so one
//! dedicated thread forks it, holds it, passes its signals on and waits for its end. The command
//! belongs to the user: it inherits our standard streams, and when leaktrace quits or dies it runs
//! on unharmed. Only its first thread is traced, and only signals, execs and the end stop it: once
//! resumed, system calls cost it nothing.

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

use super::{
    Pid, TargetError,
    command::Prepared,
    follow::{Order, Tracer, run_program},
    mappings::Mappings,
    ptrace::Stop,
};

/// How long giving the command back may take; the thread reacts within a scheduler's tick.
const DETACH_PATIENCE: Duration = Duration::from_secs(1);

/// What happens to the command after [`Launched::resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another program has taken its place (`exec`): all its mappings are new.
    Executed,
    /// It is about to end, and its memory map can still be read: it waits for
    /// [`Launched::let_exit`], at most two seconds. (Also when its first thread ends before the
    /// others, which is rare: [`Event::Exited`] then comes much later.)
    Exiting,
    /// It has ended.
    Exited {
        /// Its exit status, unless a signal ended it.
        status: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    },
}

/// A command started by us. Dropping it gives the command back, like [`Launched::detach`].
#[derive(Debug)]
pub struct Launched {
    pid: Pid,
    ready: bool,
    orders: Sender<Order>,
    tracer: Option<JoinHandle<()>>,
}

impl Launched {
    /// Starts a command and holds it as soon as `ready` agrees. It is asked when the program is
    /// loaded, and after each call that maps executable memory, while the loader has not yet run
    /// anything of what it has mapped; the command is held at its end, too. From
    /// [`Launched::resume`] on `on_event` is called from the thread that traces the command, which
    /// waits for it meanwhile: it should only pass the news on.
    pub fn start(
        program: &OsStr,
        arguments: &[OsString],
        mut ready: impl FnMut(&Mappings) -> bool + Send + 'static,
        on_event: impl FnMut(Event) + Send + 'static,
    ) -> Result<Self, TargetError> {
        let command = Prepared::new(program, arguments)?;
        let typed = command.typed();
        let failed = |step, source| TargetError::Launch { command: typed.clone(), step, source };
        arm_wake_signal().map_err(|error| failed("set up a signal", error))?;
        let (orders, incoming) = mpsc::channel();
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
            let (stop, agreed) = thread.hold(pid, &mut ready).unwrap_or((Stop::Notice, false));
            // Without a `Launched` to give orders, the orders' channel is closed: detach.
            drop(held.send(Ok((pid, agreed))));
            thread.obey(stop);
        };
        let tracer = thread::Builder::new()
            .name("launch".to_owned())
            .spawn(trace)
            .map_err(|error| failed("start a thread", error))?;
        let (pid, ready) = holding
            .recv()
            .map_err(|gone| failed("hold the new process", io::Error::other(gone)))??;
        Ok(Self { pid, ready, orders, tracer: Some(tracer) })
    }

    /// The process.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether the question was answered with yes; else it is held at its end, or where we stopped
    /// asking.
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Lets it run.
    pub fn resume(&self) {
        self.order(Order::Resume);
    }

    /// After [`Event::Exiting`]: lets it end.
    pub fn let_exit(&self) {
        self.order(Order::LetExit);
    }

    /// Gives the command back: it runs on, held or not, and is not traced any more.
    pub fn detach(self) {
        drop(self);
    }

    /// A thread that is gone needs no orders.
    fn order(&self, order: Order) {
        drop(self.orders.send(order));
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        self.order(Order::Detach);
        let Some(tracer) = self.tracer.take() else { return };
        let limit = Instant::now() + DETACH_PATIENCE;
        while !tracer.is_finished() && Instant::now() < limit {
            // Repeated, because a signal between the thread's look at its orders and its wait does
            // not end the wait.
            // SAFETY: the thread has not been joined, so its id is valid.
            unsafe { libc::pthread_kill(tracer.as_pthread_t(), WAKE_SIGNAL) };
            thread::sleep(Duration::from_millis(1));
        }
        // Should the thread be stuck nevertheless, our own end detaches the command.
    }
}

/// Ends a thread's wait. Ignored by default, so that a stray one harms nobody; tokio leaves it alone.
const WAKE_SIGNAL: libc::c_int = libc::SIGURG;

/// A handler that does nothing, without `SA_RESTART`: the wait then ends with `EINTR`.
fn arm_wake_signal() -> io::Result<()> {
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
