//! One measurement: a fresh target, one tracer on it or none, one load of known length.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    compile,
    process::{Background, leaktrace, output, target_dir},
};

/// What is on the target.
#[derive(Debug, Clone)]
pub(crate) enum Variant {
    /// Nothing.
    Untraced,
    /// `leaktrace --bare-traps`: the kernel's own cost, programs that do nothing.
    Bare,
    /// leaktrace as users run it.
    Leaktrace,
    /// leaktrace with a hidden option: its name, and the option.
    Otherwise(&'static str, &'static [&'static str]),
    /// Another tool: its name, and its command with `{pid}` in it.
    Peer(String, String),
}

/// A load and its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// One thread, malloc and free: nanoseconds per pair.
    Loop,
    /// The libevent server under wrk: requests per second.
    Server,
    /// Four threads freeing each other's blocks: pairs per second.
    Cross,
    /// As the loop, at the bottom of a stack of 21 frames through libevent and libc: nanoseconds per pair.
    Deep,
}

/// What was measured.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sample {
    /// In the load's unit.
    pub figure: f64,
    /// Processor time of the tracer while the load ran, percent of one processor.
    pub cpu_percent: Option<f64>,
    /// Most memory the tracer ever had resident, KiB.
    pub peak_kib: Option<f64>,
    /// What the tracer says it lost.
    pub lost: Option<f64>,
}

impl Variant {
    /// Its name in the table.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Untraced => "untraced",
            Self::Bare => "bare traps",
            Self::Leaktrace => "leaktrace",
            Self::Otherwise(name, _) => name,
            Self::Peer(name, _) => name,
        }
    }

    /// Starts it on `pid`, and waits until it is attached.
    pub(crate) fn attach(&self, pid: u32, report: &str) -> Result<Option<Background>> {
        let pid = pid.to_string();
        let mut command = match self {
            Self::Untraced => return Ok(None),
            Self::Bare | Self::Leaktrace | Self::Otherwise(..) => {
                let mut command = Command::new(leaktrace());
                command.args(["-f", "json", "-o", report, "-p", &pid]);
                if matches!(self, Self::Bare) {
                    command.arg("--bare-traps");
                }
                if let Self::Otherwise(_, options) = self {
                    command.args(*options);
                }
                command.stderr(Stdio::piped());
                command
            }
            Self::Peer(_, line) => {
                let line = format!("exec {}", line.replace("{pid}", &pid));
                let mut command = Command::new("sh");
                command.args(["-c", &line]).stderr(Stdio::null());
                command
            }
        };
        let mut tracer = Background::start(&mut command)?;
        if let Some(stream) = tracer.child().stderr.take() {
            let mut lines = BufReader::new(stream).lines();
            let attached = |line: &Result<String, _>| {
                line.as_ref().is_ok_and(|line| line.starts_with("leaktrace: tracing"))
            };
            if !lines.any(|line| attached(&line)) {
                bail!("`{}` did not attach to {pid}", self.name());
            }
            // Read on, so that it never waits for us.
            thread::spawn(move || lines.for_each(drop));
        } else {
            let lines = tracer.lines()?;
            thread::spawn(move || lines.for_each(drop));
            // Other tools do not say when they are ready; all tried are within four seconds.
            thread::sleep(Duration::from_secs(4));
        }
        Ok(Some(tracer))
    }
}

/// Measures once.
pub(crate) fn measure(variant: &Variant, load: Load, seconds: u32) -> Result<Sample> {
    let path = target_dir().join(format!("bench-{}.json", std::process::id()));
    let report = path.to_str().context("a path in UTF-8")?;
    let program = match load {
        Load::Loop => "loop",
        Load::Server => "http_server",
        Load::Cross => "cross",
        Load::Deep => "deep",
    };
    let argument = if load == Load::Server { "0".to_owned() } else { seconds.to_string() };
    let mut target = Background::start(Command::new(compile::victim(program)?).arg(argument))?;
    let mut lines = target.lines()?;
    let hello = lines.next().context("the target says that it is ready")??;
    let mut tracer = variant.attach(target.pid(), report)?;
    let before = tracer.as_ref().map(|tracer| cpu_ticks(tracer.pid())).transpose()?;
    let start = Instant::now();
    let figure = if load == Load::Server {
        let port = hello.strip_prefix("listening ").context("a port")?;
        wrk(port, seconds)?
    } else {
        target.child().stdin.as_mut().context("stdin is piped")?.write_all(b"go\n")?;
        let line = lines.next().context("the target says what it did")??;
        let key = if load == Load::Cross { "pairs_per_s" } else { "ns_per_pair" };
        let said: Value = serde_json::from_str(&line)?;
        said.get(key).and_then(Value::as_f64).with_context(|| format!("no `{key}`"))?
    };
    let spent = start.elapsed().as_secs_f64();
    let mut sample = Sample { figure, ..Sample::default() };
    if let (Some(tracer), Some(before)) = (&mut tracer, before) {
        // A hundred ticks a second on every Linux; so a tick per second is a percent.
        sample.cpu_percent = Some((cpu_ticks(tracer.pid())? - before) / spent);
        sample.peak_kib = status_kib(tracer.pid(), "VmHWM:");
        end(tracer)?;
        // Other tools leave no report.
        let said = fs::read_to_string(report).ok();
        sample.lost = said.and_then(|text| lost(&serde_json::from_str(&text).ok()?));
    }
    if path.exists() {
        fs::remove_file(&path)?;
    }
    Ok(sample)
}

/// Ends a tracer as Ctrl-C does, and waits: its probes must be gone before the next measurement.
pub(crate) fn end(tracer: &mut Background) -> Result<()> {
    tracer.signal("INT")?;
    let start = Instant::now();
    while tracer.child().try_wait()?.is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            bail!("the tracer (pid {}) did not end within 60 s", tracer.pid());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn wrk(port: &str, seconds: u32) -> Result<f64> {
    let url = format!("http://127.0.0.1:{port}/");
    let text = output(Command::new("wrk").args(["-t1", "-c16", &format!("-d{seconds}s"), &url]))?;
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("wrong answers under load:\n{text}");
    }
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    Ok(line.context("wrk says requests per second")?.trim().parse()?)
}

/// User and system time of a process, in clock ticks.
pub(crate) fn cpu_ticks(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may hold spaces, come the state and ten numbers more.
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let mut times = fields.split(' ').skip(11);
    let mut next = || times.next().context("too few fields")?.parse::<f64>().context("no number");
    Ok(next()? + next()?)
}

/// A line of `/proc/PID/status`, in KiB.
pub(crate) fn status_kib(pid: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What leaktrace's report says it lost; `None` for what is no such report.
pub(crate) fn lost(report: &Value) -> Option<f64> {
    let reasons = report.pointer("/accounting/lost")?.as_object()?;
    // Not `sum`, which is -0 for nothing.
    Some(reasons.values().filter_map(Value::as_f64).fold(0.0, |sum, one| sum + one))
}
