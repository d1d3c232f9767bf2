//! The exam of leaktrace's verdicts: `cargo xtask exam` runs this.
//!
//! Takes the committed tapes, or plays the programs live; prints the tables, and fails below what is promised. What a
//! play is, how it is judged and summed up is in `tests::exam`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

use std::{
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result, bail};
use tests::{
    exam::{
        committed, judged,
        live::{self, Playable, Played},
        recording::Recording,
        score::{Play, Score},
        tables,
    },
    page,
};

/// Plays at once by default: most of the time they sleep.
const JOBS: usize = 4;

const HELP: &str = "\
cargo xtask exam [--write]
    judges the committed tapes of tests/exam/tapes at ten cut times each; no root needed
cargo xtask exam --live [--jobs N] [--again] [--commit] [--write] [PROGRAM]…
    plays the programs of tests/exam and tests/victims/leaks_* under leaktrace (as root, for half an hour or more), writes
    their tapes into target/exam, and judges these; PROGRAM: only these, such as `http_cache` or `leaks_libevent`
    --jobs N   so many at once (4)
    --again    judges the tapes in target/exam without a new play
    --commit   puts the small tapes into tests/exam/tapes in place of the old ones of the same plays
--write puts the tables into docs/exam.md. Exit status 1: a verdict is not as good as promised.";

/// What to do.
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
#[derive(Debug, Default)]
struct Options {
    live: bool,
    again: bool,
    commit: bool,
    write: bool,
    jobs: Option<usize>,
    programs: Vec<String>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            match &*word {
                "--live" => options.live = true,
                "--again" => options.again = true,
                "--commit" => options.commit = true,
                "--write" => options.write = true,
                "--jobs" => {
                    let number = words.next().context("--jobs needs a number")?;
                    options.jobs = Some(number.parse()?);
                }
                _ if word.starts_with('-') => bail!("unknown option `{word}`\n{HELP}"),
                _ => options.programs.push(word),
            }
        }
        let needs_live = options.again || options.commit || options.jobs.is_some();
        if !options.live && (needs_live || !options.programs.is_empty()) {
            bail!("only with --live\n{HELP}");
        }
        if !options.programs.is_empty() && options.write {
            bail!("tables are written for all programs, not for some\n{HELP}");
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Options::parse(words.into_iter()).and_then(|options| run(&options)) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("exam: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    let (folder, mut broken) = (if options.live { live::folder() } else { committed::folder() }, 0);
    let mut wanted = None;
    if options.live {
        let programs: Vec<&str> = options.programs.iter().map(String::as_str).collect();
        let playables = Playable::all(&programs)?;
        wanted = Some(playables.iter().map(|one| one.name.clone()).collect::<Vec<_>>());
        if !options.again {
            broken = play(playables, options.jobs.unwrap_or(JOBS), &folder)?;
        }
    }
    let mut recordings = if folder.exists() { Recording::all(&folder)? } else { Vec::new() };
    let is_wanted = |name: &String| wanted.as_ref().is_none_or(|names| names.contains(name));
    recordings.retain(|recording| is_wanted(&recording.name()));
    if recordings.is_empty() {
        bail!("no tapes in `{}`; help: cargo xtask exam --live", folder.display());
    }
    if options.commit {
        println!(
            "too large to commit:\n{}",
            committed::replace(&recordings, !options.programs.is_empty())?
        );
    }
    let plays = judged(&recordings)?;
    let mut text = tables::text(&plays)?;
    if !options.live {
        text += &tables::left_out(&committed::left_out()?);
    }
    println!("{text}");
    if options.write {
        let section = if options.live { "cargo xtask exam --live" } else { "cargo xtask exam" };
        page::write("exam.md", section, &text)?;
    }
    Ok(result(&plays, broken))
}

/// Plays them; returns how many could not be played.
fn play(playables: Vec<Playable>, jobs: usize, folder: &Path) -> Result<usize> {
    let count = playables.len();
    let (ended, broken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    live::play(playables, jobs, folder, |Played { name, result }| {
        let number = ended.fetch_add(1, Ordering::Relaxed) + 1;
        let result = result.and_then(|(recording, report)| {
            let bytes = std::fs::metadata(&recording.tape)?.len();
            Ok(format!("{} KiB {}", bytes.div_ceil(1024), report.lost()?))
        });
        let result = result.unwrap_or_else(|error| {
            broken.fetch_add(1, Ordering::Relaxed);
            format!("could not be played: {error:#}")
        });
        eprintln!("{number}/{count} {name}: {result}");
    })?;
    Ok(broken.into_inner())
}

/// Prints what is below the promise.
fn result(plays: &[Play], broken: usize) -> ExitCode {
    let failures = Score::of(&plays.iter().collect::<Vec<_>>()).failures();
    for failure in &failures {
        eprintln!("exam: {failure}");
    }
    if broken > 0 {
        eprintln!("exam: {broken} plays could not be played");
    }
    if failures.is_empty() && broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
