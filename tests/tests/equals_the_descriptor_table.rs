//! leaktrace's table of file descriptors equals the one in `/proc`, with the opener of each.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use tests::{
    Report, Trace, Victim,
    compile::{victim, victim_with},
    descriptors::{Account, Expected, Frames, UNSEEN, compare},
};

/// Traced kinds.
const KINDS: [&str; 2] = ["--kind", "fd,socket"];

/// Runs a case under leaktrace; returns the victim's accounts, checked against `/proc`, and the report.
fn play(
    program: &Path,
    arguments: &[&str],
    lines: usize,
    options: &[&str],
) -> Result<(Vec<Account>, Report)> {
    let mut victim = Victim::start_program(program, arguments)?;
    let trace = Trace::attach(victim.pid(), &[&KINDS, options].concat())?;
    victim.go()?;
    let accounts = Account::read_all(&victim, lines)?;
    for account in &accounts {
        account.equals_proc()?;
    }
    // The victim raised its own limit before it was ready.
    let limit = soft_limit(victim.pid())?;
    let report = trace.stop()?;
    victim.exit()?;
    let said = report.at("/fds/limit")?;
    ensure!(lines > 1 || said.as_u64() == Some(limit), "limit {said} reported, {limit} true");
    Ok((accounts, report))
}

/// The soft limit of open files.
fn soft_limit(pid: u32) -> Result<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    Ok(soft.context("a limit of open files")?.parse()?)
}

/// One dynamically linked process: everything is compared; sums only if `flows`.
fn equals_but(arguments: &[&str], flows: bool) -> Result<()> {
    let (accounts, report) = play(&victim("descriptors")?, arguments, 1, &[])?;
    compare(
        &report,
        &Expected { accounts: &accounts, aside: &[], flows, frames: Frames::First, unseen: UNSEEN },
    )
}

fn equals(arguments: &[&str]) -> Result<()> {
    equals_but(arguments, true)
}

/// Several programs. The loader of a dynamically linked program opens libraries, so only tables are compared; a
/// statically linked one opens only what its account contains, so sums are compared, too.
fn equals_across_programs(arguments: &[&str], lines: usize, options: &[&str]) -> Result<()> {
    let whole = victim_with("descriptors", "descriptors_static", &["-static"])?;
    for (program, flows, frames) in
        [(victim("descriptors")?, false, Frames::FirstMarked), (whole, true, Frames::FirstMarked)]
    {
        let (accounts, report) = play(&program, arguments, lines, options)?;
        compare(
            &report,
            &Expected { accounts: &accounts, aside: &[], flows, frames, unseen: UNSEEN },
        )?;
    }
    Ok(())
}

#[test]
fn every_way_to_open_and_to_close() -> Result<()> {
    equals(&["every", "9"])
}

#[test]
fn rarely_used_ways() -> Result<()> {
    // Descriptors in fanotify events are only found if they stay open.
    equals_but(&["rare", "6"], false)
}

#[test]
fn one_thread_at_full_speed() -> Result<()> {
    equals(&["threads", "1", "50000", "7"])
}

#[test]
fn numbers_that_go_round_among_eight_threads() -> Result<()> {
    for seed in ["1", "2", "3", "4", "5"] {
        equals(&["threads", "8", "20000", seed])?;
    }
    Ok(())
}

#[test]
fn more_threads_than_processors_by_far() -> Result<()> {
    for seed in ["8", "9"] {
        equals(&["threads", "48", "5000", seed])?;
    }
    Ok(())
}

#[test]
fn children_have_copied_tables_and_programs_keep_the_rest() -> Result<()> {
    equals_across_programs(&["fork"], 5, &["--children"])
}

#[test]
fn children_are_not_traced_without_the_option() -> Result<()> {
    let (accounts, report) = play(&victim("descriptors")?, &["fork"], 5, &[])?;
    // Descriptors that vforked and spawned children close and dup before exec belong to the children.
    let root = accounts.last().context("the root's account")?;
    let accounts = std::slice::from_ref(root);
    compare(
        &report,
        &Expected { accounts, aside: &[], flows: true, frames: Frames::First, unseen: UNSEEN },
    )
}

#[test]
fn a_target_that_executes_another_program_keeps_its_open_descriptors() -> Result<()> {
    equals_across_programs(&["exec"], 1, &[])?;
    equals_across_programs(&["exec"], 1, &["--children"])
}

#[test]
fn threads_with_tables_of_their_own_leave_the_process_its_table() -> Result<()> {
    for _ in 0..3 {
        let (accounts, report) = play(&victim("descriptors")?, &["unshare"], 3, &[])?;
        let (root, threads) = accounts.split_last().context("three accounts")?;
        let accounts = std::slice::from_ref(root);
        compare(
            &report,
            &Expected {
                accounts,
                aside: threads,
                flows: true,
                frames: Frames::First,
                unseen: UNSEEN,
            },
        )?;
    }
    Ok(())
}
