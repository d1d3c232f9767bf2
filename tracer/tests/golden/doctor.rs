//! The doctor's output for hosts other than this one.

use leaktrace::{
    arch::Unsupported,
    doctor::write,
    error::Failure,
    preflight::{Candidate, Facts},
};

fn good_host() -> Facts {
    Facts {
        architecture: Ok("x86-64"),
        kernel: "6.18.2-amd64".to_owned(),
        uid: Some(0),
        capabilities: u64::MAX,
        btf: true,
        uprobes: true,
        kprobes: true,
        tracefs: true,
        lockdown: Some("none".to_owned()),
        perf_event_paranoid: Some(2),
        unprivileged_bpf_disabled: Some(2),
        memlock: Some("8388608".to_owned()),
        initial_pid_namespace: Some(true),
        initial_user_namespace: Some(true),
        possible_cpus: Some(2),
    }
}

fn server() -> Candidate {
    Candidate {
        pid: 4121,
        exe: Some("/srv/gateway/bin/gateway".to_owned()),
        comm: Some("gateway".to_owned()),
        bits: Some(64),
        kernel_thread: false,
        zombie: false,
        parent: Some(1),
        capabilities: Some(0),
        seccomp: Some(2),
        allocators: Some(vec![
            "jemalloc 5.3.0 from libjemalloc.so.2, preloaded; glibc's malloc is not used"
                .to_owned(),
            "glibc 2.36 from libc.so.6: not used, jemalloc's malloc comes first".to_owned(),
        ]),
        stripped: false,
    }
}

fn output(facts: &Facts, processes: &[Result<Candidate, Failure>]) -> (bool, String) {
    let mut out = Vec::new();
    let works = write(facts, processes, &mut out).unwrap();
    (works, String::from_utf8(out).unwrap())
}

#[test]
fn a_good_host_and_a_server() {
    let (works, text) = output(&good_host(), &[Ok(server())]);
    assert!(works);
    insta::assert_snapshot!(text);
}

#[test]
fn a_host_that_lacks_everything() {
    let facts = Facts {
        architecture: Err(Unsupported { architecture: "riscv64" }),
        kernel: "4.19.0-27-amd64".to_owned(),
        uid: Some(1000),
        capabilities: 0,
        btf: false,
        uprobes: false,
        kprobes: false,
        tracefs: false,
        lockdown: Some("confidentiality".to_owned()),
        perf_event_paranoid: None,
        unprivileged_bpf_disabled: Some(0),
        memlock: Some("unlimited".to_owned()),
        initial_pid_namespace: Some(false),
        initial_user_namespace: Some(false),
        possible_cpus: None,
    };
    let (works, text) = output(&facts, &[]);
    assert!(!works);
    insta::assert_snapshot!(text);
}

#[test]
fn processes_that_cannot_be_traced() {
    let facts = Facts { kernel: "6.11.4".to_owned(), lockdown: None, ..good_host() };
    let thread = Candidate {
        pid: 12,
        exe: None,
        comm: Some("kworker/0:1".to_owned()),
        bits: None,
        kernel_thread: true,
        allocators: None,
        ..server()
    };
    let narrow = Candidate { bits: Some(32), allocators: Some(vec![]), ..server() };
    let bare = Candidate { allocators: Some(vec![]), stripped: true, ..server() };
    let absent = Failure::NoSuchProcess { pid: 77 };
    let (works, text) = output(&facts, &[Ok(thread), Ok(narrow), Ok(bare), Err(absent)]);
    assert!(!works);
    insta::assert_snapshot!(text);
}
