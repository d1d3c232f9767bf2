//! A victim: a small program that prints its own truth. See `victims/victim.h` for the protocol.

use std::{
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{Truth, child::Running, compile};

/// Time limit for a traced victim from `ready` to its truth.
const WORK_LIMIT: Duration = Duration::from_secs(300);

/// A running victim; killed by its pid when dropped.
#[derive(Debug)]
pub struct Victim {
    running: Running,
}

impl Victim {
    /// Compiles `name` if needed, starts it, and waits until it is ready for `go`.
    pub fn start(name: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_command(Command::new(compile::victim(name)?).args(arguments))
    }

    /// Starts a program that was compiled in its own way.
    pub fn start_program(program: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_command(Command::new(program).args(arguments))
    }

    /// The same with the witness preloaded, which writes its counts to `note`.
    pub fn start_witnessed(name: &str, arguments: &[&str], note: &Path) -> Result<Self> {
        Self::start_command(
            Command::new(compile::victim(name)?)
                .args(arguments)
                .env("LD_PRELOAD", compile::witness()?)
                .env("PRELOAD_COUNT", note),
        )
    }

    /// Starts a compiled program, and waits until it is ready.
    pub fn start_command(command: &mut Command) -> Result<Self> {
        let running = Running::start(command)?;
        let line = running.line(Duration::from_secs(10))?;
        if line != "ready" {
            bail!("a victim says `ready` first, not `{line}`");
        }
        Ok(Self { running })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Starts its work.
    pub fn go(&mut self) -> Result<()> {
        self.running.send("go")
    }

    /// Sends a word of its own, for a victim with more than one phase.
    pub fn send(&mut self, word: &str) -> Result<()> {
        self.running.send(word)
    }

    /// The next line it prints.
    pub fn line(&self) -> Result<String> {
        self.line_within(WORK_LIMIT)
    }

    /// The same with a different time limit.
    pub fn line_within(&self, limit: Duration) -> Result<String> {
        self.running.line(limit)
    }

    /// Reads the line that it prints when its work is done, while all resources are still held.
    pub fn truth(&self) -> Result<Truth> {
        self.truth_within(WORK_LIMIT)
    }

    /// The same with a different time limit.
    pub fn truth_within(&self, limit: Duration) -> Result<Truth> {
        let line = self.running.line(limit)?;
        let truth = Truth::parse(&line).with_context(|| format!("the victim said `{line}`"))?;
        Ok(truth)
    }

    /// Reads the line that it prints when its work is done, if that is no truth of call sites.
    pub fn answer(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.running.line(WORK_LIMIT)?)?)
    }

    /// Has it exit, and waits for that.
    pub fn exit(&mut self) -> Result<()> {
        self.end().map(drop)
    }

    /// The same, for a victim whose exit status matters.
    pub fn end(&mut self) -> Result<ExitStatus> {
        self.running.send("exit")?;
        self.running.wait(Duration::from_secs(20))
    }

    /// Kills it.
    pub fn kill(&mut self) -> Result<()> {
        self.running.signal("KILL")?;
        self.running.wait(Duration::from_secs(20)).map(drop)
    }
}
