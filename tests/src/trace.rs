//! A running leaktrace: starts it on a target, waits for it, stops it, and reads its report.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{Report, child::Running, scratch, target_dir};

/// Prefix of the line on stderr that leaktrace prints when all probes are attached.
pub const TRACING: &str = "leaktrace: tracing";

/// A wrapper for [`Refusal::of_program`] that runs a program as an ordinary user.
pub const AS_NOBODY: [&str; 7] =
    ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "env"];

/// Time limit to load and attach on a slow, busy machine.
const ATTACH_LIMIT: Duration = Duration::from_secs(60);

/// Time limit from the request to stop until the process has ended: the kernel needs time to detach.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The leaktrace under test: `LEAKTRACE_BIN`, else the workspace's release build.
pub fn leaktrace() -> Result<PathBuf> {
    let path = match std::env::var_os("LEAKTRACE_BIN") {
        Some(path) => PathBuf::from(path),
        None => target_dir().join("release/leaktrace"),
    };
    if !path.exists() {
        bail!("no `{}`; help: cargo build --release -p leaktrace", path.display());
    }
    Ok(path)
}

/// A running leaktrace that writes a JSON report; killed when dropped.
#[derive(Debug)]
pub struct Trace {
    running: Running,
    output: PathBuf,
}

impl Trace {
    /// Attaches to `pid` with extra options, and waits until all probes are attached.
    pub fn attach(pid: u32, options: &[&str]) -> Result<Self> {
        let mut trace = Self::start(&[&["-p", &pid.to_string()], options].concat())?;
        trace.wait_until_attached()?;
        Ok(trace)
    }

    /// Starts leaktrace with `arguments` after `-f json -o FILE`, without waiting.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let output = scratch(&format!("report-{}.json", unique()))?;
        let running = Running::start(
            Command::new(leaktrace()?).args(["-f", "json", "-o"]).arg(&output).args(arguments),
        )?;
        Ok(Self { running, output })
    }

    /// Waits for the line that reports all probes attached.
    pub fn wait_until_attached(&mut self) -> Result<String> {
        self.running.stderr_line(TRACING, ATTACH_LIMIT)
    }

    /// Waits for a line on stderr with this prefix.
    pub fn wait_until_it_says(&mut self, start: &str) -> Result<String> {
        self.running.stderr_line(start, ATTACH_LIMIT)
    }

    /// Waits for a line on stderr that contains these words.
    pub fn wait_for(&mut self, words: &str) -> Result<String> {
        self.running.stderr_line_with(|line| line.contains(words), words, ATTACH_LIMIT)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) -> Result<()> {
        self.running.signal(signal)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Stops it like Ctrl-C, and reads its report.
    pub fn stop(self) -> Result<Report> {
        self.stop_by("INT")
    }

    /// Stops it with a signal, and reads its report.
    pub fn stop_by(self, signal: &str) -> Result<Report> {
        self.running.signal(signal)?;
        self.finish()
    }

    /// Waits until it ends by itself, and reads its report; a nonzero exit status is an error.
    pub fn finish(mut self) -> Result<Report> {
        let status = self.wait()?;
        if status.code() != Some(0) {
            bail!("leaktrace ended with {status}:\n{}", self.running.rest_of_stderr().join("\n"));
        }
        self.report()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.running.wait(STOP_LIMIT)
    }

    /// Exit status and output of a run that is expected to fail.
    pub fn refusal(&mut self) -> Refusal {
        let code = self.wait().ok().and_then(|status| status.code());
        let stdout = self.running.rest_of_stdout();
        Refusal { code, stdout, stderr: self.running.rest_of_stderr().to_vec() }
    }

    /// The file of its report.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// Reads its report.
    pub fn report(&self) -> Result<Report> {
        Report::read(&self.output)
    }
}

/// Exit status and output of a leaktrace run to its end.
#[derive(Debug)]
pub struct Refusal {
    /// Exit status.
    pub code: Option<i32>,
    /// Lines on stdout.
    pub stdout: Vec<String>,
    /// Lines on stderr.
    pub stderr: Vec<String>,
}

impl Refusal {
    /// Runs leaktrace to its end, wrapped in `wrapper` (such as `setpriv …`).
    pub fn of(wrapper: &[&str], arguments: &[&str]) -> Result<Self> {
        let program = leaktrace()?;
        Self::of_program(wrapper, program.to_str().context("a path in UTF-8")?, arguments)
    }

    /// The same for a copy of leaktrace.
    pub fn of_program(wrapper: &[&str], program: &str, arguments: &[&str]) -> Result<Self> {
        let line = [wrapper, &[program], arguments].concat();
        let (first, rest) = line.split_first().context("a program")?;
        let mut running = Running::start(Command::new(first).args(rest))?;
        let code = running.wait(ATTACH_LIMIT)?.code();
        Ok(Self {
            code,
            stdout: running.rest_of_stdout(),
            stderr: running.rest_of_stderr().to_vec(),
        })
    }

    /// The contract for errors: status 2, nothing on stdout, one line that says what failed and names `object`, and one
    /// `help:` line.
    pub fn names(&self, object: &str) -> Result<()> {
        let [failure, help] = self.stderr.as_slice() else {
            bail!("one line and a `help:` line on stderr, not {self:#?}");
        };
        if self.code != Some(2)
            || !self.stdout.is_empty()
            || !failure.contains(object)
            || !help.trim_start().starts_with("help: ")
        {
            bail!("status 2, a line naming `{object}` and a `help:` line expected, not {self:#?}");
        }
        Ok(())
    }
}

/// A number that is unique among the traces of this process.
fn unique() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
