//! Cases that run with both backends for descriptors, kprobes and tracepoints, and the checks of their results.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests::{
    Report,
    descriptors::{self, Account, Expected, Frames},
    report::symbols,
    vm::{Case, Guest, Left},
};

use crate::case;

/// A row of the table of cases that run with both backends.
pub(crate) struct Twice {
    name: &'static str,
    what: &'static str,
    /// The victim, and the number of lines that it prints.
    victim: (&'static [&'static str], usize),
    /// Additional arguments of the victim with the tracepoint backend.
    by_tracepoints: &'static [&'static str],
    options: &'static str,
    check: fn(&Left, &Guest, Seen) -> Result<String>,
}

/// Cases about descriptors.
pub(crate) const DESCRIPTORS: [Twice; 4] = [
    Twice {
        name: "every_descriptor",
        what: "descriptors, every way to open and to close",
        victim: (&["descriptors", "every", "4"], 1),
        // Before, tracepoints do not identify the io_uring request that completed.
        by_tracepoints: &["6"],
        options: "--kind fd,socket",
        check: |left, guest, seen| descriptors(left, guest, seen, Frames::First),
    },
    Twice {
        name: "rare_descriptors",
        what: "descriptors, ways that few programs go",
        victim: (&["descriptors", "rare", "3"], 1),
        by_tracepoints: &["6"],
        options: "--kind fd,socket",
        check: |left, guest, seen| descriptors(left, guest, seen, Frames::First),
    },
    Twice {
        name: "threads_and_descriptors",
        what: "descriptors, numbers go round among threads",
        victim: (&["descriptors", "threads", "8", "4000", "3"], 1),
        by_tracepoints: &[],
        options: "--kind fd,socket",
        check: |left, guest, seen| descriptors(left, guest, seen, Frames::First),
    },
    Twice {
        name: "forks_and_descriptors",
        what: "descriptors of children and of programs they become",
        victim: (&["descriptors", "fork"], 5),
        by_tracepoints: &[],
        options: "--kind fd,socket --children",
        check: |left, guest, seen| descriptors(left, guest, seen, Frames::FirstMarked),
    },
];

/// Cases about resources that connections leave behind.
pub(crate) const CONNECTIONS: [Twice; 2] = [
    Twice {
        name: "orphans",
        what: "each connection leaves a block behind",
        victim: (&["serves", "200", "3", "1"], 1),
        by_tracepoints: &[],
        options: "--kind heap,fd,socket --min-age 1s",
        check: |left, _, seen| orphans(left, seen),
    },
    Twice {
        name: "some_orphans",
        what: "each third connection leaves a block behind",
        victim: (&["serves", "200", "3", "3"], 1),
        by_tracepoints: &[],
        options: "--kind heap,fd,socket --min-age 1s",
        check: |left, _, seen| orphans(left, seen),
    },
];

/// Rows with both backends.
pub(crate) fn twice(rows: &[Twice]) -> Vec<Case> {
    let by = |row: &Twice, seen: Seen| {
        let Twice { name, what, victim: (victim, lines), by_tracepoints, options, check } = *row;
        // Kprobes are the default.
        let (way, more, option) = match seen {
            Tracepoint => ("tracepoint", by_tracepoints, " --fd-backend tracepoint"),
            Kprobe => ("kprobe", &[][..], ""),
        };
        case(
            &format!("{name}_by_{way}s"),
            &format!("{what} (by {way}s)"),
            (&[victim, more].concat(), lines),
            &format!("{options}{option}"),
            move |left, guest| check(left, guest, seen),
        )
    };
    [Tracepoint, Kprobe]
        .iter()
        .flat_map(|seen| rows.iter().map(move |row| by(row, *seen)))
        .collect()
}

/// The backend for descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Kprobes on kernel functions.
    Kprobe,
    /// Tracepoints of every system call.
    Tracepoint,
}

use Seen::{Kprobe, Tracepoint};

/// The report of a case, after a check that leaktrace used the requested backend.
fn report(left: &Left, seen: Seen) -> Result<Report> {
    let report = left.report()?;
    let backend = report.at("/host/fd_backend")?;
    let wanted = if seen == Kprobe { "kprobe" } else { "tracepoint" };
    ensure!(backend == wanted, "seen by {backend}");
    Ok(report)
}

/// Compares the server's account with the report: its connections, and the resources that they left behind, which are
/// the only row of the table.
fn orphans(left: &Left, seen: Seen) -> Result<String> {
    let (status, lines) = (left.victim_status()?, left.victim_lines()?);
    ensure!(status == 0, "the victim ended with status {status} after {lines:?}");
    let account: Value = serde_json::from_str(lines.first().context("no line")?)?;
    let own = |name: &str| account.get(name).and_then(Value::as_u64).context("a count");
    let (accepted, closed) = (own("accepted")?, own("closed")?);
    let (count, bytes) = (own("leaked_on_close_count")?, own("leaked_on_close_bytes")?);
    let report = report(left, seen)?;
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

/// Compares every target's table, number by number. The victim itself checked each account against `/proc`.
fn descriptors(left: &Left, guest: &Guest, seen: Seen, frames: Frames) -> Result<String> {
    let (status, lines) = (left.victim_status()?, left.victim_lines()?);
    ensure!(status == 0, "the victim ended with status {status} after {lines:?}");
    let read = |line: &String| Account::read(&serde_json::from_str(line)?);
    let accounts = lines.iter().map(read).collect::<Result<Vec<_>>>()?;
    let report = report(left, seen)?;
    let unseen = if seen == Kprobe { &[] } else { descriptors::UNSEEN };
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
    let ring = if seen == Tracepoint && guest.version < (6, 0) { "; no io_uring" } else { "" };
    Ok(format!("{opened} opened, {open} open{ring}; this kernel refuses {refused}"))
}
