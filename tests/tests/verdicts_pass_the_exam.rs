//! The committed tapes of the exam: the verdicts on them are as good as docs/exam.md promises. Needs no root.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};
use tests::exam::{
    ExamProgram, committed, judged,
    recording::{Group, Recording},
    score::Score,
    tables,
};

#[test]
fn verdicts_at_ten_moments_of_each_tape_are_as_right_as_promised() -> Result<()> {
    let recordings = Recording::all(&committed::folder())?;
    for group in Group::ALL {
        let has_some = recordings.iter().any(|recording| recording.group == group);
        ensure!(has_some, "no tape of the group `{}`", group.name());
    }
    let plays = judged(&recordings)?;
    println!("{}", tables::text(&plays)?);
    let failures = Score::of(&plays.iter().collect::<Vec<_>>()).failures();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn each_play_has_a_tape_or_is_listed_as_too_large() -> Result<()> {
    let recordings = Recording::all(&committed::folder())?;
    let mut found: BTreeSet<String> = recordings.iter().map(Recording::name).collect();
    let left_out = committed::left_out()?;
    found.extend(left_out.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned));
    found.retain(|name| !name.starts_with("leaks_"));
    let mut plays = BTreeSet::new();
    for program in ExamProgram::all()? {
        for play in &program.plays {
            let variant = play.variant.iter().map(|variant| format!("-{variant}"));
            plays.insert(program.name.clone() + &variant.collect::<String>());
        }
    }
    assert_eq!(found, plays);
    Ok(())
}

#[test]
fn each_tape_has_its_truth_and_nothing_of_the_machine() -> Result<()> {
    let recordings = Recording::all(&committed::folder())?;
    let with_truth: BTreeSet<String> = recordings.iter().map(Recording::name).collect();
    let mut tapes = BTreeSet::new();
    for entry in fs::read_dir(committed::folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "tape") {
            let name = path.file_stem().context("a name")?;
            tapes.insert(name.to_string_lossy().into_owned());
        }
    }
    assert_eq!(tapes, with_truth);
    recordings.iter().try_for_each(Recording::is_anonymous)
}
