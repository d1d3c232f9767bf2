//! Every failure, with its causes, its details and its help, as printed to stderr.

use std::{fmt::Write as _, io, path::PathBuf, time::Duration};

use leaktrace::{
    arch::Unsupported,
    error::{Failure, Kept, Match, message},
};

fn os(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

fn usage() -> Vec<Failure> {
    vec![
        Failure::NoTarget,
        Failure::SeveralTargets { given: vec!["-p", "-- CMD"] },
        Failure::SeveralTargets { given: vec!["-p", "-n", "-- CMD"] },
        Failure::TooShort {
            flag: "--interval",
            time: Duration::from_millis(10),
            least: Duration::from_millis(100),
        },
        Failure::NoTerminal,
        Failure::ScreenToFile { path: "r.json".into() },
        Failure::ScreenAtTimes,
        Failure::NoObjects,
        Failure::NoPacks,
        Failure::SuppressionsUnreadable { path: "leaks.supp".into(), source: os(2) },
        Failure::BadSuppression {
            path: "leaks.supp".into(),
            line: 3,
            why: "suppressions of type `race` are of other tools".to_owned(),
        },
    ]
}

fn targets() -> Vec<Failure> {
    let found = |pid, cmdline: &str| Match { pid, cmdline: cmdline.to_owned() };
    vec![
        Failure::NoSuchProcess { pid: 4121 },
        Failure::NoSuchName { name: "gateway".to_owned() },
        Failure::AmbiguousName {
            name: "gateway".to_owned(),
            matches: vec![
                found(4121, "/srv/gateway --listen 8443"),
                found(24188, "gateway --\u{1b}[31mred"),
            ],
        },
        Failure::KernelThread { pid: 12 },
        Failure::HeapUnreadable { pid: 4121, source: os(13) },
        Failure::NoReadableHeap { pid: 4121 },
        Failure::Ended { pid: 4121 },
        Failure::Zombie { pid: 4121, parent: Some(4100) },
        Failure::Zombie { pid: 4121, parent: None },
        Failure::Itself { pid: 4121 },
        Failure::Protected { pid: 1, what: "the executable", more_capable: true },
        Failure::Protected { pid: 4121, what: "the memory map", more_capable: false },
        Failure::ThirtyTwoBit { pid: 4121, exe: "/srv/old".to_owned() },
        Failure::NothingProbed {
            pid: 4121,
            why: "memory allocated by server is not traced: `free` of server cannot be probed: \
                  the kernel cannot probe the instruction there (ENOTSUPP)"
                .to_owned(),
        },
        Failure::NoAllocator { pid: 4121, stripped: false },
        Failure::NoAllocator { pid: 4121, stripped: true },
        Failure::NoFunction { pid: 4121, function: "pool_get".to_owned(), library: None },
        Failure::NoFunction {
            pid: 4121,
            function: "pool_get".to_owned(),
            library: Some("libpool.so".to_owned()),
        },
        Failure::MovingStacks { pid: 4121, object: "/srv/gateway".to_owned() },
        Failure::CommandNotFound { program: "server".into() },
        Failure::CommandNotFound { program: "bin/server".into() },
        Failure::CommandNotStarted { program: "./notes.txt".into(), source: os(13) },
    ]
}

fn host() -> Vec<Failure> {
    let kernel = || "6.12.9-amd64".to_owned();
    vec![
        Failure::NotPermitted { missing: vec!["CAP_BPF", "CAP_PERFMON"] },
        Failure::NotPermitted { missing: vec!["CAP_PERFMON"] },
        Failure::UserNamespace,
        Failure::PidNamespace,
        Failure::Architecture(Unsupported { architecture: "aarch64" }),
        Failure::KernelTooOld { found: "4.19.0-27-amd64".to_owned(), needed: "5.10" },
        Failure::NoBtf { kernel: kernel() },
        Failure::NoUprobes { kernel: kernel() },
        Failure::LockedDown {
            program: "size_entry".to_owned(),
            mode: "confidentiality".to_owned(),
            source: os(1),
        },
        Failure::LoadRefused {
            program: "size_entry".to_owned(),
            verifier: String::new(),
            source: os(22),
        },
        Failure::MapMemory { map: "YOUNG".to_owned(), source: os(12) },
    ]
}

fn output() -> Vec<Failure> {
    let path = || PathBuf::from("/srv/r.json");
    let lost = |kept| Failure::OutputLost { path: path(), source: os(28), kept };
    vec![
        Failure::OutputNotWritable { path: path(), source: os(2) },
        lost(Kept::Stdout),
        lost(Kept::File("/tmp/leaktrace-report-1".into())),
        lost(Kept::Nowhere),
    ]
}

fn messages(failures: Vec<Failure>) -> String {
    let mut text = String::new();
    for failure in failures {
        writeln!(text, "{}", message(&failure.into(), 0)).unwrap();
    }
    text
}

#[test]
fn of_usage() {
    insta::assert_snapshot!(messages(usage()));
}

#[test]
fn of_targets() {
    insta::assert_snapshot!(messages(targets()));
}

#[test]
fn of_the_host() {
    insta::assert_snapshot!(messages(host()));
}

#[test]
fn of_the_output() {
    insta::assert_snapshot!(messages(output()));
}

#[test]
fn the_verifier_speaks_when_asked() {
    let log = (0..40).map(|line| format!("{line}: (85) call bpf")).collect::<Vec<_>>().join("\n\n");
    let failure = || {
        let verifier = log.clone();
        Failure::LoadRefused { program: "size_entry".to_owned(), verifier, source: os(13) }
    };
    assert!(!message(&failure().into(), 0).contains("verifier:"));
    insta::assert_snapshot!(message(&failure().into(), 1));
}

#[test]
fn a_chain_of_causes_is_one_line_and_keeps_its_help() {
    let cause = Failure::NoSuchProcess { pid: 7 };
    let chain = anyhow::Error::from(cause).context("could not trace\nthe first target");
    assert_eq!(
        message(&chain, 0).lines().next().unwrap(),
        "leaktrace: could not trace the first target: \
         could not find process `7`: no process has this id"
    );
    assert!(message(&chain, 0).contains("\nhelp: "));
}

#[test]
fn each_failure_is_two_lines_plus_details() {
    for failure in usage().into_iter().chain(targets()).chain(host()).chain(output()) {
        let lines = failure.details(0).len() + 1 + usize::from(failure.help().is_some());
        let text = message(&failure.into(), 0);
        assert_eq!(text.lines().count(), lines, "{text}");
        assert!(text.starts_with("leaktrace: could not "), "{text}");
    }
}
