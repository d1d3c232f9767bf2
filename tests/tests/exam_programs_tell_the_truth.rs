//! The truths of the exam programs, checked by a witness that counts below them. Needs neither root nor leaktrace.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tests::{
    compile,
    exam::{ExamProgram, ExamTruth, Held, Play},
    exam_witness::{Functions, Witnessed},
    scratch,
};

/// How long each play takes, whatever its virtual time: the speed makes up for it.
const SECONDS: f64 = 2.0;

/// Plays at once. Each mostly sleeps: at its usual speed it takes a few percent of a processor.
const SIDE_BY_SIDE: usize = 8;

/// What a truth need not list: a block of the C library for each thread, of which programs start eight at most, and a
/// few things from the start.
const UNLISTED: u64 = 12;

/// Descriptors in `/proc`.
fn descriptors(pid: u32) -> Result<u64> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
}

/// Plays a program beside the witness, and compares.
fn is_true(program: &ExamProgram, play: &Play) -> Result<()> {
    let variant = play.variant.as_deref().unwrap_or("only");
    let note = scratch(&format!("exam-{}-{variant}", program.name))?;
    let witness = compile::exam_witness()?;
    let mut run = program.start(play, |command| {
        command.env("LD_PRELOAD", &witness).env("EXAM_WITNESS", &note);
    })?;
    let before = descriptors(run.pid())?;
    run.go(SECONDS, play.seconds * play.speed / SECONDS)?;
    let truth = run.truth(Duration::from_secs(60))?;
    let after = descriptors(run.pid())?;

    ensure!(truth.program == program.name && truth.variant == play.variant, "{truth:?}");
    ensure!(truth.leaking() == play.leaks, "plays.txt says that {:?} leaks", play.leaks);
    ensure!(truth.leaks.iter().all(|leak| (0.0..=SECONDS).contains(&leak.began_s)), "{truth:?}");
    let functions = Functions::of(&program.compile()?, &program.compile_objects()?)?;
    let wanted: BTreeSet<&str> = truth.sites().map(|(function, ..)| function).collect();
    for function in &wanted {
        ensure!(functions.has(function), "`{function}` is not one function of the program");
    }
    let seen = Witnessed::parse(&fs::read_to_string(&note)?, &functions, &wanted)?;
    compare(&truth, &seen)?;
    // The witness sees calls by their names: this is whether it saw all of them.
    ensure!(after == before + seen.descriptors, "{before}, then {after} descriptors: {seen:?}");
    fs::remove_file(&note)?;
    run.exit()
}

/// Compares a truth with what the witness saw.
fn compare(truth: &ExamTruth, seen: &Witnessed) -> Result<()> {
    for (function, kind, held) in truth.sites() {
        let key = (function.to_owned(), kind.to_owned());
        let mut witnessed = seen.by_function.get(&key).copied().unwrap_or_default();
        if kind == "thread" {
            // The stack belongs to the C library.
            witnessed.bytes = held.bytes;
        }
        ensure!(witnessed == held, "`{function}` holds {held:?} of {kind}; seen: {witnessed:?}");
    }
    for (kind, held) in &seen.by_others {
        ensure!(held.count <= UNLISTED, "{held:?} of {kind} belong to no function of the truth");
    }
    // A thread has memory of the C library's own.
    for leak in truth.leaks.iter().filter(|leak| leak.kind != "thread") {
        let others = seen.by_function.iter().filter(|((function, kind), held)| {
            *function == leak.function && *kind != leak.kind && **held != Held::default()
        });
        let others: BTreeSet<&str> = others.map(|((_, kind), _)| &**kind).collect();
        let also = leak.also.iter().map(|kind| &**kind).collect();
        ensure!(others == also, "`{}` also holds {others:?}, not {also:?}", leak.function);
    }
    Ok(())
}

#[test]
fn each_program_of_the_exam_counts_as_a_witness_does() -> Result<()> {
    let programs = ExamProgram::all()?;
    let plays: Vec<(&ExamProgram, &Play)> = programs
        .iter()
        .flat_map(|program| program.plays.iter().map(move |play| (program, play)))
        .collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some((program, play)) = plays.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Err(error) = is_true(program, play) else { continue };
                    let variant = play.variant.as_deref().unwrap_or_default();
                    let failure = format!("{} {variant}: {error:#}", program.name);
                    failures.lock().unwrap().push(failure);
                }
            });
        }
    });
    let failures = failures.into_inner().ok().context("a poisoned lock")?;
    ensure!(failures.is_empty(), "{} of {}:\n{}", failures.len(), plays.len(), failures.join("\n"));
    Ok(())
}

#[test]
fn a_third_of_the_exam_is_held_out_and_two_fifths_of_the_rest_are_healthy() -> Result<()> {
    let programs = ExamProgram::all()?;
    let held_out = programs.iter().filter(|program| program.held_out).count();
    assert!(held_out * 3 >= programs.len(), "{held_out} of {}", programs.len());
    let open = programs.iter().filter(|program| !program.held_out);
    let plays: Vec<&Play> = open.flat_map(|program| &program.plays).collect();
    let healthy = plays.iter().filter(|play| play.leaks.is_empty()).count();
    assert!(healthy * 5 >= plays.len() * 2, "{healthy} of {}", plays.len());
    Ok(())
}
