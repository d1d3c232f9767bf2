//! Memory and limits of the whole process, beside what a program says of itself that fills up at a known rate: what is
//! used is exact, and the limit is reached within the interval that was forecast.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests::{Report, Trace, Victim, compile, wait_until};

/// For a program that fills up on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The victim with these limits (options of `prlimit`).
fn start(limits: &[&str], arguments: &[&str]) -> Result<Victim> {
    let program = compile::victim("fills")?;
    Victim::start_command(Command::new("prlimit").args(limits).arg(program).args(arguments))
}

/// The limit of this kind.
fn limit<'a>(report: &'a Report, what: &str) -> Result<&'a Value> {
    let limits = report.list("/limits")?;
    let found = limits.iter().find(|one| one["what"] == what);
    found.with_context(|| format!("no `{what}` in {limits:#?}"))
}

/// What is used, and the limit.
fn used(report: &Report, what: &str) -> Result<(u64, u64)> {
    let one = limit(report, what)?;
    let number = |key: &str| one[key].as_u64().with_context(|| format!("no `{key}`: {one}"));
    Ok((number("used")?, number("limit")?))
}

/// A number that the victim says.
fn said(answer: &Value, key: &str) -> Result<u64> {
    answer[key].as_u64().with_context(|| format!("no `{key}`: {answer}"))
}

/// What is used is what the program says, with these options.
fn is_exact(options: &[&str]) -> Result<()> {
    let limits = ["--nofile=700:900", "--as=8589934592", "--data=4294967296"];
    let mut victim = start(&limits, &["100", "300", "4000000", "5", "2"])?;
    let pid = victim.pid();
    let trace = Trace::attach(pid, options)?;
    victim.go()?;
    let answer = victim.answer()?;
    let report = trace.stop()?;
    let map_count = fs::read_to_string("/proc/sys/vm/max_map_count")?.trim().parse()?;
    assert_eq!(used(&report, "open files (RLIMIT_NOFILE)")?, (said(&answer, "open_files")?, 700));
    // The kernel adds a mapping for probes, `[uprobes]`, before the program answers: both count it.
    let mappings = (said(&answer, "mappings")?, map_count);
    assert_eq!(used(&report, "mappings (vm.max_map_count)")?, mappings);
    assert_eq!(used(&report, "address space (RLIMIT_AS)")?.1, 8 << 30);
    assert_eq!(used(&report, "data (RLIMIT_DATA)")?.1, 4 << 30);
    assert_eq!(limit(&report, "open files (RLIMIT_NOFILE)")?["pid"].as_u64(), Some(pid.into()));
    assert!(limit(&report, "memory (system)")?["pid"].is_null());
    // Six stacks; between the two readings only the first thread's, which prints, may have grown by a page or two.
    let stacks = report.number("/memory/stacks_bytes")?;
    let of_program = said(&answer, "stacks_bytes")?;
    assert!(of_program > 5 * 20 * 4096, "{answer}");
    assert!(stacks.abs_diff(of_program) <= 2 * 4096, "{stacks}, {answer}");
    let anonymous = report.number("/memory/anon_bytes")?;
    let touched = said(&answer, "touched_bytes")?;
    assert!(anonymous >= touched + of_program && anonymous < touched + (8 << 20), "{anonymous}");
    let resident = report.number("/memory/rss_bytes")?;
    let file = report.number("/memory/file_bytes")?;
    assert_eq!(resident, anonymous + file + report.number("/memory/shared_bytes")?);
    victim.exit()
}

#[test]
fn what_is_used_is_what_the_program_says() -> Result<()> {
    is_exact(&["--kind", "heap"])
}

#[test]
fn what_is_used_is_what_the_program_says_where_descriptors_are_traced() -> Result<()> {
    is_exact(&["--kind", "heap,mmap,fd,socket"])
}

#[test]
fn what_is_used_is_what_the_program_says_in_light_mode() -> Result<()> {
    is_exact(&["--light"])
}

/// The descriptors run out when the report said.
fn runs_out_in_time(options: &[&str]) -> Result<()> {
    let mut victim = start(&["--nofile=2000"], &["60", "0", "0", "1", "100"])?;
    let trace = Trace::attach(victim.pid(), &[&["-d", "20s"], options].concat())?;
    victim.go()?;
    let report = trace.finish()?;
    let answer = victim.answer()?;
    let full_s = answer
        .get("full_at")
        .and_then(Value::as_f64)
        .with_context(|| format!("not full: {answer}"))?;
    let started = report.at("/window/started_at")?.as_str().context("a text")?;
    let started = humantime_seconds(started)?;
    let now_s = started + report.at("/window/duration_s")?.as_f64().context("a number")?;
    let time = &limit(&report, "open files (RLIMIT_NOFILE)")?["time_to_limit_s"];
    let [low, high] = ["low", "high"].map(|key| time[key].as_f64());
    let (Some(low), Some(high)) = (low, high) else { bail!("no forecast: {}", report.summary()) };
    let left = full_s - now_s;
    // The program looks at the clock every 5 ms, and a busy machine delays it.
    ensure!((low - 0.5..=high + 0.5).contains(&left), "{left} s, not {time}");
    ensure!(high - low < 0.2 * left, "too wide for a steady rate: {time}");
    victim.exit()
}

/// Seconds since 1970 of a time in RFC 3339, by `date`.
fn humantime_seconds(text: &str) -> Result<f64> {
    let date = Command::new("date").args(["-u", "+%s.%N", "-d", text]).output()?;
    let seconds: f64 = String::from_utf8(date.stdout)?.trim().parse()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    ensure!((0.0..600.0).contains(&(now - seconds)), "{text}");
    Ok(seconds)
}

#[test]
fn descriptors_run_out_when_it_was_forecast() -> Result<()> {
    runs_out_in_time(&["--kind", "heap"])
}

#[test]
fn descriptors_that_are_traced_run_out_when_it_was_forecast() -> Result<()> {
    runs_out_in_time(&["--kind", "fd,socket"])
}

#[test]
fn an_idle_program_reaches_no_limit() -> Result<()> {
    let mut victim = start(&["--nofile=700"], &["0", "0", "0", "3", "0"])?;
    let trace = Trace::attach(victim.pid(), &["-d", "15s", "--kind", "heap,fd,socket"])?;
    victim.go()?;
    victim.answer()?;
    let report = trace.finish()?;
    // Others may fill the system, or a control group that they are in, too.
    let own = report.list("/limits")?.iter().filter(|one| !one["pid"].is_null());
    let forecasts: Vec<_> = own.filter(|one| !one["time_to_limit_s"].is_null()).collect();
    ensure!(forecasts.is_empty(), "{forecasts:#?}");
    ensure!(report.at("/fds/seconds_to_limit")?.is_null(), "{}", report.summary());
    ensure!(report.at("/memory/explained_growth")?.is_null(), "{}", report.summary());
    victim.exit()
}

#[test]
fn growth_is_explained_by_what_is_outstanding() -> Result<()> {
    // It leaks 200 KB a second, in blocks of 100 bytes that take 112.
    let mut victim = Victim::start("steady_leak", &["2000", "20"])?;
    let trace = Trace::attach(victim.pid(), &["-d", "12s", "--kind", "heap"])?;
    victim.go()?;
    let report = trace.finish()?;
    let explained = report.at("/memory/explained_growth")?.as_f64();
    ensure!(explained.is_some_and(|share| (0.75..1.0).contains(&share)), "{explained:?}");
    victim.kill()
}

/// A control group of its own, removed when dropped.
struct Group(Vec<PathBuf>, String);

impl Group {
    /// A group with limits of memory and threads; `None` with the reason where control groups cannot be made.
    fn new(name: &str, bytes: u64, threads: u64) -> Result<Self, String> {
        let name = format!("leaktrace-{name}-{}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let second = root.join("cgroup.controllers").exists();
        let (folders, files) = if second {
            let folder = root.join(&name);
            let files = [folder.join("memory.max"), folder.join("pids.max")];
            (vec![folder], files)
        } else {
            let [memory, pids] = ["memory", "pids"].map(|one| root.join(one).join(&name));
            let files = [memory.join("memory.limit_in_bytes"), pids.join("pids.max")];
            (vec![memory, pids], files)
        };
        let group = Self(folders, format!("/{name}"));
        for folder in &group.0 {
            fs::create_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        for (file, limit) in files.iter().zip([bytes, threads]) {
            fs::write(file, limit.to_string())
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(group)
    }

    fn add(&self, pid: u32) -> Result<()> {
        for folder in &self.0 {
            fs::write(folder.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.0 {
            // Its process has just ended: the kernel takes it out a moment later.
            drop(wait_until("the group is empty", Duration::from_secs(10), || {
                Ok(fs::remove_dir(folder).is_ok() || !folder.exists())
            }));
        }
    }
}

#[test]
fn memory_of_a_control_group_runs_out_when_it_was_forecast() -> Result<()> {
    let (bytes, threads) = (256 << 20, 32);
    let group = match Group::new("limits", bytes, threads) {
        Ok(group) => group,
        Err(why) => {
            println!("skipped: no control group can be made: {why}");
            return Ok(());
        }
    };
    // 4 MiB a second: a minute until the limit. It stops after 25 s.
    let mut victim = start(&["--nofile=700"], &["0", "0", "4194304", "5", "25"])?;
    group.add(victim.pid())?;
    let trace = Trace::attach(victim.pid(), &["-d", "18s", "--kind", "heap"])?;
    victim.go()?;
    let report = trace.finish()?;
    let memory = format!("memory (cgroup {})", group.1);
    let (used_bytes, limit_bytes) = used(&report, &memory)?;
    assert_eq!(limit_bytes, bytes);
    let anonymous = report.number("/memory/anon_bytes")?;
    // What the program had before it came into the group is not the group's.
    ensure!(used_bytes.abs_diff(anonymous) < 8 << 20, "{used_bytes}, {anonymous}");
    let time = &limit(&report, &memory)?["time_to_limit_s"];
    let [low, high] = ["low", "high"].map(|key| time[key].as_f64());
    let (Some(low), Some(high)) = (low, high) else { bail!("no forecast: {}", report.summary()) };
    let left = (bytes - used_bytes) as f64 / 4_194_304.0;
    ensure!((low - 1.0..=high + 1.0).contains(&left), "{left} s, not {time}");
    assert_eq!(used(&report, &format!("threads (cgroup {})", group.1))?, (6, threads));
    victim.line_within(LIMIT)?;
    victim.exit()
}
