//! Cases that run with both backends for descriptors, kprobes and tracepoints, and the checks of their results.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests::{
    Report,
    descriptors::{self, Account, Expected, Frames},
    invalid_releases::{of_victim, reported},
    report::symbols,
    vm::{Case, Guest, Results},
};

use crate::case;

/// A row of the table of cases that run with both backends.
pub(crate) struct Row {
    name: &'static str,
    what: &'static str,
    /// The victim, and the number of lines that it prints.
    victim: (&'static [&'static str], usize),
    /// Additional arguments of the victim with the tracepoint backend.
    by_tracepoints: &'static [&'static str],
    options: &'static str,
    check: fn(&Results, &Guest, Backend) -> Result<String>,
}

/// Cases about descriptors.
pub(crate) const DESCRIPTORS: [Row; 5] = [
    Row {
        name: "every_descriptor",
        what: "descriptors, every way to open and to close",
        victim: (&["descriptors", "every", "4"], 1),
        // Before, tracepoints do not identify the io_uring request that completed.
        by_tracepoints: &["6"],
        options: "--kind fd,socket",
        check: |results, guest, backend| descriptors(results, guest, backend, Frames::First),
    },
    Row {
        name: "rare_descriptors",
        what: "descriptors, rarely used ways",
        victim: (&["descriptors", "rare", "3"], 1),
        by_tracepoints: &["6"],
        options: "--kind fd,socket",
        check: |results, guest, backend| descriptors(results, guest, backend, Frames::First),
    },
    Row {
        name: "threads_and_descriptors",
        what: "descriptors, numbers passed among threads",
        victim: (&["descriptors", "threads", "8", "4000", "3"], 1),
        by_tracepoints: &[],
        options: "--kind fd,socket",
        check: |results, guest, backend| descriptors(results, guest, backend, Frames::First),
    },
    Row {
        name: "forks_and_descriptors",
        what: "descriptors of children and of programs they become",
        victim: (&["descriptors", "fork"], 5),
        by_tracepoints: &[],
        options: "--kind fd,socket --children",
        check: |results, guest, backend| descriptors(results, guest, backend, Frames::FirstMarked),
    },
    Row {
        name: "invalid_releases",
        what: "descriptors that are closed twice, blocks that are released twice",
        victim: (&["invalid_releases"], 1),
        by_tracepoints: &[],
        options: "--kind heap,fd,socket",
        check: |results, _, backend| twice(results, backend),
    },
];

/// Cases about resources that connections leave behind.
pub(crate) const CONNECTIONS: [Row; 2] = [
    Row {
        name: "orphans",
        what: "each connection leaves a block behind",
        victim: (&["serves", "200", "3", "1"], 1),
        by_tracepoints: &[],
        options: "--kind heap,fd,socket --min-age 1s",
        check: |results, _, backend| orphans(results, backend),
    },
    Row {
        name: "some_orphans",
        what: "each third connection leaves a block behind",
        victim: (&["serves", "200", "3", "3"], 1),
        by_tracepoints: &[],
        options: "--kind heap,fd,socket --min-age 1s",
        check: |results, _, backend| orphans(results, backend),
    },
];

/// Rows with both backends.
pub(crate) fn both_backends(rows: &[Row]) -> Vec<Case> {
    let by = |row: &Row, backend: Backend| {
        let Row { name, what, victim: (victim, lines), by_tracepoints, options, check } = *row;
        // Kprobes are the default.
        let (way, more, option) = match backend {
            Tracepoint => ("tracepoint", by_tracepoints, " --fd-backend tracepoint"),
            Kprobe => ("kprobe", &[][..], ""),
        };
        case(
            &format!("{name}_by_{way}s"),
            &format!("{what} (by {way}s)"),
            (&[victim, more].concat(), lines),
            &format!("{options}{option}"),
            move |results, guest| check(results, guest, backend),
        )
    };
    [Tracepoint, Kprobe]
        .iter()
        .flat_map(|backend| rows.iter().map(move |row| by(row, *backend)))
        .collect()
}

/// The backend for descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    /// Kprobes on kernel functions.
    Kprobe,
    /// Tracepoints of every system call.
    Tracepoint,
}

use Backend::{Kprobe, Tracepoint};

/// The report of a case, after a check that leaktrace used the requested backend.
fn report(results: &Results, backend: Backend) -> Result<Report> {
    let report = results.report()?;
    let used = report.at("/host/fd_backend")?;
    let wanted = if backend == Kprobe { "kprobe" } else { "tracepoint" };
    ensure!(used == wanted, "backend {used}");
    Ok(report)
}

/// Compares the server's account with the report: its connections, and the resources that they left behind, which are
/// the only row of the table.
fn orphans(results: &Results, backend: Backend) -> Result<String> {
    let (status, lines) = (results.victim_status()?, results.victim_lines()?);
    ensure!(status == 0, "the victim ended with status {status} after {lines:?}");
    let account: Value = serde_json::from_str(lines.first().context("no line")?)?;
    let own = |name: &str| account.get(name).and_then(Value::as_u64).context("a count");
    let (accepted, closed) = (own("accepted")?, own("closed")?);
    let (count, bytes) = (own("leaked_on_close_count")?, own("leaked_on_close_bytes")?);
    let report = report(results, backend)?;
    let lost = report.lost_by_target()?;
    ensure!(lost.is_empty(), "lost {lost}");
    let figure = |name: &str| report.number(&format!("/connections/{name}"));
    let found = (figure("opened")?, figure("closed")?, figure("open")?);
    ensure!(
        found == (accepted, closed, accepted - closed),
        "{accepted} accepted, {closed} closed: {found:?} reported"
    );
    let [row] = report.list("/connections/left_behind")? else {
        bail!("not one row: {:?}", report.list("/connections/left_behind")?);
    };
    let sums = ["count", "bytes", "connections"].map(|name| row.get(name).and_then(Value::as_u64));
    ensure!(sums == [Some(count), Some(bytes), Some(count)], "{count} of {bytes} bytes, not {row}");
    let share = row.get("share").and_then(Value::as_f64).context("a share")?;
    let exact = count as f64 / closed as f64;
    ensure!((share - exact).abs() < 1e-9, "a share of {share}, {exact} is true");
    let site = report.list("/sites")?.iter().find(|site| site.get("id") == row.get("site"));
    let names = symbols(site.context("the call site is not in the report")?);
    ensure!(names.contains(&"forget_closed_connection"), "left behind by {names:?}");
    Ok(format!("{closed} of {accepted} closed, {count} left something behind"))
}

/// Compares the victim's count of invalid releases with the report's.
fn twice(results: &Results, backend: Backend) -> Result<String> {
    let (status, lines) = (results.victim_status()?, results.victim_lines()?);
    ensure!(status == 0, "the victim ended with status {status} after {lines:?}");
    let truth = serde_json::from_str(lines.first().context("no line")?)?;
    let report = report(results, backend)?;
    let lost = report.lost_by_target()?;
    ensure!(lost.is_empty(), "lost {lost}");
    let (made, found) = (of_victim(&truth)?, reported(&report)?);
    ensure!(made == found, "{made:?} made\n{found:?} reported");
    Ok(format!("{} of {} call sites", made.values().sum::<u64>(), made.len()))
}

/// Compares every target's table, number by number. The victim itself checked each account against `/proc`.
fn descriptors(
    results: &Results,
    guest: &Guest,
    backend: Backend,
    frames: Frames,
) -> Result<String> {
    let (status, lines) = (results.victim_status()?, results.victim_lines()?);
    ensure!(status == 0, "the victim ended with status {status} after {lines:?}");
    let read = |line: &String| Account::read(&serde_json::from_str(line)?);
    let accounts = lines.iter().map(read).collect::<Result<Vec<_>>>()?;
    let report = report(results, backend)?;
    let unseen = if backend == Kprobe { &[] } else { descriptors::UNSEEN };
    // Descriptors that no probe sees are found only if they stay open; a dynamically linked program opens its
    // libraries.
    let has_unseen = accounts.iter().any(|one| one.has_any(unseen));
    let flows = frames == Frames::First && !has_unseen;
    let expected = Expected { accounts: &accounts, aside: &[], flows, frames, unseen };
    descriptors::compare(&report, &expected)?;
    if !has_unseen {
        for flow in ["opened", "closed"] {
            let count = report.number(&format!("/fds/{flow}_unseen"))?;
            ensure!(count == 0, "{count} {flow} unseen");
        }
    }
    let refused: Vec<&str> =
        accounts.iter().flat_map(|one| &one.refused).map(String::as_str).collect();
    let (opened, open) = (report.number("/fds/opened")?, report.number("/fds/open")?);
    let refused = if refused.is_empty() { "nothing".to_owned() } else { refused.join(", ") };
    // Before, tracepoints do not identify the request that completed.
    let ring = if backend == Tracepoint && guest.version < (6, 0) { "; no io_uring" } else { "" };
    Ok(format!("{opened} opened, {open} open{ring}; this kernel refuses {refused}"))
}
