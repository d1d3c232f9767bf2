//! The exam: programs of `tests/exam` that know what they leak, how to play them, and their truth.
//!
//! Takes the folders of `tests/exam` and the table `plays.txt`; hands on running programs and parsed truths. It judges
//! nothing, and knows no program by name.

pub mod committed;
pub mod judge;
pub mod live;
pub mod recording;
pub mod score;
pub mod tables;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{Victim, compile, workspace};
use recording::Recording;

/// A program of the exam.
#[derive(Debug, Clone)]
pub struct ExamProgram {
    /// Its name, which is that of its source.
    pub name: String,
    /// Its source file.
    pub source: PathBuf,
    /// Sources of its shared objects, in a folder of its name: libraries that it is linked with (`lib*.c`), and plugins
    /// that it loads.
    pub objects: Vec<PathBuf>,
    /// Whether no rule may be tuned on it.
    pub held_out: bool,
    /// How to play it: at least one way.
    pub plays: Vec<Play>,
}

/// A way to play a program: a line of `plays.txt`.
#[derive(Debug, Clone, PartialEq)]
pub struct Play {
    /// Its argument, if it has variants.
    pub variant: Option<String>,
    /// Seconds of work after which it has shown all that it does.
    pub seconds: f64,
    /// Seconds of work under leaktrace: more, where a leak shows slowly.
    pub exam_seconds: f64,
    /// Virtual seconds that pass in one of them.
    pub speed: f64,
    /// Whether leaktrace finds and follows its processes itself (`--children`). If not, those that it has forked before
    /// `go` are named.
    pub follows_children: bool,
    /// The functions that leak; none in a healthy program.
    pub leaks: BTreeSet<String>,
}

impl ExamProgram {
    /// All programs of all folders, in the order of their names.
    pub fn all() -> Result<Vec<Self>> {
        let exam = workspace().join("tests/exam");
        let table = fs::read_to_string(exam.join("plays.txt"))?;
        let mut plays: Vec<(String, Play)> = Vec::new();
        for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            plays.push(Play::parse(line).with_context(|| format!("plays.txt: `{line}`"))?);
        }
        let mut programs = Vec::new();
        for source in sources(&exam)? {
            let name = source.file_stem().context("a name")?.to_string_lossy().into_owned();
            let (own, others) = plays.into_iter().partition(|(program, _)| *program == name);
            plays = others;
            let own: Vec<(String, Play)> = own;
            ensure!(!own.is_empty(), "`{name}` has no line in tests/exam/plays.txt");
            programs.push(Self {
                held_out: source.parent().is_some_and(|folder| folder.ends_with("held_out")),
                objects: sources_in(&source.with_extension(""))?,
                name,
                source,
                plays: own.into_iter().map(|(_, play)| play).collect(),
            });
        }
        ensure!(plays.is_empty(), "no source for these lines of plays.txt: {plays:?}");
        programs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(programs)
    }

    /// Compiles it if needed, as `README.md` says. Its shared objects are then beside it.
    pub fn compile(&self) -> Result<PathBuf> {
        let mut linked = self.compile_objects()?;
        linked.retain(|object| {
            let prefix = format!("exam_{}_lib", self.name);
            object.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        });
        compile::exam_program(&self.source, &self.name, &linked)
    }

    /// Compiles its shared objects if needed.
    pub fn compile_objects(&self) -> Result<Vec<PathBuf>> {
        self.objects.iter().map(|source| compile::exam_object(source, &self.name)).collect()
    }

    /// Starts it for a play, and waits until it is ready: the moment to attach. `set_up` may add to the command.
    pub fn start(&self, play: &Play, set_up: impl FnOnce(&mut Command)) -> Result<ExamRun> {
        let mut command = Command::new(self.compile()?);
        command.args(&play.variant);
        set_up(&mut command);
        Ok(ExamRun { victim: Victim::start_command(&mut command)? })
    }
}

/// Judges recordings at their cut times, as many at once as there are processors.
pub fn judged(recordings: &[Recording]) -> Result<Vec<score::Play>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut plays = Vec::new();
        while let Some(recording) = recordings.get(next.fetch_add(1, Ordering::Relaxed)) {
            let play = score::Play::judge(recording);
            plays.push(play.with_context(|| format!("the tape of `{}`", recording.name()))?);
        }
        anyhow::Ok(plays)
    };
    let jobs = std::thread::available_parallelism()?.get();
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut plays = Vec::new();
    for of_thread in all {
        plays.extend(of_thread.map_err(|_panic| anyhow::anyhow!("a thread failed"))??);
    }
    plays.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(plays)
}

/// Sources of programs in the folders of the exam.
fn sources(exam: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in fs::read_dir(exam)? {
        found.extend(sources_in(&folder?.path())?);
    }
    Ok(found)
}

/// Sources in a folder, in the order of their names; none if there is no such folder.
fn sources_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.is_dir() {
        for file in fs::read_dir(folder)? {
            let file = file?.path();
            if file.extension().is_some_and(|end| end == "c" || end == "cpp") {
                found.push(file);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The option of `leaktrace` that a line of `plays.txt` may have.
const FOLLOW: &str = "--children";

impl Play {
    fn parse(line: &str) -> Result<(String, Self)> {
        let mut words = line.split_whitespace();
        let mut word = |what: &str| words.next().with_context(|| format!("no {what}"));
        let program = word("program")?.to_owned();
        let variant = Some(word("variant")?.to_owned()).filter(|variant| variant != "-");
        let seconds = word("seconds")?;
        let (seconds, exam_seconds) = seconds.split_once('-').unwrap_or((seconds, seconds));
        let (seconds, exam_seconds) = (seconds.parse()?, exam_seconds.parse()?);
        let speed = word("speed")?.parse()?;
        let (options, leaks): (Vec<&str>, Vec<&str>) =
            words.partition(|word| word.starts_with('-'));
        let unknown = options.iter().find(|option| **option != FOLLOW);
        ensure!(unknown.is_none(), "unknown option {unknown:?}; `{FOLLOW}` is the only one");
        let leaks = leaks.into_iter().map(str::to_owned).collect();
        let follows_children = !options.is_empty();
        Ok((program, Self { variant, seconds, exam_seconds, speed, follows_children, leaks }))
    }
}

/// A running program of the exam; killed when dropped.
#[derive(Debug)]
pub struct ExamRun {
    victim: Victim,
}

impl ExamRun {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.victim.pid()
    }

    /// Has it work for so many seconds.
    pub fn go(&mut self, seconds: f64, speed: f64) -> Result<()> {
        self.victim.send(&format!("go {seconds} {speed}"))
    }

    /// The processes to trace, as options of leaktrace. Those that it has forked before `go` are named, unless leaktrace
    /// is to follow children: the last of them is the one of the clients.
    pub fn traced(&self, play: &Play) -> Result<Vec<String>> {
        let pid = self.pid();
        if play.follows_children {
            return Ok(["-p", &pid.to_string(), FOLLOW].map(str::to_owned).to_vec());
        }
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let mut traced = vec![pid.to_string()];
        traced.extend(children.split_whitespace().map(str::to_owned));
        if traced.len() > 1 {
            traced.pop();
        }
        Ok(vec!["-p".to_owned(), traced.join(",")])
    }

    /// The line with its truth, when its work is done; it still holds everything.
    pub fn line(&self, limit: Duration) -> Result<String> {
        self.victim.line_within(limit)
    }

    /// The same, parsed.
    pub fn truth(&self, limit: Duration) -> Result<ExamTruth> {
        let line = self.line(limit)?;
        ExamTruth::parse(&line).with_context(|| format!("the truth is `{line}`"))
    }

    /// Has it exit, which must succeed.
    pub fn exit(&mut self) -> Result<()> {
        let status = self.victim.end()?;
        ensure!(status.success(), "ended with {status}");
        Ok(())
    }
}

/// What a program says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct ExamTruth {
    /// Its name.
    pub program: String,
    /// Its variant, if it has any.
    pub variant: Option<String>,
    /// What leaks.
    pub leaks: Vec<Leak>,
    /// What acquires but does not leak.
    pub healthy: Vec<Healthy>,
}

/// A function whose acquisitions are lost, all or a part of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Leak {
    /// The function.
    pub function: String,
    /// `heap`, `mmap`, `descriptor` or `thread`.
    pub kind: String,
    /// Seconds after `go`.
    pub began_s: f64,
    /// What is lost.
    pub lost: Held,
    /// What the function holds beside that.
    pub in_use: Held,
    /// Kinds of memory that the same objects hold, too.
    pub also: Vec<String>,
    /// Why it is lost: in one sentence, the same for all functions of one cause.
    pub cause: String,
}

/// A function that acquires but does not leak.
#[derive(Debug, Clone, PartialEq)]
pub struct Healthy {
    /// The function.
    pub function: String,
    /// `heap`, `mmap`, `descriptor` or `thread`.
    pub kind: String,
    /// Why what it holds is no leak.
    pub why: String,
    /// What it holds.
    pub outstanding: Held,
}

/// So many objects.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Objects.
    pub count: u64,
    /// The bytes that were asked for.
    pub bytes: u64,
}

impl Held {
    fn parse(found: &Value, count: &str, bytes: &str) -> Result<Self> {
        let number = |key: &str| {
            found.get(key).and_then(Value::as_u64).with_context(|| format!("`{key}` is no number"))
        };
        Ok(Self { count: number(count)?, bytes: number(bytes)? })
    }
}

impl std::ops::Add for Held {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { count: self.count + other.count, bytes: self.bytes + other.bytes }
    }
}

/// Kinds of resources; objects are those of a library.
const KINDS: [&str; 5] = ["heap", "mmap", "descriptor", "thread", "object"];

impl ExamTruth {
    /// Parses a truth, which must have the form that `tests/exam/README.md` describes.
    pub fn parse(line: &str) -> Result<Self> {
        let truth: Value = serde_json::from_str(line)?;
        has_keys(&truth, &["program", "seconds", "speed", "leaks", "healthy"], &["variant"])?;
        let list = |key: &str| {
            truth.get(key).and_then(Value::as_array).with_context(|| format!("no list `{key}`"))
        };
        Ok(Self {
            program: word(&truth, "program")?,
            variant: truth.get("variant").map(|_| word(&truth, "variant")).transpose()?,
            leaks: list("leaks")?.iter().map(Leak::parse).collect::<Result<_>>()?,
            healthy: list("healthy")?.iter().map(Healthy::parse).collect::<Result<_>>()?,
        })
    }

    /// The functions that leak.
    pub fn leaking(&self) -> BTreeSet<String> {
        self.leaks.iter().map(|leak| leak.function.clone()).collect()
    }

    /// Every function with the kind that it acquires and what it holds, lost or not.
    pub fn sites(&self) -> impl Iterator<Item = (&str, &str, Held)> {
        let leaks = self.leaks.iter();
        let leaks = leaks.map(|leak| (&*leak.function, &*leak.kind, leak.lost + leak.in_use));
        let healthy = self.healthy.iter();
        leaks.chain(healthy.map(|site| (&*site.function, &*site.kind, site.outstanding)))
    }
}

impl Leak {
    fn parse(found: &Value) -> Result<Self> {
        const BYTES: [&str; 3] = ["bytes", "in_use_count", "in_use_bytes"];
        let keys =
            [&["function", "kind", "began_s", "count", "also", "cause"], &BYTES[..]].concat();
        has_keys(found, &keys, &[])?;
        let also = found.get("also").and_then(Value::as_array).context("no list `also`")?;
        let also: Vec<String> = also.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        ensure!(also.iter().all(|kind| KINDS.contains(&&**kind)), "`also` is {also:?}");
        let lost = Held::parse(found, "count", "bytes")?;
        ensure!(lost.count > 0, "a leak of nothing");
        Ok(Self {
            function: word(found, "function")?,
            kind: kind(found)?,
            began_s: found.get("began_s").and_then(Value::as_f64).context("no `began_s`")?,
            lost,
            in_use: Held::parse(found, "in_use_count", "in_use_bytes")?,
            also,
            cause: word(found, "cause")?,
        })
    }
}

impl Healthy {
    fn parse(found: &Value) -> Result<Self> {
        const HELD: [&str; 2] = ["outstanding_count", "outstanding_bytes"];
        has_keys(found, &["function", "kind", "why", HELD[0], HELD[1]], &[])?;
        Ok(Self {
            function: word(found, "function")?,
            kind: kind(found)?,
            why: word(found, "why")?,
            outstanding: Held::parse(found, HELD[0], HELD[1])?,
        })
    }
}

fn has_keys(found: &Value, needed: &[&str], optional: &[&str]) -> Result<()> {
    let map = found.as_object().context("no object")?;
    if let Some(key) = needed.iter().find(|key| !map.contains_key(**key)) {
        bail!("no `{key}` in {found}");
    }
    let known = |key: &&String| needed.iter().chain(optional).any(|one| one == key);
    match map.keys().find(|key| !known(key)) {
        Some(key) => bail!("`{key}` is unknown in {found}"),
        None => Ok(()),
    }
}

fn word(found: &Value, key: &str) -> Result<String> {
    let text = found.get(key).and_then(Value::as_str).unwrap_or_default();
    ensure!(!text.is_empty(), "no `{key}` in {found}");
    Ok(text.to_owned())
}

fn kind(found: &Value) -> Result<String> {
    let kind = word(found, "kind")?;
    ensure!(KINDS.contains(&&*kind), "the kind `{kind}`");
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_names_what_leaks_and_whether_children_are_followed() -> Result<()> {
        let (program, play) = Play::parse("server  leaks  60-90 2  --children copy_name keep_row")?;
        assert_eq!((&*program, play.variant.as_deref()), ("server", Some("leaks")));
        assert_eq!((play.seconds, play.exam_seconds, play.speed), (60.0, 90.0, 2.0));
        assert!(play.follows_children && play.leaks.iter().eq(["copy_name", "keep_row"]));
        let (_, play) = Play::parse("server - 60 1")?;
        assert!(play.variant.is_none() && !play.follows_children && play.leaks.is_empty());
        assert!(Play::parse("server - 60 1 --child").is_err());
        Ok(())
    }
}
