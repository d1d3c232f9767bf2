//! The expected failures of leaktrace, each with a help line.
//!
//! Takes causes from every module, passes on two lines on stderr and the exit status. Every failure is one line,
//! `could not <verb> <object>: cause`, followed by one `help:` line that the user can act on. Must not decide anything
//! else: the module that fails describes the failure.

mod help;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use crate::{arch::Unsupported, format::printable};

/// Exit status of a failure.
pub const COULD_NOT: u8 = 2;

/// Lines of the verifier's log to show with `-v`: the reason is at its end.
const VERIFIER_LINES: usize = 20;

/// An expected failure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No target on the command line.
    #[error("could not start tracing: no target given")]
    NoTarget,
    /// Targets given by more than one flag.
    #[error("could not choose a target: {}", several(.given))]
    SeveralTargets {
        /// The flags that were given.
        given: Vec<&'static str>,
    },
    /// A time below its minimum.
    #[error(
        "could not use `{flag} {}`: the minimum is {}",
        humantime::format_duration(*.time), humantime::format_duration(*.least)
    )]
    TooShort {
        /// The flag.
        flag: &'static str,
        /// The time given.
        time: Duration,
        /// The minimum.
        least: Duration,
    },
    /// A kind that cannot be traced with a budget.
    #[error(
        "could not trace `{kind}` with `--max-overhead`: descriptors opened between two windows would be missed"
    )]
    NoBudgetFor {
        /// The kind.
        kind: &'static str,
    },
    /// The terminal UI was requested, but there is no terminal.
    #[error("could not open the terminal UI: stdout is not a terminal")]
    NoTerminal,
    /// The terminal UI was requested with a file for the report.
    #[error("could not write the terminal UI to `{}`: only text and JSON can go to a file", .path.display())]
    ScreenToFile {
        /// The file.
        path: PathBuf,
    },
    /// The terminal UI was requested for single moments of a tape.
    #[error("could not open the terminal UI with `--at`: only text and JSON show single moments")]
    ScreenAtTimes,
    /// Capabilities are missing.
    #[error("could not use `bpf`: missing {}", .missing.join(" and "))]
    NotPermitted {
        /// Names of the missing capabilities.
        missing: Vec<&'static str>,
    },
    /// Root only inside a user namespace, which `bpf` does not accept.
    #[error("could not use `bpf`: root in a user namespace is not root of the kernel")]
    UserNamespace,
    /// Process ids here differ from those that the BPF programs see.
    #[error("could not identify processes: leaktrace runs in its own pid namespace")]
    PidNamespace,
    /// A runtime that moves its stacks.
    #[error(
        "could not trace process {pid}: `{}` contains the Go runtime, which moves stacks; return \
         probes would crash it", printable(.object)
    )]
    MovingStacks {
        /// The id.
        pid: u32,
        /// The object that contains it.
        object: String,
    },
    /// No process with this id.
    #[error("could not find process `{pid}`: no process has this id")]
    NoSuchProcess {
        /// The id.
        pid: u32,
    },
    /// No process with this name.
    #[error("could not find process `{}`: no process has this name", printable(.name))]
    NoSuchName {
        /// The name.
        name: String,
    },
    /// Several processes with this name.
    #[error(
        "could not choose among processes named `{}`: {} have this name",
        printable(.name), .matches.len()
    )]
    AmbiguousName {
        /// The name.
        name: String,
        /// All of them.
        matches: Vec<Match>,
    },
    /// The heap of a process may not be read.
    #[error("could not read the memory of process `{pid}`")]
    HeapUnreadable {
        /// The id.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// No heap that leaktrace can read.
    #[error("could not find the heap of process `{pid}`: no arena of glibc in its variables")]
    NoReadableHeap {
        /// The id.
        pid: u32,
    },
    /// A kernel thread.
    #[error("could not trace process `{pid}`: it is a kernel thread")]
    KernelThread {
        /// The id.
        pid: u32,
    },
    /// A process that has ended, and that its parent has not waited for.
    #[error("could not trace process `{pid}`: it has ended, and its parent{} has not waited for it (zombie)", numbered(*.parent))]
    Zombie {
        /// The id.
        pid: u32,
        /// Its parent, if known.
        parent: Option<u32>,
    },
    /// leaktrace's own process.
    #[error("could not trace process `{pid}`: it is this leaktrace itself")]
    Itself {
        /// The id.
        pid: u32,
    },
    /// A process whose files in `/proc` the kernel protects.
    #[error("could not read {what} of process `{pid}`: permission denied")]
    Protected {
        /// The id.
        pid: u32,
        /// Which part of `/proc`.
        what: &'static str,
        /// Whether it has capabilities that leaktrace lacks.
        more_capable: bool,
    },
    /// The target ended before its probes were attached.
    #[error("could not attach to process `{pid}`: it ended meanwhile")]
    Ended {
        /// The id.
        pid: u32,
    },
    /// No function of it can be probed without reporting false leaks.
    #[error("could not attach to process `{pid}`: {}", printable(.why))]
    NothingProbed {
        /// The id.
        pid: u32,
        /// Why, never empty.
        why: String,
    },
    /// A 32-bit target.
    #[error("could not trace `{}` (process {pid}): it is a 32-bit program", printable(.exe))]
    ThirtyTwoBit {
        /// The id.
        pid: u32,
        /// Its executable.
        exe: String,
    },
    /// No probed function in the target.
    #[error(
        "could not find an allocator in process `{pid}`: {}",
        if *.stripped { "its executable is static and stripped of its symbols" }
        else { "no loaded file defines `malloc`" }
    )]
    NoAllocator {
        /// The id.
        pid: u32,
        /// Whether the executable has no symbols at all.
        stripped: bool,
    },
    /// The target does not define a function that the user named.
    #[error(
        "could not find function `{}` in process `{pid}`: {}", printable(.function),
        match .library {
            Some(library) => format!("no loaded file named `{}` defines it", printable(library)),
            None => "no loaded file defines it".to_owned(),
        }
    )]
    NoFunction {
        /// The id.
        pid: u32,
        /// The function.
        function: String,
        /// The library that should define it.
        library: Option<String>,
    },
    /// The command does not exist.
    #[error("could not find command `{}`: {}", printable(&.program.to_string_lossy()), unfound(.program))]
    CommandNotFound {
        /// The program as typed.
        program: OsString,
    },
    /// The command exists and cannot be started.
    #[error("could not start command `{}`", printable(&.program.to_string_lossy()))]
    CommandNotStarted {
        /// The program as typed.
        program: OsString,
        /// Why.
        source: io::Error,
    },
    /// The file for the output of a command cannot be written; detected before the command starts.
    #[error("could not create `{}` for the output of the command", .path.display())]
    CommandOutput {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A processor whose architecture leaktrace does not support.
    #[error("could not trace on this machine: {0}")]
    Architecture(Unsupported),
    /// The kernel is too old for the BPF programs.
    #[error("could not use kernel `{found}`: {needed} or newer is needed")]
    KernelTooOld {
        /// Release of the running kernel.
        found: String,
        /// The oldest supported release.
        needed: &'static str,
    },
    /// The kernel does not describe its own types.
    #[error("could not use kernel `{kernel}`: it has no type information (BTF)")]
    NoBtf {
        /// Release of the running kernel.
        kernel: String,
    },
    /// The kernel was built without uprobes.
    #[error("could not use kernel `{kernel}`: it has no uprobes")]
    NoUprobes {
        /// Release of the running kernel.
        kernel: String,
    },
    /// The kernel's lockdown refused a program.
    #[error("could not load program `{program}`: the kernel is locked down ({mode})")]
    LockedDown {
        /// The program that was refused.
        program: String,
        /// Lockdown mode.
        mode: String,
        /// The refusal.
        source: io::Error,
    },
    /// The kernel refused a program.
    #[error("could not load program `{program}`")]
    LoadRefused {
        /// The program.
        program: String,
        /// The verifier's log; may be empty.
        verifier: String,
        /// The refusal.
        source: io::Error,
    },
    /// No memory for a map.
    #[error("could not create map `{map}`")]
    MapMemory {
        /// The map.
        map: String,
        /// The refusal.
        source: io::Error,
    },
    /// The report's file cannot be written; detected before tracing.
    #[error("could not open `{}` for the report", .path.display())]
    OutputNotWritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file for the log of connections cannot be written; detected before tracing.
    #[error("could not open `{}` for the log of connections", .path.display())]
    LogNotWritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file for the tape cannot be written; detected before tracing.
    #[error("could not open `{}` for the tape", .path.display())]
    TapeNotWritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tape cannot be read.
    #[error("could not read the tape `{}`", .path.display())]
    TapeUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no tape that this program can replay.
    #[error("could not replay `{}`: {why}", .path.display())]
    NotATape {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The file of suppressions cannot be read.
    #[error("could not read the suppressions `{}`", .path.display())]
    SuppressionsUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of it is no suppression.
    #[error("could not read the suppression `{}:{line}`: {}", .path.display(), printable(.why))]
    BadSuppression {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        why: String,
    },
    /// A log of connections was requested, but file descriptors are not traced.
    #[error("could not log connections: file descriptors are not traced")]
    NothingToLog,
    /// A pack was given, but objects are not traced.
    #[error("could not use `--pack`: objects are not traced")]
    NoObjects,
    /// Objects were requested without packs.
    #[error("could not trace `object`: no packs are loaded")]
    NoPacks,
    /// The report's file could not be written after tracing.
    #[error("could not write the report to `{}`", .path.display())]
    OutputLost {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// Where the report went instead.
        kept: Kept,
    },
}

/// A process that a name matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Its id.
    pub pid: u32,
    /// Its arguments, joined by spaces.
    pub cmdline: String,
}

/// Where a report was saved that could not be written to its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Stdout, which was not used otherwise.
    Stdout,
    /// This file.
    File(PathBuf),
    /// Nowhere: no destination was writable.
    Nowhere,
}

impl Failure {
    /// Lines between the failure and its help: the matches of a name, or (with `-v`) the end of the verifier's log.
    pub fn details(&self, verbosity: u8) -> Vec<String> {
        match self {
            Self::AmbiguousName { matches, .. } => matches
                .iter()
                .map(|found| format!("{:>7} {}", found.pid, printable(&found.cmdline)))
                .collect(),
            Self::LoadRefused { verifier, .. } if verbosity > 0 => {
                let lines: Vec<&str> =
                    verifier.lines().filter(|line| !line.trim().is_empty()).collect();
                let excerpt = lines.iter().skip(lines.len().saturating_sub(VERIFIER_LINES));
                excerpt.map(|line| format!("  verifier: {}", printable(line))).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Writes the failure to stderr; returns the exit status of a failure.
pub fn print(failure: &anyhow::Error, verbosity: u8) -> ExitCode {
    // Ignores a closed stderr; the exit status still shows the failure.
    drop(io::stderr().lock().write_all(message(failure, verbosity).as_bytes()));
    ExitCode::from(COULD_NOT)
}

/// Writes the parser's message about a wrong command line, in the format of every other failure.
pub fn print_refusal(refusal: &str) -> ExitCode {
    // Ignores a closed stderr.
    drop(io::stderr().lock().write_all(refusal_message(refusal).as_bytes()));
    ExitCode::from(COULD_NOT)
}

/// The first paragraph of the parser's message on one line; its tip, or a reference to `--help`, as help.
pub fn refusal_message(refusal: &str) -> String {
    let cause = refusal.split("\n\n").next().unwrap_or_default();
    let cause = one_line(cause.trim_start_matches("error: "));
    let tip = refusal.lines().find_map(|line| line.trim_start().strip_prefix("tip: "));
    let help = tip.map_or_else(|| "see leaktrace --help".to_owned(), one_line);
    format!("leaktrace: could not use the command line: {cause}\nhelp: {help}\n")
}

/// Writes a message to stderr that is not a failure, as one line.
pub fn say(text: &str) {
    // Ignores a closed stderr.
    drop(io::stderr().lock().write_all(format!("leaktrace: {text}\n").as_bytes()));
}

/// Writes a warning to stderr, with a help line.
pub fn warn(text: &str, help: &str) {
    let text = format!("leaktrace: warning: {}\nhelp: {}\n", one_line(text), one_line(help));
    // Ignores a closed stderr.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// The failure and its causes on one line.
pub fn line(failure: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in failure.chain() {
        let cause = one_line(&cause.to_string());
        // Some error types repeat their cause in their own text.
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// The failure and its causes on one line, its details, and its help.
pub fn message(failure: &anyhow::Error, verbosity: u8) -> String {
    let mut text = format!("leaktrace: {}\n", line(failure));
    let known = failure.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    if let Some(known) = known {
        for detail in known.details(verbosity) {
            text = text + &detail + "\n";
        }
        if let Some(help) = known.help() {
            text = text + "help: " + &help + "\n";
        }
    }
    text
}

fn one_line(text: &str) -> String {
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A process id behind a noun, if it is known.
fn numbered(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" {pid}"))
}

fn several(given: &[&str]) -> String {
    match given {
        [one, other] => format!("both `{one}` and `{other}` were given"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|flag| format!("`{flag}`")).collect();
            format!("{} and `{last}` were given", first.join(", "))
        }
        [] => "several were given".to_owned(),
    }
}

fn unfound(program: &OsString) -> &'static str {
    if program.to_string_lossy().contains('/') { "no such file" } else { "it is not in `PATH`" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_is_reported_like_other_failures() {
        let refusal = "error: invalid value '5' for '--max-overhead <SHARE>': expected a percentage, such as 5%\n\n\
                       For more information, try '--help'.\n";
        assert_eq!(
            refusal_message(refusal),
            "leaktrace: could not use the command line: invalid value '5' for '--max-overhead <SHARE>': expected a \
             percentage, such as 5%\nhelp: see leaktrace --help\n"
        );
        let refusal = "error: unexpected argument '--durtion' found\n\n  tip: a similar argument exists: \
                       '--duration'\n\nUsage: leaktrace\n";
        assert_eq!(
            refusal_message(refusal),
            "leaktrace: could not use the command line: unexpected argument '--durtion' found\nhelp: a similar \
             argument exists: '--duration'\n"
        );
    }
}
