//! One server traced under load: starts it, warms it up, attaches leaktrace, and judges the report.
//!
//! Takes a server and the options of the run; hands on an outcome. Files of the run stay in `servers` of the target
//! directory: report, tape, the server's own files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{HealthyServer, Instance, judge::Judged, traffic::Traffic};
use crate::{
    child::Running,
    network, packages,
    report::complete_stacks,
    target_dir,
    trace::{TRACING, leaktrace},
    wait_until,
};

/// Load before leaktrace attaches: caches and pools fill.
const WARM_UP: Duration = Duration::from_secs(20);
/// Time limit to attach to many processes on a busy machine.
const ATTACH_LIMIT: Duration = Duration::from_secs(180);
/// Time limit from the end of tracing until the report is there.
const REPORT_LIMIT: Duration = Duration::from_secs(180);
/// Everything that leaktrace traces.
const KINDS: &str = "heap,mmap,fd,socket,object";

/// Options of a run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Seconds that leaktrace traces.
    pub seconds: u64,
    /// Whether it records a tape.
    pub record: bool,
}

/// What came of one server.
#[derive(Debug)]
pub struct Outcome {
    /// Version of the server.
    pub version: String,
    /// Answers per second before leaktrace attached.
    pub before: f64,
    /// Answers per second while it traced.
    pub during: f64,
    /// What its report says.
    pub judged: Judged,
    /// What leaktrace wrote to stderr beside its usual lines.
    pub said: Vec<String>,
    /// The tape, if there is one.
    pub tape: Option<PathBuf>,
}

/// The folder of all runs.
pub fn folder() -> Result<PathBuf> {
    let folder = target_dir().join("servers");
    fs::create_dir_all(&folder)?;
    Ok(fs::canonicalize(folder)?)
}

/// Traces `server` under load.
pub fn run(server: &HealthyServer, options: Options) -> Result<Outcome> {
    let all = folder()?;
    let own = all.join(server.name);
    if own.exists() {
        fs::remove_dir_all(&own)?;
    }
    fs::create_dir_all(&own)?;
    packages::fetch_all(server.packages)?;
    let version = (server.version)()?;
    let mut instance = Instance::start(server, &own).context("it did not start")?;
    let pid = instance.started.target.pid();
    let mut traffic = network::inside(pid, || (server.load)(&own)).context("no load began")?;
    // At least two rounds of a tool, or nothing is counted.
    let start = Instant::now();
    wait_until("the server is warm", 3 * WARM_UP, || {
        traffic.check()?;
        let counted = traffic.reading().per_second_since(super::traffic::Reading::default()) > 0.0;
        Ok(start.elapsed() >= WARM_UP && counted)
    })?;
    let cold = traffic.reading();
    let before = cold.per_second_since(super::traffic::Reading::default());
    let mut tracer = Tracer::attach(server, &instance.settled_pids()?, &all, options)?;
    let attached = traffic.reading();
    tracer.wait(options.seconds, &mut traffic)?;
    let during = traffic.reading().per_second_since(attached);
    traffic.end().context("a wrong answer while it was traced")?;
    ensure!(instance.is_running(), "the server has ended");
    instance.stop()?;
    let (judged, said, tape) = tracer.finish()?;
    Ok(Outcome { version, before, during, judged, said, tape })
}

/// A leaktrace that traces a server.
struct Tracer {
    running: Running,
    report: PathBuf,
    tape: Option<PathBuf>,
}

impl Tracer {
    fn attach(server: &HealthyServer, pids: &[u32], all: &Path, options: Options) -> Result<Self> {
        let report = all.join(format!("{}.json", server.name));
        let tape = options.record.then(|| all.join(format!("{}.tape", server.name)));
        let pids = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut command = Command::new(leaktrace()?);
        command
            .args(["-p", &pids, "--kind", KINDS, "-d", &format!("{}s", options.seconds)])
            .args(["-f", "json", "-o"])
            .arg(&report)
            .args(server.options);
        for file in [Some(&report), tape.as_ref()].into_iter().flatten() {
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        if let Some(tape) = &tape {
            command.arg("--record").arg(tape);
        }
        let mut running = Running::start(&mut command)?;
        running.stderr_line(TRACING, ATTACH_LIMIT)?;
        Ok(Self { running, report, tape })
    }

    /// Waits until leaktrace has ended; the load must go on meanwhile.
    fn wait(&mut self, seconds: u64, traffic: &mut Traffic) -> Result<()> {
        let limit = Duration::from_secs(seconds) + REPORT_LIMIT;
        let start = Instant::now();
        loop {
            traffic.check().context("while it was traced")?;
            if let Ok(status) = self.running.wait(Duration::from_millis(200)) {
                let said = self.running.rest_of_stderr().join("\n");
                ensure!(status.success(), "leaktrace ended with {status}:\n{said}");
                return Ok(());
            }
            if start.elapsed() > limit {
                bail!("leaktrace did not end within {limit:?}");
            }
        }
    }

    /// Reads its report.
    fn finish(mut self) -> Result<(Judged, Vec<String>, Option<PathBuf>)> {
        let text = fs::read_to_string(&self.report)
            .with_context(|| format!("no report in `{}`", self.report.display()))?;
        let mut report = serde_json::from_str(&text).context("the report is not JSON")?;
        complete_stacks(&mut report);
        let said = self.running.rest_of_stderr().iter().filter(|line| !line.starts_with(TRACING));
        let said = said.cloned().collect();
        Ok((Judged::of(&report), said, self.tape))
    }
}
