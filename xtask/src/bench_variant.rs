//! Tracers on the target: lists of variants, and how to start each.

use std::{
    borrow::Cow,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::process::{Background, leaktrace};

/// A variant, with its name in tables.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    /// Its name.
    pub name: Cow<'static, str>,
    /// The tracer.
    pub tracer: Tracer,
}

/// The tracer.
#[derive(Debug, Clone)]
pub(crate) enum Tracer {
    /// Nothing.
    None,
    /// leaktrace with these options.
    Leaktrace(&'static [&'static str]),
    /// Another tool: its command with `{pid}` in it.
    Peer(String),
}

/// The reference for all other figures: bare probes with empty programs, which show the kernel's own cost.
pub(crate) const BARE: Variant =
    leaktrace_with("bare traps", &["--bare-traps", "--kind", "heap,mmap"]);

/// leaktrace as users run it.
pub(crate) const LEAKTRACE: Variant = leaktrace_with("leaktrace", &[]);

/// What the costs of a call are about: descriptors would add theirs to every return probe.
const MEMORY: &str = "heap,mmap,object";

const UNTRACED: Variant = Variant { name: Cow::Borrowed("untraced"), tracer: Tracer::None };

/// Variants of the main table; other tools follow.
pub(crate) static MAIN: [Variant; 4] = [
    UNTRACED,
    BARE,
    leaktrace_with("leaktrace, heap only", &["--kind", "heap"]),
    leaktrace_with("leaktrace, everything on", &[]),
];

/// Cost of a call's stack: no stack, a full stack, and a full stack without the stack cache.
pub(crate) static STACKS: [Variant; 5] = [
    BARE,
    leaktrace_with("caller only", &["--frames", "1", "--kind", MEMORY]),
    leaktrace_with("21 frames, remembered", &["--kind", MEMORY]),
    leaktrace_with("21 frames, walked each time", &["--forget", "walks", "--kind", MEMORY]),
    leaktrace_with(
        "21 frames, without the stack cache",
        &["--forget", "addresses", "--kind", MEMORY],
    ),
];

/// Variants that promise a low cost, beside full tracing; the first one is the reference.
pub(crate) static GENTLE: [Variant; 6] = [
    UNTRACED,
    leaktrace_with("--light", &["--light"]),
    leaktrace_with("--max-overhead 5%", &["--max-overhead", "5%"]),
    leaktrace_with("--max-overhead 1%", &["--max-overhead", "1%"]),
    leaktrace_with("--kind fd,socket", &["--kind", "fd,socket"]),
    leaktrace_with("--kind heap,mmap", &["--kind", "heap,mmap"]),
];

/// Cost of library objects in addition to heap.
pub(crate) static OBJECTS: [Variant; 3] = [
    UNTRACED,
    leaktrace_with("heap alone", &["--kind", "heap"]),
    leaktrace_with("heap and objects", &["--kind", "heap,object"]),
];

/// Variants of the growth tables; for the last one also its collector.
pub(crate) static GROWTH: [Variant; 3] =
    [UNTRACED, BARE, leaktrace_with("leaktrace", &["--kind", MEMORY])];

const fn leaktrace_with(name: &'static str, options: &'static [&'static str]) -> Variant {
    Variant { name: Cow::Borrowed(name), tracer: Tracer::Leaktrace(options) }
}

impl Variant {
    /// Starts the tracer on `pid`, and waits until it is attached. `more` are options of the load, for leaktrace only.
    pub(crate) fn attach(
        &self,
        pid: u32,
        report: &str,
        more: &[String],
    ) -> Result<Option<Background>> {
        let pid = pid.to_string();
        match &self.tracer {
            Tracer::None => Ok(None),
            Tracer::Leaktrace(options) => {
                let mut command = Command::new(leaktrace());
                command.args(["-f", "json", "-o", report, "-p", &pid]).args(*options).args(more);
                let mut tracer = Background::start(command.stderr(Stdio::piped()))?;
                let stream = tracer.child().stderr.take().context("stderr is piped")?;
                let mut lines = BufReader::new(stream).lines();
                let mut said = Vec::new();
                let mut attached = |line: Result<String, _>| {
                    said.extend(line.ok());
                    said.last().is_some_and(|line| line.starts_with("leaktrace: tracing"))
                };
                if !lines.any(&mut attached) {
                    bail!("`{}` did not attach to {pid}:\n{}", self.name, said.join("\n"));
                }
                // Keep reading the output, so that the tracer never blocks.
                thread::spawn(move || lines.for_each(drop));
                Ok(Some(tracer))
            }
            Tracer::Peer(line) => {
                let line = format!("exec {}", line.replace("{pid}", &pid));
                let mut command = Command::new("sh");
                command.args(["-c", &line]).stderr(Stdio::null());
                let mut tracer = Background::start(&mut command)?;
                let lines = tracer.lines()?;
                thread::spawn(move || lines.for_each(drop));
                // Other tools do not report readiness in one way. memleak compiles its programs first: four seconds are
                // not always enough for that on two processors.
                thread::sleep(Duration::from_secs(10));
                if let Some(status) = tracer.child().try_wait()? {
                    bail!("`{line}` ended before the measurement: {status}");
                }
                Ok(Some(tracer))
            }
        }
    }
}
