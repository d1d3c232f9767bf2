//! Plays programs of the exam under a running leaktrace, and records them.
//!
//! Takes plays and a folder, hands on recordings: a tape each, with the play's truth beside it. Needs root. It judges
//! nothing.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    ExamProgram, ExamTruth, Play,
    recording::{Group, Recording},
};
use crate::{
    Report, Trace, Victim,
    leaks::{self, Case, LIBRARIES},
};

/// All kinds of resources.
const KINDS: &str = "heap,mmap,object,fd,socket,thread";

/// Objects of a library's program: four a second for a minute.
const OBJECTS: u64 = 240;
/// Seconds in which it makes them. Where each comes with two more of its kind, it takes three times as long.
const OBJECTS_SECONDS: f64 = 60.0;

/// What a busy machine, and a program of a library, may need in addition to the seconds of work.
const PATIENCE: Duration = Duration::from_secs(240);

/// A day, for times of the day.
const DAY_S: f64 = 86_400.0;

/// Something to play.
#[derive(Debug, Clone)]
pub struct Playable {
    /// Program and variant.
    pub name: String,
    /// What it is evidence of.
    pub group: Group,
    work: Work,
}

#[derive(Debug, Clone)]
enum Work {
    /// A program of the exam.
    Exam { program: ExamProgram, play: Play },
    /// A program that leaks a library's objects, or its corrected twin.
    Library { library: &'static str, case: Case, leaks: bool },
}

impl Playable {
    /// Everything that can be played, of these programs only if any are named: `http_cache`, or `leaks_libevent`.
    pub fn all(programs: &[&str]) -> Result<Vec<Self>> {
        let is_wanted = |name: &str| programs.is_empty() || programs.contains(&name);
        let mut all = Vec::new();
        for program in ExamProgram::all()?.into_iter().filter(|program| is_wanted(&program.name)) {
            for play in &program.plays {
                let variant = play.variant.iter().map(|variant| format!("-{variant}"));
                all.push(Self {
                    name: program.name.clone() + &variant.collect::<String>(),
                    group: if program.held_out { Group::HeldOut } else { Group::Open },
                    work: Work::Exam { program: program.clone(), play: play.clone() },
                });
            }
        }
        for library in LIBRARIES {
            let name = format!("leaks_{library}");
            if !is_wanted(&name) {
                continue;
            }
            for case in leaks::cases(&leaks::program(library)?)? {
                for (leaks, word) in [(true, "leak"), (false, "corrected")] {
                    all.push(Self {
                        name: format!("{name}-{}-{word}", case.name),
                        group: Group::Library,
                        work: Work::Library { library, case: case.clone(), leaks },
                    });
                }
            }
        }
        let known = |program: &&&str| {
            let starts = |one: &Self| one.name.split('-').next() == Some(**program);
            all.iter().any(starts)
        };
        if let Some(unknown) = programs.iter().find(|program| !known(program)) {
            anyhow::bail!("no program `{unknown}` in tests/exam/plays.txt, or in tests/victims");
        }
        Ok(all)
    }

    /// Seconds of work.
    fn seconds(&self) -> f64 {
        match &self.work {
            Work::Exam { play, .. } => play.exam_seconds,
            Work::Library { .. } => OBJECTS_SECONDS,
        }
    }

    /// Plays it, and writes tape and truth into the folder.
    fn record(&self, folder: &Path) -> Result<(Recording, Report)> {
        let tape = folder.join(&self.name).with_extension("tape");
        let truth = tape.with_extension("json");
        if truth.exists() {
            // That of an earlier play; if this one fails, there is none.
            fs::remove_file(truth)?;
        }
        let limit = Duration::from_secs_f64(self.seconds()) + PATIENCE;
        let (report, line, went, ended) = match &self.work {
            Work::Exam { program, play } => {
                let mut run = program.start(play, |_| {})?;
                let trace = attach(&run.traced(play)?, &tape)?;
                let went = SystemTime::now();
                run.go(play.exam_seconds, play.speed)?;
                let line = run.line(limit)?;
                let ended = SystemTime::now();
                let report = trace.stop()?;
                run.exit()?;
                (report, line, went, ended)
            }
            Work::Library { library, case, leaks } => {
                let way = if *leaks { "leak" } else { "corrected" };
                let (objects, seconds) = (OBJECTS.to_string(), OBJECTS_SECONDS.to_string());
                let arguments = [&*case.name, way, &objects, &seconds];
                let mut victim = Victim::start_program(&leaks::program(library)?, &arguments)?;
                let pack = leaks::pack(library).map(|pack| pack.display().to_string());
                let pid = victim.pid().to_string();
                let mut options = vec!["-p".to_owned(), pid];
                options.extend(pack.into_iter().flat_map(|pack| ["--pack".to_owned(), pack]));
                let trace = attach(&options, &tape)?;
                let went = SystemTime::now();
                victim.go()?;
                let said = victim.line_within(limit)?;
                let ended = SystemTime::now();
                let report = trace.stop()?;
                victim.exit()?;
                let said: Value = serde_json::from_str(&said)?;
                ensure!(said.get("error").is_none(), "the program is broken: {said}");
                let most_live = said.get("most_live").and_then(Value::as_u64);
                let most_live = most_live.context("no `most_live`")?;
                let truth = truth_of_library(library, case, *leaks, most_live);
                (report, truth.to_string(), went, ended)
            }
        };
        let started_at_s = started_at_s(&report)?;
        let recording = Recording {
            tape,
            group: self.group,
            seconds: round_ms(ended.duration_since(went)?.as_secs_f64()),
            // Tracing may have begun before midnight.
            go_s: round_ms((time_of_day(went)? - started_at_s).rem_euclid(DAY_S)),
            truth: ExamTruth::parse(&line)?,
            line: serde_json::from_str(&line)?,
        };
        recording.is_anonymous()?;
        recording.write()?;
        Ok((recording, report))
    }
}

/// Attaches to what these options say, with everything traced and recorded.
fn attach(options: &[String], tape: &Path) -> Result<Trace> {
    let tape = tape.to_str().context("a path in UTF-8")?;
    let mut all: Vec<&str> = options.iter().map(String::as_str).collect();
    all.extend(["--kind", KINDS, "--record", tape, "--redact"]);
    let mut trace = Trace::start(&all)?;
    trace.wait_until_attached()?;
    Ok(trace)
}

/// What is true of a library's program, as those of the exam say it. Some corrected ones keep all their objects until the
/// end: nobody could know before that these are released.
fn truth_of_library(library: &str, case: &Case, leaks: bool, most_live: u64) -> Value {
    let kind = match &*case.kind {
        "heap" => "heap",
        "fd" | "socket" => "descriptor",
        _ => "object",
    };
    let way = if leaks { "leak" } else { "corrected" };
    let mut truth = json!({
        "program": format!("leaks_{library}"), "variant": format!("{}-{way}", case.name),
        "seconds": OBJECTS_SECONDS, "speed": 1, "leaks": [], "healthy": [],
    });
    let leak = |function: &str| {
        json!({"function": function, "kind": kind, "began_s": 0.0, "count": OBJECTS, "bytes": 0,
            "in_use_count": 0, "in_use_bytes": 0, "also": [], "cause": case.name})
    };
    let site = if leaks {
        leak(&case.function)
    } else {
        let at_once = most_live < OBJECTS / 2;
        let why = if at_once { "released at once" } else { "backlog: released at the end" };
        json!({"function": case.function, "kind": kind, "why": why,
            "outstanding_count": 0, "outstanding_bytes": 0})
    };
    let list = truth.pointer_mut(if leaks { "/leaks" } else { "/healthy" });
    if let Some(list) = list.and_then(Value::as_array_mut) {
        list.push(site);
        list.extend(case.also.iter().filter(|_| leaks).map(|function| leak(function)));
    }
    truth
}

/// Seconds since midnight, UTC.
fn time_of_day(time: SystemTime) -> Result<f64> {
    Ok(time.duration_since(UNIX_EPOCH)?.as_secs_f64().rem_euclid(DAY_S))
}

/// When the tracing of a report began: seconds since midnight, UTC.
fn started_at_s(report: &Report) -> Result<f64> {
    let text = report.at("/window/started_at")?.as_str().context("`started_at` is no text")?;
    seconds_of_day(text).with_context(|| format!("the time `{text}`"))
}

/// Seconds since midnight of a time such as `2026-11-30T04:17:08.147Z`.
fn seconds_of_day(text: &str) -> Option<f64> {
    let (_, time) = text.strip_suffix('Z')?.split_once('T')?;
    let parts = time.split(':').map(|part| part.parse::<f64>().ok());
    let [hours, minutes, seconds] = parts.collect::<Option<Vec<f64>>>()?[..] else { return None };
    Some(hours * 3600.0 + minutes * 60.0 + seconds)
}

fn round_ms(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// The result of one play.
#[derive(Debug)]
pub struct Played {
    /// Program and variant.
    pub name: String,
    /// The recording and the last report, or why there is none.
    pub result: Result<(Recording, Report)>,
}

/// Plays all of them, so many at once, the longest first. Passes each result on when it is there.
pub fn play(
    mut playables: Vec<Playable>,
    jobs: usize,
    folder: &Path,
    done: impl Fn(Played) + Sync,
) -> Result<()> {
    fs::create_dir_all(folder)?;
    playables.sort_by(|one, other| other.seconds().total_cmp(&one.seconds()));
    let left = Mutex::new(VecDeque::from(playables));
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(playable) = next() {
                    let result = playable.record(folder);
                    done(Played { name: playable.name, result });
                }
            });
        }
    });
    Ok(())
}

/// Where recordings of live plays are.
pub fn folder() -> PathBuf {
    crate::target_dir().join("exam")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_read_from_a_report() {
        assert_eq!(seconds_of_day("2026-11-30T04:17:08.250Z"), Some(15_428.25));
        assert_eq!(seconds_of_day("2026-11-30"), None);
    }

    #[test]
    fn the_truth_of_a_library_is_one_of_the_exam() {
        let case = Case {
            name: "ssl_not_freed".to_owned(),
            kind: "SSL".to_owned(),
            function: "open_tls".to_owned(),
            also: Some("connect_peer".to_owned()),
        };
        let parse = |leaks, most_live| {
            let truth = truth_of_library("openssl", &case, leaks, most_live);
            ExamTruth::parse(&truth.to_string()).unwrap()
        };
        let (leaks, corrected) = (parse(true, 240), parse(false, 1));
        assert_eq!((leaks.leaks.len(), leaks.healthy.len()), (2, 0));
        assert_eq!(leaks.leaks[0].cause, leaks.leaks[1].cause);
        assert_eq!((corrected.leaks.len(), &*corrected.healthy[0].function), (0, "open_tls"));
        assert!(parse(false, 240).healthy[0].why.starts_with("backlog"));
    }
}
