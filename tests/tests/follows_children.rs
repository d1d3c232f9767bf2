//! `--children`: processes that targets fork and start are traced from their first instruction on, and blocks that a
//! child inherited are reported apart from blocks that it acquired.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    Report, Trace,
    child::Running,
    compile,
    family::{self, HELD, OWN, number, said, targets},
};

/// Time limit from `go` to a process's line.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a case and compares every process's account with the report.
fn play(case: &str, members: usize, options: &[&str], keys: &[&'static str]) -> Result<Report> {
    let mut root = Running::start(Command::new(compile::victim("family")?).arg(case))?;
    ensure!(root.line(LIMIT)? == "ready", "a victim says `ready` first");
    let trace = Trace::attach(root.pid(), options)?;
    root.send("go")?;
    let mut truths = Vec::new();
    while truths.len() < members {
        let line = root.line(LIMIT)?;
        if line == "ready" {
            // The same process after exec of another program.
            root.send("go")?;
            continue;
        }
        truths.push(serde_json::from_str::<Value>(&line).with_context(|| line.clone())?);
    }
    let report = trace.stop()?;
    root.send("exit")?;
    family::compare(&report, &truths, keys)?;
    Ok(report)
}

#[test]
fn parent_and_child_each_release_a_half_and_acquire_more() -> Result<()> {
    for _ in 0..3 {
        let report = play("halves", 2, &["--children"], &OWN)?;
        let targets = targets(&report)?;
        ensure!(targets.len() == 2 && targets[1].1 == Some(targets[0].0), "{targets:?}");
    }
    Ok(())
}

#[test]
fn children_of_children() -> Result<()> {
    let report = play("generations", 4, &["--children"], &OWN)?;
    ensure!(targets(&report)?.len() == 4, "{:?}", targets(&report)?);
    Ok(())
}

#[test]
fn forks_while_four_threads_allocate_at_full_speed() -> Result<()> {
    play("threads", 6, &["--children"], &OWN).map(drop)
}

#[test]
fn forty_children_one_after_the_other() -> Result<()> {
    let report = play("many", 41, &["--children"], &OWN)?;
    let exited = report.list("/targets")?.iter().filter(|one| !one["exited"].is_null()).count();
    ensure!(exited == 40, "{exited} exited");
    Ok(())
}

#[test]
fn a_child_that_executes_another_program() -> Result<()> {
    play("exec", 2, &["--children"], &HELD).map(drop)
}

#[test]
fn a_program_started_without_a_copy_of_its_parent() -> Result<()> {
    play("spawn", 2, &["--children"], &OWN).map(drop)
}

#[test]
fn a_vforked_child_acts_on_its_parents_memory() -> Result<()> {
    let report = play("vfork", 1, &["--children"], &OWN)?;
    ensure!(targets(&report)?.len() == 1, "{:?}", targets(&report)?);
    Ok(())
}

#[test]
fn a_target_that_executes_another_program_is_followed() -> Result<()> {
    play("self", 1, &[], &HELD)?;
    play("self", 1, &["--children"], &HELD).map(drop)
}

#[test]
fn children_are_not_traced_without_the_option() -> Result<()> {
    let mut root = Running::start(Command::new(compile::victim("family")?).arg("halves"))?;
    ensure!(root.line(LIMIT)? == "ready", "a victim says `ready` first");
    let pid = u64::from(root.pid());
    let trace = Trace::attach(root.pid(), &[])?;
    root.send("go")?;
    let lines = [root.line(LIMIT)?, root.line(LIMIT)?];
    let report = trace.stop()?;
    root.send("exit")?;
    let truth: Value = serde_json::from_str(&lines[1])?;
    let (figures, _) = said(&report, pid)?;
    for key in OWN {
        ensure!(figures[key] == number(&truth, &format!("/{key}")), "{key} {figures:?}\n{truth}");
    }
    ensure!(targets(&report)?.len() == 1, "{:?}", targets(&report)?);
    Ok(())
}

#[test]
fn a_target_that_executes_a_program_with_its_own_allocator() -> Result<()> {
    // Linked statically: its `malloc` is in no library that was probed before.
    let other = compile::victim_with("family", "family_static", &["-static"])?;
    for options in [&["-v"][..], &["-v", "--children"]] {
        let mut root = Running::start(
            Command::new(compile::victim("family")?).args(["other", "1000"]).arg(&other),
        )?;
        ensure!(root.line(LIMIT)? == "ready", "a victim says `ready` first");
        let mut trace = Trace::attach(root.pid(), options)?;
        root.send("go")?;
        ensure!(root.line(LIMIT)? == "ready", "the other program says it, too");
        trace.wait_for("has executed another program")?;
        root.send("go")?;
        let truth: Value = serde_json::from_str(&root.line(LIMIT)?)?;
        let report = trace.stop()?;
        root.send("exit")?;
        let (figures, _) = said(&report, u64::from(root.pid()))?;
        for key in HELD {
            let figure = figures.get(key).copied().unwrap_or(0);
            ensure!(
                figure == number(&truth, &format!("/{key}")),
                "{key}: {figure}\n{truth}\n{}",
                report.summary()
            );
        }
    }
    Ok(())
}
