//! `leaktrace doctor`: shows what this host allows, and whether tracing will work.
//!
//! Takes [`Facts`] and [`Candidate`]s, passes on lines of text and the verdict. Only formats what `preflight` found;
//! must not read anything, or apply checks that differ from those of tracing.

use std::io::{self, Write};

use crate::{
    error::Failure,
    format::printable,
    kernel::default_footprint,
    preflight::{Candidate, Facts, NEEDED_KERNEL},
};

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    mark: Mark,
    what: &'static str,
    detail: String,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// Good.
    Ok,
    /// A limitation; tracing memory works.
    Warn,
    /// Could not be determined; tracing memory works.
    Unknown,
    /// Prevents tracing.
    No,
}

impl Mark {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Unknown => "unknown",
            Self::No => "no",
        }
    }
}

/// Writes the checks of the host and the processes. Returns whether tracing (of each of them) will work.
pub fn write(
    facts: &Facts,
    processes: &[Result<Candidate, Failure>],
    out: &mut impl Write,
) -> io::Result<bool> {
    let mut obstacles: Vec<[Option<String>; 2]> = Vec::new();
    let mut note = |failure: &Failure| {
        obstacles.push([
            Some(failure.to_string()),
            failure.help().map(|help| "help: ".to_owned() + &help),
        ]);
    };
    let mut lists = Vec::new();
    writeln!(lists, "\nthis host")?;
    list(&host(facts), &mut lists)?;
    if let Err(failure) = facts.check() {
        note(&failure);
    }
    for process in processes {
        match process {
            Ok(process) => {
                writeln!(lists, "\nprocess {}", process.pid)?;
                list(&target(process, facts), &mut lists)?;
                if let Err(failure) = process.check() {
                    note(&failure);
                }
            }
            Err(failure) => note(failure),
        }
    }
    let works = obstacles.is_empty();
    writeln!(out, "{}", if works { "tracing will work" } else { "tracing will not work" })?;
    for line in obstacles.iter().flatten().flatten() {
        writeln!(out, "  {line}")?;
    }
    out.write_all(&lists)?;
    Ok(works)
}

fn list(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
    for Row { mark, what, detail } in rows {
        writeln!(out, "  {:<7}  {what:<width$}  {detail}", mark.word())?;
    }
    Ok(())
}

fn host(facts: &Facts) -> Vec<Row> {
    vec![
        architecture(facts),
        kernel(facts),
        rights(facts),
        required(facts.uprobes, "uprobes", "available", "not in this kernel"),
        required(facts.btf, "BTF", "available", "not in this kernel"),
        optional(
            facts.kprobes,
            "kprobes",
            "available; used to trace file descriptors",
            "not in this kernel; file descriptors are traced at every system call instead",
        ),
        optional(
            facts.tracefs,
            "tracefs",
            "mounted",
            "not mounted (mount -t tracefs tracefs /sys/kernel/tracing); not needed to trace memory",
        ),
        lockdown(facts),
        paranoid(facts),
        unprivileged(facts),
        memlock(facts),
        kernel_memory(facts),
        pid_namespace(facts),
        return_probes(facts),
        row(
            Mark::Unknown,
            "other tracers",
            "cannot be detected; another tracer's uprobes on the same library slow the target too",
        ),
    ]
}

fn target(process: &Candidate, facts: &Facts) -> Vec<Row> {
    let unknown = || "not permitted to look".to_owned();
    let mut rows = vec![match (&process.exe, process.kernel_thread, process.zombie) {
        (_, true, _) => row(Mark::No, "program", "none: it is a kernel thread"),
        (_, _, true) => row(Mark::No, "program", "none: it has exited (zombie)"),
        (Some(exe), ..) => row(Mark::Ok, "program", printable(exe)),
        (None, ..) => row(Mark::Unknown, "program", unknown()),
    }];
    if process.kernel_thread || process.zombie {
        return rows;
    }
    rows.push(match process.bits {
        Some(64) => row(Mark::Ok, "word size", "64 bits"),
        Some(bits) => {
            row(Mark::No, "word size", format!("{bits} bits; only 64-bit programs can be traced"))
        }
        None => row(Mark::Unknown, "word size", unknown()),
    });
    rows.push(match (process.seccomp, facts.return_probes_meet_seccomp()) {
        (Some(0), _) => row(Mark::Ok, "seccomp", "not filtered"),
        (Some(_), false) => row(Mark::Ok, "seccomp", "filtered; does not affect probes on this kernel"),
        (Some(_), true) => row(
            Mark::Warn,
            "seccomp",
            "filtered: on this kernel return probes can kill it; leaktrace avoids them, which is slower",
        ),
        (None, _) => row(Mark::Unknown, "seccomp", "cannot be read"),
    });
    match &process.allocators {
        Some(found) if found.is_empty() => {
            rows.push(row(Mark::No, "allocator", "none found in its loaded files"));
        }
        Some(found) => {
            rows.extend(found.iter().map(|one| row(Mark::Ok, "allocator", printable(one))));
        }
        None => rows.push(row(Mark::Unknown, "allocator", unknown())),
    }
    rows
}

fn architecture(facts: &Facts) -> Row {
    match facts.architecture {
        Ok(name) => row(Mark::Ok, "architecture", name),
        Err(unsupported) => {
            row(Mark::No, "architecture", format!("{}; not supported", unsupported.architecture))
        }
    }
}

fn kernel(facts: &Facts) -> Row {
    let release = printable(&facts.kernel);
    match facts.kernel_is_new_enough() {
        Some(true) => {
            row(Mark::Ok, "kernel", format!("{release} ({NEEDED_KERNEL} or newer required)"))
        }
        Some(false) => {
            row(Mark::No, "kernel", format!("{release}; {NEEDED_KERNEL} or newer required"))
        }
        None => row(Mark::Unknown, "kernel", format!("{release}: unknown version scheme")),
    }
}

fn rights(facts: &Facts) -> Row {
    let who = match facts.uid {
        Some(0) => "root".to_owned(),
        Some(uid) => format!("user {uid}"),
        None => "unknown user".to_owned(),
    };
    let missing = facts.missing_capabilities();
    if !missing.is_empty() {
        return row(Mark::No, "privileges", format!("{who} without {}", missing.join(" and ")));
    }
    if facts.initial_user_namespace == Some(false) {
        return row(Mark::No, "privileges", format!("{who} in a user namespace only"));
    }
    row(Mark::Ok, "privileges", format!("{who} with CAP_BPF and CAP_PERFMON"))
}

fn lockdown(facts: &Facts) -> Row {
    match facts.lockdown.as_deref() {
        None => row(Mark::Unknown, "lockdown", "cannot be read (no securityfs, or no lockdown)"),
        Some("none") => row(Mark::Ok, "lockdown", "none"),
        Some("integrity") => row(Mark::Ok, "lockdown", "integrity; tracing memory is allowed"),
        Some(mode) => row(
            Mark::Warn,
            "lockdown",
            format!("{}: kprobes and reading kernel memory are refused", printable(mode)),
        ),
    }
}

fn paranoid(facts: &Facts) -> Row {
    facts.perf_event_paranoid.map_or_else(
        || row(Mark::Unknown, "perf_event_paranoid", "cannot be read"),
        |level| {
            let detail = format!("{level}; does not apply to root or CAP_PERFMON");
            row(Mark::Ok, "perf_event_paranoid", detail)
        },
    )
}

fn unprivileged(facts: &Facts) -> Row {
    let (mark, detail) = match facts.unprivileged_bpf_disabled {
        Some(0) => (Mark::Ok, "allowed for everyone; leaktrace does not need it"),
        Some(_) => (Mark::Ok, "for root or CAP_BPF only"),
        None => (Mark::Unknown, "cannot be read"),
    };
    row(mark, "unprivileged bpf", detail)
}

/// Maps counted toward this limit before Linux 5.11; since then, the cgroup's memory limit applies.
fn memlock(facts: &Facts) -> Row {
    let Some(text) = facts.memlock.as_deref() else {
        return row(Mark::Unknown, "locked memory", "limit cannot be read");
    };
    let limit = text.parse().map_or_else(|_| printable(text), crate::format::bytes);
    let meaning = if facts.locks_maps() {
        "leaktrace raises it for its maps"
    } else {
        "BPF maps count toward the cgroup instead"
    };
    row(Mark::Ok, "locked memory", format!("{limit}; {meaning}"))
}

/// The size of the maps depends on what is traced and on the number of possible CPUs.
fn kernel_memory(facts: &Facts) -> Row {
    let expected = facts.possible_cpus.and_then(default_footprint);
    let figures = expected.and_then(|expected| expected.maps_bytes.zip(expected.unwind_bytes));
    let Some((maps, unwind)) = figures else {
        return row(Mark::Unknown, "kernel memory", "the number of processors cannot be read");
    };
    let detail = format!(
        "{} by default, and {} for unwind tables beside what the target needs",
        crate::format::bytes(maps),
        crate::format::bytes(unwind)
    );
    row(Mark::Ok, "kernel memory", detail)
}

fn pid_namespace(facts: &Facts) -> Row {
    match facts.initial_pid_namespace {
        Some(true) => row(Mark::Ok, "process ids", "those of the host"),
        Some(false) => row(
            Mark::Warn,
            "process ids",
            "those of a container: only its own processes can be traced",
        ),
        None => row(Mark::Unknown, "process ids", "namespace cannot be read"),
    }
}

fn return_probes(facts: &Facts) -> Row {
    if facts.return_probes_meet_seccomp() {
        return row(
            Mark::Warn,
            "return probes",
            "can kill seccomp-filtered targets on this kernel; leaktrace avoids them there",
        );
    }
    row(Mark::Ok, "return probes", "safe for seccomp-filtered targets on this kernel")
}

fn required(found: bool, what: &'static str, good: &str, bad: &str) -> Row {
    if found { row(Mark::Ok, what, good) } else { row(Mark::No, what, bad) }
}

fn optional(found: bool, what: &'static str, good: &str, bad: &str) -> Row {
    if found { row(Mark::Ok, what, good) } else { row(Mark::Warn, what, bad) }
}

fn row(mark: Mark, what: &'static str, detail: impl Into<String>) -> Row {
    Row { mark, what, detail: detail.into() }
}
