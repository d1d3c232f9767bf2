//! One measurement: a fresh target, with or without a tracer, under a load of known duration. And many, interleaved.

use std::{
    fs,
    io::Write as _,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    bench_kernel,
    bench_variant::{Tracer, Variant},
    compile,
    process::{Background, note, output, target_dir},
};

/// Pause between the target's setup and the measurement: blocks of the setup are then older than a second, so none is
/// young any more, and the collector has them.
const SETTLES: Duration = Duration::from_secs(2);

/// A load, with its unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    /// Its name in messages.
    pub name: &'a str,
    /// The victim.
    pub program: &'a str,
    /// The victim's arguments after the seconds.
    pub dials: &'a [String],
    /// Additional options of leaktrace for this load.
    pub options: &'a [String],
    /// The measured figure.
    pub figure: Figure,
    /// Whether the victim answers a first `go` once it is set up.
    pub sets_up: bool,
}

/// The measured figure, and its source.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Figure {
    /// Requests per second, by `wrk`.
    Requests,
    /// A key of the victim's output.
    Said(&'static str),
}

/// One thread, malloc and free: nanoseconds per pair.
pub(crate) const LOOP: Load<'static> = Load::of("loop", Figure::Said("ns_per_pair"));
/// The libevent server under wrk: requests per second.
pub(crate) const SERVER: Load<'static> = Load::of("http_server", Figure::Requests);
/// Four threads that free each other's blocks: pairs per second.
pub(crate) const CROSS: Load<'static> = Load::of("cross", Figure::Said("pairs_per_s"));
/// Like the loop, at the bottom of a stack of 21 frames through libevent and libc: nanoseconds per pair.
pub(crate) const DEEP: Load<'static> = Load::of("deep", Figure::Said("ns_per_pair"));

impl Load<'static> {
    const fn of(program: &'static str, figure: Figure) -> Self {
        Self { name: program, program, dials: &[], options: &[], figure, sets_up: false }
    }
}

/// The results of a measurement.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sample {
    /// In the load's unit.
    pub figure: f64,
    /// CPU time of the tracer while the load ran, percent of one CPU.
    pub cpu_percent: Option<f64>,
    /// Peak resident memory of the tracer, KiB.
    pub peak_kib: Option<f64>,
    /// Losses in the tracer's report.
    pub lost: Option<f64>,
    /// Run time of the tracer's programs per hit; `None` unless the kernel's statistics are enabled.
    pub kernel_ns: Option<f64>,
}

/// A measurement that is repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    /// The tracer on the target.
    pub variant: &'a Variant,
    /// The load of the target.
    pub load: Load<'a>,
}

/// Runs all jobs one after the other in each round, so that a slow minute of the machine affects all of them. Results
/// by job, by round.
pub(crate) fn in_rounds(jobs: &[Job], rounds: u32, seconds: u32) -> Result<Vec<Vec<Sample>>> {
    let mut samples: Vec<Vec<Sample>> = jobs.iter().map(|_| Vec::new()).collect();
    for round in 1..=rounds {
        for (job, of_job) in jobs.iter().zip(&mut samples) {
            let sample = job.measure(seconds)?;
            let (load, variant) = (job.load.name, &job.variant.name);
            note(&format!("{round}/{rounds} {load} {variant}: {:.0}", sample.figure));
            of_job.push(sample);
        }
    }
    Ok(samples)
}

/// The run time of each job's programs, nanoseconds per hit, measured in a separate second each.
pub(crate) fn kernel_work(jobs: &[Job]) -> Result<Vec<Option<f64>>> {
    let counting = bench_kernel::counting()?;
    let one = |job: &Job| -> Result<Option<f64>> {
        if matches!(job.variant.tracer, Tracer::None) {
            return Ok(None);
        }
        let spent = job.measure(1)?.kernel_ns;
        let (load, variant) = (job.load.name, &job.variant.name);
        note(&format!("kernel work {load} {variant}: {:.0}", spent.unwrap_or(f64::NAN)));
        Ok(spent)
    };
    let all = jobs.iter().map(one).collect();
    drop(counting);
    all
}

impl Job<'_> {
    fn measure(&self, seconds: u32) -> Result<Sample> {
        measure(self.variant, self.load, seconds)
            .with_context(|| format!("{} on {}", self.variant.name, self.load.name))
    }
}

/// Measures once.
fn measure(variant: &Variant, load: Load, seconds: u32) -> Result<Sample> {
    let path = target_dir().join(format!("bench-{}.json", std::process::id()));
    let report = path.to_str().context("a path in UTF-8")?;
    let mut command = Command::new(compile::victim(load.program)?);
    match load.figure {
        Figure::Requests => command.arg("0"),
        Figure::Said(_) => command.arg(seconds.to_string()).args(load.dials),
    };
    let mut target = Background::start(&mut command)?;
    let mut lines = target.lines()?;
    let mut line = || anyhow::Ok(lines.next().context("the target ended too early")??);
    let hello = line()?;
    let mut tracer = variant.attach(target.pid(), report, load.options)?;
    if load.sets_up {
        send(&mut target, "go")?;
        line()?;
        if tracer.is_some() {
            thread::sleep(SETTLES);
        }
    }
    let look = |tracer: &Background| {
        anyhow::Ok((cpu_ticks(tracer.pid())?, bench_kernel::of(tracer.pid())?))
    };
    let before = tracer.as_ref().map(look).transpose()?;
    let start = Instant::now();
    let figure = match load.figure {
        Figure::Requests => wrk(hello.strip_prefix("listening ").context("a port")?, seconds)?,
        Figure::Said(key) => {
            send(&mut target, "go")?;
            let said: Value = serde_json::from_str(&line()?)?;
            said.get(key).and_then(Value::as_f64).with_context(|| format!("no `{key}`"))?
        }
    };
    let spent = start.elapsed().as_secs_f64();
    let mut sample = Sample { figure, ..Sample::default() };
    if let (Some(tracer), Some((ticks_before, work_before))) = (&mut tracer, before) {
        let (ticks, work) = look(tracer)?;
        // 100 ticks per second on every Linux: one tick per second is one percent.
        sample.cpu_percent = Some((ticks - ticks_before) / spent);
        sample.kernel_ns = work.per_hit_since(work_before);
        sample.peak_kib = status_kib(tracer.pid(), "VmHWM:");
        end(tracer)?;
        // Other tools write no report.
        let said = fs::read_to_string(report).ok();
        sample.lost = said.and_then(|text| lost(&serde_json::from_str(&text).ok()?));
    }
    if path.exists() {
        fs::remove_file(&path)?;
    }
    Ok(sample)
}

fn send(target: &mut Background, word: &str) -> Result<()> {
    let stdin = target.child().stdin.as_mut().context("stdin is piped")?;
    Ok(writeln!(stdin, "{word}")?)
}

/// Stops a tracer like Ctrl-C, and waits: its probes must be gone before the next measurement.
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
    // After the name, which may contain spaces, come the state and ten more numbers.
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

/// The losses in leaktrace's report; `None` if the text is no such report.
pub(crate) fn lost(report: &Value) -> Option<f64> {
    let reasons = report.pointer("/accounting/lost")?.as_object()?;
    // Not `sum`, which returns -0 for an empty list.
    Some(reasons.values().filter_map(Value::as_f64).fold(0.0, |sum, one| sum + one))
}
