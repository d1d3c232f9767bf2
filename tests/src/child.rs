//! A child process with line-based streams: reads have a time limit, it is ended by its own pid, and never outlives its
//! test.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// A running child; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    stderr_seen: Vec<String>,
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { break };
            // The receiver may be gone: keep reading the pipe, so that the child never blocks.
            drop(send.send(String::from_utf8_lossy(&line).into_owned()));
        }
    });
    receive
}

impl Running {
    /// Starts `command` with all three streams connected to the test.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start `{name}`"))?;
        let stdout = lines_of(child.stdout.take().context("stdout is piped")?);
        let stderr = lines_of(child.stderr.take().context("stderr is piped")?);
        Ok(Self { child, name, stdout, stderr, stderr_seen: Vec::new() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line to its stdin, in one piece: a program may act on its first letter, and end.
    pub fn send(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("stdin is piped")?;
        stdin.write_all(format!("{line}\n").as_bytes())?;
        stdin.flush().with_context(|| format!("could not write to `{}`", self.name))
    }

    /// Closes its stdin.
    pub fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Returns the next line of stdout.
    pub fn line(&self, limit: Duration) -> Result<String> {
        match self.stdout.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!("`{}` said nothing on stdout within {limit:?}", self.name)
            }
            Err(RecvTimeoutError::Disconnected) => bail!("`{}` closed its stdout", self.name),
        }
    }

    /// Reads stderr until a line starts with `start`.
    pub fn stderr_line(&mut self, start: &str, limit: Duration) -> Result<String> {
        self.stderr_line_with(|line| line.starts_with(start), start, limit)
    }

    /// Reads stderr until a line satisfies the predicate; `words` describes it in messages.
    pub fn stderr_line_with(
        &mut self,
        wanted: impl Fn(&str) -> bool,
        words: &str,
        limit: Duration,
    ) -> Result<String> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.stderr.recv_timeout(left) else {
                bail!(
                    "`{}` did not write a line with `{words}` on stderr within {limit:?}; it \
                     wrote:\n{}",
                    self.name,
                    self.stderr_seen.join("\n")
                );
            };
            self.stderr_seen.push(line.clone());
            if wanted(&line) {
                return Ok(line);
            }
        }
    }

    /// Waits until it has ended.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("`{}` (pid {}) did not end within {limit:?}", self.name, self.pid());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The rest of stderr of a child that has ended.
    pub fn rest_of_stderr(&mut self) -> &[String] {
        while let Ok(line) = self.stderr.recv_timeout(Duration::from_secs(5)) {
            self.stderr_seen.push(line);
        }
        &self.stderr_seen
    }

    /// The rest of stdout of a child that has ended.
    pub fn rest_of_stdout(&self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.stdout.recv_timeout(Duration::from_secs(5)) {
            lines.push(line);
        }
        lines
    }

    /// Sends a signal to its pid.
    pub fn signal(&self, name: &str) -> Result<()> {
        // The shell's builtin `kill`: a minimal image has no other.
        let done = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.pid())])
            .status()
            .context("could not run `sh`")?;
        if !done.success() {
            bail!("could not send SIG{name} to `{}` (pid {})", self.name, self.pid());
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, which is fine.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
