//! leaktrace on Debian's kernels in a virtual machine each: their verifiers take every program, and
//! the figures are as equal to the truth as on the kernel of the host.

use anyhow::{Context as _, Result, ensure};
use tests::{
    Report, Truth,
    compare::Named,
    descriptors::{self, Account, Expected, Frames},
    family,
    vm::{self, Guest, Left, Play, Scene},
};

/// Of 1,000 acquisitions, those whose stack must reach the thread's bottom.
const WHOLE_OF_1000: u64 = 995;

const SCENES: [Scene; 5] = [
    Scene { name: "host", what: "the doctor knows the host", play: Play::Doctor, check: doctor },
    Scene {
        name: "every_function",
        what: "every function equals the truth, stacks are whole",
        play: Play::Trace { victim: &["ground_truth", "2", "5000"], lines: 1, options: "" },
        check: every_function,
    },
    Scene {
        name: "children",
        what: "children",
        play: Play::Trace { victim: &["family", "halves", "500"], lines: 2, options: "--children" },
        check: children,
    },
    Scene {
        name: "filtered",
        what: "a target with a seccomp filter lives",
        play: Play::Trace { victim: &["filtered", "1000"], lines: 1, options: "" },
        check: with_filter,
    },
    Scene {
        name: "light",
        what: "growth by touched pages, without a probe",
        play: Play::Trace { victim: &["touches"], lines: 1, options: "--light -i 250ms" },
        check: light,
    },
];

/// Those about file descriptors, each in both ways to see them.
const DESCRIPTORS: [Scene; 8] = [
    Scene {
        name: "every_descriptor",
        what: "descriptors at every system call, every way to open and to close",
        play: Play::Trace {
            victim: &["descriptors", "every", "4", "6"],
            lines: 1,
            options: TRACEPOINT,
        },
        check: |left, guest| descriptors(left, guest, Tracepoint, Frames::First),
    },
    Scene {
        name: "rare_descriptors",
        what: "descriptors at every system call, ways that few programs go",
        play: Play::Trace {
            victim: &["descriptors", "rare", "3", "6"],
            lines: 1,
            options: TRACEPOINT,
        },
        check: |left, guest| descriptors(left, guest, Tracepoint, Frames::First),
    },
    Scene {
        name: "threads_and_descriptors",
        what: "descriptors at every system call, numbers go round among threads",
        play: Play::Trace {
            victim: &["descriptors", "threads", "8", "4000", "3"],
            lines: 1,
            options: TRACEPOINT,
        },
        check: |left, guest| descriptors(left, guest, Tracepoint, Frames::First),
    },
    Scene {
        name: "forks_and_descriptors",
        what: "descriptors at every system call, of children and of programs they become",
        play: Play::Trace {
            victim: &["descriptors", "fork"],
            lines: 5,
            options: TRACEPOINT_AND_CHILDREN,
        },
        check: |left, guest| descriptors(left, guest, Tracepoint, Frames::FirstMarked),
    },
    Scene {
        name: "every_descriptor_by_kprobes",
        what: "descriptors by kprobes, every way to open and to close",
        play: Play::Trace { victim: &["descriptors", "every", "4"], lines: 1, options: KPROBE },
        check: |left, guest| descriptors(left, guest, Kprobe, Frames::First),
    },
    Scene {
        name: "rare_descriptors_by_kprobes",
        what: "descriptors by kprobes, ways that few programs go",
        play: Play::Trace { victim: &["descriptors", "rare", "3"], lines: 1, options: KPROBE },
        check: |left, guest| descriptors(left, guest, Kprobe, Frames::First),
    },
    Scene {
        name: "threads_and_descriptors_by_kprobes",
        what: "descriptors by kprobes, numbers go round among threads",
        play: Play::Trace {
            victim: &["descriptors", "threads", "8", "4000", "3"],
            lines: 1,
            options: KPROBE,
        },
        check: |left, guest| descriptors(left, guest, Kprobe, Frames::First),
    },
    Scene {
        name: "forks_and_descriptors_by_kprobes",
        what: "descriptors by kprobes, of children and of programs they become",
        play: Play::Trace {
            victim: &["descriptors", "fork"],
            lines: 5,
            options: KPROBE_AND_CHILDREN,
        },
        check: |left, guest| descriptors(left, guest, Kprobe, Frames::FirstMarked),
    },
];

/// Options for descriptors.
const TRACEPOINT: &str = "--kind fd,socket --fd-backend tracepoint";
/// As above.
const TRACEPOINT_AND_CHILDREN: &str = "--kind fd,socket --fd-backend tracepoint --children";
/// As above. That is what is chosen if nothing is said.
const KPROBE: &str = "--kind fd,socket";
/// As above.
const KPROBE_AND_CHILDREN: &str = "--kind fd,socket --children";

/// How descriptors are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// At functions of the kernel.
    Kprobe,
    /// At every system call.
    Tracepoint,
}

use Seen::{Kprobe, Tracepoint};

/// What return probes do to a process with a seccomp filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returns {
    /// Nothing.
    Safe,
    /// They may end it: none are used there, nor with `--children`.
    Harmful,
}

/// What they do on a guest's kernel.
fn returns(guest: &Guest) -> Returns {
    if ((6, 11)..=(6, 13)).contains(&guest.version) { Returns::Harmful } else { Returns::Safe }
}

#[test]
#[ignore = "only when asked for: cargo xtask test-vm --kernel 5.10"]
fn everything_holds_on_linux_5_10() -> Result<()> {
    vm::holds("5.10", "everything", &SCENES)
}

#[test]
#[ignore = "only when asked for: cargo xtask test-vm --kernel 5.10"]
fn descriptors_hold_on_linux_5_10() -> Result<()> {
    vm::holds("5.10", "descriptors", &DESCRIPTORS)
}

#[test]
fn everything_holds_on_linux_6_1() -> Result<()> {
    vm::holds("6.1", "everything", &SCENES)
}

#[test]
fn descriptors_hold_on_linux_6_1() -> Result<()> {
    vm::holds("6.1", "descriptors", &DESCRIPTORS)
}

#[test]
fn everything_holds_on_linux_6_12() -> Result<()> {
    vm::holds("6.12", "everything", &SCENES)
}

#[test]
fn descriptors_hold_on_linux_6_12() -> Result<()> {
    vm::holds("6.12", "descriptors", &DESCRIPTORS)
}

#[test]
#[ignore = "only when asked for: cargo xtask test-vm --kernel 7.2"]
fn everything_holds_on_linux_7_2() -> Result<()> {
    vm::holds("7.2", "everything", &SCENES)
}

#[test]
#[ignore = "only when asked for: cargo xtask test-vm --kernel 7.2"]
fn descriptors_hold_on_linux_7_2() -> Result<()> {
    vm::holds("7.2", "descriptors", &DESCRIPTORS)
}

fn doctor(left: &Left, guest: &Guest) -> Result<String> {
    let (text, status) = left.doctor()?;
    ensure!(status == 0 && text.contains("\ntracing will work"), "status {status}:\n{text}");
    let return_probes = match returns(guest) {
        Returns::Harmful => "warn",
        Returns::Safe => "ok",
    };
    let kernel = format!("{} (5.10 is enough)", guest.release);
    for (what, mark, detail) in [
        ("kernel", "ok", kernel.as_str()),
        ("rights", "ok", "root with CAP_BPF and CAP_PERFMON"),
        ("uprobes", "ok", ""),
        ("BTF", "ok", ""),
        ("kprobes", "ok", "available"),
        ("tracefs", "ok", "mounted"),
        ("process ids", "ok", "those of the host"),
        ("return probes", return_probes, ""),
    ] {
        let told = text.lines().any(|line| {
            let rest = line.trim_start().strip_prefix(mark).unwrap_or_default().trim_start();
            rest.strip_prefix(what).is_some_and(|rest| rest.trim_start().starts_with(detail))
        });
        ensure!(told, "no line `{mark} {what} {detail}`:\n{text}");
    }
    Ok(kernel)
}

/// The victim's truth, after an end without a signal.
fn truth(left: &Left) -> Result<Truth> {
    let (status, lines) = (left.victim_status()?, left.victim_lines()?);
    ensure!(status == 0, "the victim ended with status {status} after {lines:?}");
    Truth::parse(lines.first().context("the victim said nothing")?)
}

fn equal(left: &Left) -> Result<Report> {
    let report = left.report()?;
    truth(left)?.equals(&report)?;
    Ok(report)
}

fn every_function(left: &Left, _: &Guest) -> Result<String> {
    let report = equal(left)?;
    let acquired = report.total("heap")?.acquired_count + report.total("mmap")?.acquired_count;
    let cut = report.number("/accounting/truncated_stacks")?;
    let reasons = report.at("/accounting/truncated_by")?;
    ensure!(
        acquired > 0 && (acquired - cut) * 1000 >= acquired * WHOLE_OF_1000,
        "{cut} of {acquired} stacks are cut: {reasons}"
    );
    Ok(format!("{acquired} acquisitions, {cut} stacks cut, {reasons}"))
}

/// Whether the report's probes are as this kernel wants them: read at their return instructions, or not.
fn probed(report: &Report, returns: Returns) -> Result<()> {
    let at_returns = report.list("/probes")?.iter().any(|probe| {
        let why = probe.get("why").and_then(serde_json::Value::as_str).unwrap_or_default();
        why.contains("return instructions")
    });
    ensure!(
        at_returns == (returns == Returns::Harmful),
        "read at return instructions: {at_returns}"
    );
    Ok(())
}

fn children(left: &Left, guest: &Guest) -> Result<String> {
    ensure!(left.victim_status()? == 0, "the victim ended with {}", left.victim_status()?);
    let report = left.report()?;
    let lines = left.victim_lines()?;
    let truths =
        lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<Vec<_>, _>>()?;
    ensure!(truths.len() == 2, "{lines:?}");
    probed(&report, returns(guest))?;
    family::compare(&report, &truths, &family::OWN)?;
    let [(root, _), (_, parent)] = family::targets(&report)?[..] else {
        anyhow::bail!("not two targets: {:?}", report.list("/targets")?);
    };
    ensure!(parent == Some(root), "the child's parent is {parent:?}, not {root}");
    Ok(format!("two members equal, {} events", report.number("/accounting/events")?))
}

fn with_filter(left: &Left, guest: &Guest) -> Result<String> {
    // Whatever leaktrace did: the target has done all its work.
    let kept = truth(left)?.site("keep")?.acquired_count;
    ensure!(kept == 1000, "{kept} blocks kept");
    let (text, status) = left.doctor()?;
    ensure!(status == 0 && text.contains("seccomp"), "status {status}:\n{text}");
    probed(&equal(left)?, returns(guest))?;
    Ok("traced, equal".to_owned())
}

/// Every page that the victim touched and still has, by the stack that touched it.
fn light(left: &Left, _: &Guest) -> Result<String> {
    let report = left.report()?;
    truth(left)?.compare(&report, Named::ByAnyFrame, &[], false)?;
    ensure!(report.list("/probes")?.is_empty(), "no probe");
    let pages = report.total("pages")?;
    let level = report.at("/light/processes/0/anonymous/change")?;
    Ok(format!(
        "{} touches, {} B outstanding, {level} B grown",
        pages.acquired_count, pages.outstanding_bytes
    ))
}

/// The table of every target, number by number. Each account was checked against `/proc` by the victim itself.
fn descriptors(left: &Left, guest: &Guest, seen: Seen, frames: Frames) -> Result<String> {
    let (status, lines) = (left.victim_status()?, left.victim_lines()?);
    ensure!(status == 0, "the victim ended with status {status} after {lines:?}");
    let read = |line: &String| Account::read(&serde_json::from_str(line)?);
    let accounts = lines.iter().map(read).collect::<Result<Vec<_>>>()?;
    let report = left.report()?;
    let backend = report.at("/host/fd_backend")?;
    let wanted = if seen == Kprobe { "kprobe" } else { "tracepoint" };
    ensure!(backend == wanted, "seen by {backend}");
    let unseen = if seen == Kprobe { &[] } else { descriptors::UNSEEN };
    // What is not seen is found only when it stays; a program that is loaded opens its libraries.
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
    // Before, tracepoints do not tell which request has ended.
    let ring = if seen == Tracepoint && guest.version < (6, 0) { "; no io_uring" } else { "" };
    Ok(format!("{opened} opened, {open} open{ring}; this kernel refuses {refused}"))
}
