//! leaktrace's screen in a pseudo-terminal: the test sends keys and reads the rendered screen.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    num::NonZeroU16,
    os::unix::{ffi::OsStringExt as _, fs::OpenOptionsExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{trace::leaktrace, wait_until};

/// Columns and lines: enough for the whole table and the details.
const SIZE: (u16, u16) = (120, 32);

/// Time limit for text to appear, on a slow, busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Interval at which the reader checks whether the terminal is to be closed.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// leaktrace in a terminal of its own, which is its controlling terminal; killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: Option<File>,
    /// Screens rendered so far, oldest first.
    seen: Arc<Mutex<Vec<String>>>,
    closed: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts leaktrace in the terminal.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let (columns, lines) = SIZE;
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size)?;
        let path = std::ffi::OsString::from_vec(ptsname(&master, Vec::new())?.into_bytes());
        let flags = i32::try_from(OFlags::NOCTTY.bits())?;
        let slave = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        // The wrapper makes the terminal its controlling terminal and replaces itself with leaktrace: the pid stays the
        // same.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(leaktrace()?)
            .args(arguments)
            .env("TERM", "xterm-256color")
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave))
            .spawn()
            .context("could not run `setsid`")?;
        let keys = File::from(master);
        let (seen, closed) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let reader = thread::spawn({
            let (output, seen, closed) =
                (keys.try_clone()?, Arc::clone(&seen), Arc::clone(&closed));
            move || read(output, &seen, &closed)
        });
        Ok(Self { child, keys: Some(keys), seen, closed, reader: Some(reader) })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends keys.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        let terminal = self.keys.as_mut().context("the terminal is closed")?;
        Ok(terminal.write_all(keys.as_bytes())?)
    }

    /// The current screen.
    pub fn screen(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).last().cloned().unwrap_or_default()
    }

    /// Whether these words were on any screen so far.
    pub fn has_shown(&self, words: &str) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().any(|screen| screen.contains(words))
    }

    /// Waits until these words are on the screen.
    pub fn wait_for(&self, words: &str) -> Result<String> {
        wait_until(&format!("`{words}` on the screen"), LIMIT, || {
            Ok(self.screen().contains(words))
        })
        .with_context(|| format!("the screen:\n{}", self.screen()))?;
        Ok(self.screen())
    }

    /// Closes the terminal, as closing its window does.
    pub fn close(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // The thread only reads: its result does not matter.
            drop(reader.join());
        }
        self.keys = None;
    }

    /// Sends a signal to leaktrace's pid.
    pub fn signal(&self, name: &str) -> Result<()> {
        let done = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.pid())])
            .status()
            .context("could not run `sh`")?;
        if !done.success() {
            bail!("could not send SIG{name} to leaktrace (pid {})", self.pid());
        }
        Ok(())
    }

    /// Waits until it has ended.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("leaktrace did not end within {limit:?}; its screen:\n{}", self.screen());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already, which is fine.
        drop(self.child.kill());
        drop(self.child.wait());
        self.close();
    }
}

/// Reads output until the terminal is closed, and keeps each screen that differs from the previous one.
fn read(mut output: File, seen: &Mutex<Vec<String>>, closed: &AtomicBool) {
    let number = |cells| NonZeroU16::new(cells).unwrap_or(NonZeroU16::MIN);
    let mut screen = vt100::Parser::new(number(SIZE.1), number(SIZE.0), 0);
    let mut bytes = [0; 8 << 10];
    while !closed.load(Ordering::Relaxed) {
        if !matches!(poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&PAUSE)), Ok(1..)) {
            continue;
        }
        // An error means that no process has the other end open any more.
        let Ok(count) = output.read(&mut bytes) else { return };
        screen.process(bytes.get(..count).unwrap_or_default());
        let now = screen.screen().contents();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
}
