//! Rule of `tidy`: right of the snapshot, nothing reads the targets, the host or a clock.
//!
//! Takes the modules of `tracer`, passes on a fault for each place in `analyze`, `symbolize`, `assemble`, `report` and
//! `tui` that does. What a report needs of a live process is read before the snapshot and is in it, so that a recorded
//! snapshot gives the same report. Reading object files for names is the exception, file by file: see [`ALLOWED`].

use crate::tidy_modules::{Crate, Meaning, Module, Name, line_of};

/// The folders and files right of the snapshot.
const RIGHT: [&str; 5] = ["analyze", "symbolize", "assemble", "report", "tui"];

/// What is plain data in `target`: everything else there reads a live process.
const PLAIN: [&str; 11] = [
    "Bounded",
    "LimitedBy",
    "ProcessReading",
    "Pid",
    "Identity",
    "FileId",
    "Mapping",
    "MappedObject",
    "Mappings",
    "OwnUsage",
    "ProcessUsage",
];

/// Paths of other crates that read files or clocks. (A `SystemTime` that is passed in is a value like any other.)
const READS: [&str; 6] = [
    "std::fs",
    "procfs",
    "rustix::process",
    "rustix::time",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
];

/// Methods that read: a path below `/proc`, and the time that has passed.
const METHODS: [&str; 2] = ["proc_path", "elapsed"];

/// Functions that read, wherever they are.
const FUNCTIONS: [&str; 1] = ["now_ns"];

/// Names come from object files, which `symbolize` opens when it first needs one, and from what a target's runtime and
/// loader leave in memory and in files beside it. All of this is reached through the target's root, or through the
/// mappings that the snapshot has. No figure of a report depends on it. By file: what it reads, and why.
pub(crate) const ALLOWED: &[(&str, &str, &str)] = &[
    ("tracer/src/symbolize/mod.rs", "std::time::Instant::now", "limits the time for names"),
    ("tracer/src/symbolize/objects.rs", "std::fs", "holds object files open"),
    ("tracer/src/symbolize/sources.rs", "std::fs", "hands open object files to blazesym"),
    ("tracer/src/symbolize/sources.rs", "/proc/", "by their path in /proc/self/fd"),
    ("tracer/src/symbolize/tail.rs", "std::fs", "code of an object file"),
    ("tracer/src/symbolize/debug_file.rs", "std::fs", "separate debug files"),
    ("tracer/src/symbolize/debug_file.rs", "target::root::Root", "below the target's root"),
    ("tracer/src/symbolize/packages.rs", "target::root::Root", "which package has a file"),
    ("tracer/src/symbolize/perf_map.rs", "std::fs", "functions of a JIT compiler"),
    ("tracer/src/symbolize/perf_map.rs", "target::root::Root", "below the target's root"),
    ("tracer/src/symbolize/perf_map.rs", "target::root::own_number", "the process's id there"),
    ("tracer/src/symbolize/perf_map.rs", "target::root::user", "a map of the target's user only"),
    (
        "tracer/src/symbolize/memory.rs",
        "std::fs",
        "the vDSO, and whether a path is still the mapped file",
    ),
    ("tracer/src/symbolize/memory.rs", "target::mappings::open_path", "a mapped file"),
    ("tracer/src/symbolize/memory.rs", "target::root::Root", "below the target's root"),
    ("tracer/src/symbolize/memory.rs", "proc_path", "the vDSO"),
];

/// Files that read something today and should not, and what. An entry that is no longer needed is a fault, so this list
/// only shrinks.
pub(crate) const KNOWN: &[(&str, &str)] = &[];

/// Checks `tracer`, apart from what is `allowed` and what is `known`.
pub(crate) fn check(
    all: &Crate,
    allowed: &[(&str, &str, &str)],
    known: &[(&str, &str)],
) -> Vec<String> {
    let mut used = Vec::new();
    let mut faults = Vec::new();
    let right = |name: &Name| name.first().is_some_and(|first| RIGHT.contains(&first.as_str()));
    for (name, module) in all.modules.iter().filter(|(name, of)| right(name) && !of.is_test) {
        let file = module.file.display().to_string();
        for (what, line) in reads(all, name, module) {
            let covers = |entry: &(&str, &str)| entry.0 == file && entry.1 == what;
            let permitted = allowed.iter().map(|(file, what, _)| (*file, *what));
            if let Some((file, what)) = permitted.chain(known.iter().copied()).find(covers) {
                used.push((file, what));
                continue;
            }
            faults.push(format!(
                "{file}:{line}: reads `{what}` right of the snapshot, where everything must follow from the snapshot: \
                 read it in collector/, reconcile/ or lib_objects/ and put the figure into `Snapshot`"
            ));
        }
    }
    let entries = allowed.iter().map(|(file, what, _)| (*file, *what)).chain(known.iter().copied());
    for (file, what) in entries.filter(|(file, _)| all.would_have(file)) {
        if !used.contains(&(file, what)) {
            let line = line_of(include_str!("tidy_waist.rs"), &[file, what]);
            faults.push(format!(
                "xtask/src/tidy_waist.rs:{line}: {file} does not read `{what}` any more: remove its entry from the list"
            ));
        }
    }
    faults
}

/// What a module reads, each thing once, with the line.
fn reads(all: &Crate, name: &Name, module: &Module) -> Vec<(String, usize)> {
    let found = &module.found;
    let mut reads: Vec<(String, usize)> = Vec::new();
    let mut add = |what: String, line: usize| {
        if reads.iter().all(|(one, _)| *one != what) {
            reads.push((what, line));
        }
    };
    for (path, line) in &found.paths {
        match all.meaning(name, path) {
            Meaning::Here(home, rest) => {
                let item = rest.first().map_or("", String::as_str);
                let live = home.first().is_some_and(|first| first == "target")
                    && !item.is_empty()
                    && !PLAIN.contains(&item);
                if live || FUNCTIONS.contains(&item) {
                    add(format!("{}::{item}", home.join("::")), *line);
                }
            }
            Meaning::Elsewhere(path) => {
                let path = path.join("::");
                let is = |read: &&&str| {
                    path.strip_prefix(**read)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
                };
                if let Some(read) = READS.iter().find(is) {
                    add((*read).to_owned(), *line);
                }
            }
        }
    }
    for (method, line) in &found.methods {
        if METHODS.contains(&method.as_str()) {
            add(method.clone(), *line);
        }
    }
    for (text, line) in &found.texts {
        if text.contains("/proc/") {
            add("/proc/".to_owned(), *line);
        }
    }
    reads
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &str); 5] = [
        ("", "mod target;"),
        (
            "target",
            "pub struct Pid(u32); pub fn rss_bytes() {} pub mod memory { pub struct Memories; }",
        ),
        (
            "report",
            "use std::{fs, time::Instant};\nuse crate::target::{Pid, memory::Memories};\n\
             fn f(pid: Pid) { fs::read(\"/proc/1\"); pid.proc_path(\"x\"); Instant::now(); \
             crate::target::rss_bytes(); }",
        ),
        (
            "tui",
            "use std::time::Instant; fn f(_: Instant) {} #[cfg(test)] mod tests { use std::fs; }",
        ),
        ("collector", "use std::fs;"),
    ];

    #[test]
    fn every_read_right_of_the_snapshot_is_a_fault() {
        let found = check(&Crate::of(&FILES), &[], &[]);
        let starts = [
            "report.rs:1: reads `std::fs`",
            "report.rs:2: reads `target::memory::Memories`",
            "report.rs:3: reads `std::time::Instant::now`",
            "report.rs:3: reads `target::rss_bytes`",
            "report.rs:3: reads `proc_path`",
            "report.rs:3: reads `/proc/`",
        ];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        assert!(found.iter().zip(starts).all(|(one, start)| one.starts_with(start)), "{found:?}");
    }

    #[test]
    fn an_entry_that_nothing_needs_is_a_fault() {
        let allowed = [("report.rs", "std::fs", "names"), ("tui.rs", "std::fs", "no reason")];
        let known = [("report.rs", "proc_path"), ("tui.rs", "elapsed")];
        let found = check(&Crate::of(&FILES), &allowed, &known);
        assert!(found.iter().all(|one| !one.contains("report.rs:1:")));
        let gone: Vec<_> = found.iter().filter(|one| one.contains("remove its entry")).collect();
        assert_eq!(gone.len(), 2, "{gone:?}");
    }
}
