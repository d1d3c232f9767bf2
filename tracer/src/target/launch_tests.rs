//! Tests of `launch` with real commands.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use super::{Event, Launched, Streams};
use crate::target::{
    Pid, TargetError,
    mappings::{self, Mappings},
};

const TIMEOUT: Duration = Duration::from_secs(20);

fn has_libc(mappings: &Mappings) -> bool {
    mappings.objects().iter().any(|object| {
        object.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libc.so"))
    })
}

fn start(program: &str, arguments: &[&str]) -> (Launched, Receiver<Event>) {
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    let (sender, events) = channel();
    let on_event = move |event| sender.send(event).unwrap_or(());
    let launched =
        Launched::start(OsStr::new(program), &arguments, Streams::default(), has_libc, on_event)
            .unwrap();
    (launched, events)
}

fn shell(script: &str) -> (Launched, Receiver<Event>) {
    start("sh", &["-c", script])
}

/// All events up to and including the end; lets the command exit at once.
fn run_to_end(launched: &Launched, events: &Receiver<Event>) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let event = events.recv_timeout(TIMEOUT).unwrap();
        seen.push(event);
        match event {
            Event::Exiting => launched.let_exit(),
            Event::Executed => {}
            Event::Exited { .. } => return seen,
        }
    }
}

fn ends_with(script: &str, status: Option<i32>, signal: Option<i32>) {
    let (launched, events) = shell(script);
    assert!(launched.is_ready());
    launched.resume();
    let seen = run_to_end(&launched, &events);
    assert_eq!(seen, [Event::Exiting, Event::Exited { status, signal }], "{script}");
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A command that writes a mark, sends itself SIGSTOP, and has stopped.
fn stopped(scratch: &Scratch) -> (Launched, Receiver<Event>) {
    let mark = scratch.path("mark");
    let (launched, events) = shell(&format!("echo > {mark}; kill -STOP $$; exit 4"));
    launched.resume();
    // The mark rules out the stop at the launch: a stop by job control to which we listen is shown as a
    // tracing stop, too.
    until("stopped", || {
        let state = status_line(launched.pid(), "State:");
        fs::exists(&mark).unwrap() && state.starts_with('t')
    });
    (launched, events)
}

fn status_line(pid: Pid, key: &str) -> String {
    let status = fs::read_to_string(pid.proc_path("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_default().trim().to_owned()
}

fn signal(pid: Pid, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.raw().unwrap()), signal).unwrap();
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let own = std::process::id();
        let folder = std::env::temp_dir().join(format!("leaktrace-launch-{name}-{own}"));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or(());
    }
}

#[test]
fn exit_statuses_and_fatal_signals_are_reported() {
    ends_with("exit 0", Some(0), None);
    ends_with("exit 3", Some(3), None);
    ends_with("kill -9 $$", None, Some(9));
    ends_with("kill -SEGV $$", None, Some(11));
}

#[test]
fn signals_reach_the_command() {
    ends_with("trap 'exit 7' TERM; kill -TERM $$; exit 1", Some(7), None);
    ends_with("trap 'exit 8' USR1; kill -USR1 $$; exit 1", Some(8), None);
    ends_with("trap '' USR1; kill -USR1 $$; exit 9", Some(9), None);
    // A real-time signal, which most libraries have no name for.
    ends_with("trap 'exit 6' 40; kill -40 $$; exit 1", Some(6), None);
    ends_with("true & wait; exit 5", Some(5), None);
}

#[test]
fn a_held_command_has_its_allocator_mapped_and_has_not_run() {
    let scratch = Scratch::new("held");
    let mark = scratch.path("mark");
    let (launched, events) = shell(&format!("echo ran > {mark}"));
    let pid = launched.pid();
    let libc = mappings::read(pid).unwrap();
    assert!(has_libc(&libc));
    // The loader has not finished: it has not relocated all libraries that it maps last.
    assert_eq!(status_line(pid, "State:"), "t (tracing stop)");
    assert!(!fs::exists(&mark).unwrap());
    launched.resume();
    run_to_end(&launched, &events);
    assert_eq!(fs::read_to_string(&mark).unwrap(), "ran\n");
}

#[test]
fn the_memory_map_is_readable_at_exit_and_the_wait_is_bounded() {
    let (launched, events) = start("/bin/true", &[]);
    launched.resume();
    assert_eq!(events.recv_timeout(TIMEOUT).unwrap(), Event::Exiting);
    assert!(has_libc(&mappings::read(launched.pid()).unwrap()));
    // Nothing calls `let_exit`; the command exits after the timeout.
    let end = events.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(end, Event::Exited { status: Some(0), signal: None });
}

#[test]
fn job_control_stops_and_continues_the_command() {
    let (launched, events) = stopped(&Scratch::new("stop"));
    let pid = launched.pid();
    assert!(events.try_recv().is_err());
    signal(pid, nix::sys::signal::Signal::SIGCONT);
    let seen = run_to_end(&launched, &events);
    assert_eq!(seen[1], Event::Exited { status: Some(4), signal: None });
}

#[test]
fn an_exec_is_reported_and_followed() {
    let (launched, events) = shell("exec sh -c 'exit 2'");
    launched.resume();
    let seen = run_to_end(&launched, &events);
    let end = Event::Exited { status: Some(2), signal: None };
    assert_eq!(seen, [Event::Executed, Event::Exiting, end]);
}

#[test]
fn a_command_ready_at_load_is_held_there_and_its_first_exec_is_no_event() {
    let (sender, events) = channel();
    let on_event = move |event| sender.send(event).unwrap_or(());
    let arguments = ["-c", "exec sh -c 'exit 2'"].map(OsString::from);
    let launched =
        Launched::start(OsStr::new("sh"), &arguments, Streams::default(), |_| true, on_event)
            .unwrap();
    // Held before the loader's first instruction: only the program and the loader are mapped.
    assert!(launched.is_ready() && !has_libc(&mappings::read(launched.pid()).unwrap()));
    launched.resume();
    let end = Event::Exited { status: Some(2), signal: None };
    assert_eq!(run_to_end(&launched, &events), [Event::Executed, Event::Exiting, end]);
}

#[test]
fn a_detached_command_keeps_running_untraced() {
    let scratch = Scratch::new("detach");
    let (fifo, mark) = (scratch.path("fifo"), scratch.path("mark"));
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for held in [true, false] {
        let (launched, events) = shell(&format!("read x < {fifo}; echo $x > {mark}"));
        let pid = launched.pid();
        if !held {
            launched.resume();
        }
        assert_ne!(status_line(pid, "TracerPid:"), "0");
        launched.detach();
        assert_eq!(status_line(pid, "TracerPid:"), "0");
        fs::write(&fifo, format!("{held}\n")).unwrap();
        until("written", || fs::read_to_string(&mark).is_ok_and(|x| x == format!("{held}\n")));
        assert!(events.recv_timeout(TIMEOUT).is_err(), "no events after the detach");
    }
}

/// This test starts itself as another process, which starts a command and kills itself.
#[test]
fn a_command_survives_our_sigkill() {
    const ROLE: &str = "LEAKTRACE_TEST_ROLE";
    let role = std::env::var(ROLE).unwrap_or_default();
    if let Some((state, script)) = role.split_once(' ') {
        let (launched, _events) = shell(script);
        if state == "running" {
            launched.resume();
            until("running", || !status_line(launched.pid(), "State:").starts_with('t'));
        }
        signal(Pid::own(), nix::sys::signal::Signal::SIGKILL);
    }
    let scratch = Scratch::new("outlive");
    let (fifo, mark) = (scratch.path("fifo"), scratch.path("mark"));
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for state in ["held", "running"] {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "target::launch::tests::a_command_survives_our_sigkill"])
            .env(ROLE, format!("{state} read x < {fifo}; echo $x > {mark}"))
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        fs::write(&fifo, format!("{state}\n")).unwrap();
        until("written", || fs::read_to_string(&mark).is_ok_and(|x| x == format!("{state}\n")));
    }
}

#[test]
fn a_stopped_command_stays_stopped_after_a_detach() {
    let (launched, _events) = stopped(&Scratch::new("stop-detach"));
    let pid = launched.pid();
    launched.detach();
    assert_eq!(status_line(pid, "TracerPid:"), "0");
    until("stopped", || status_line(pid, "State:") == "T (stopped)");
    signal(pid, nix::sys::signal::Signal::SIGCONT);
    until("ended", || status_line(pid, "State:").starts_with('Z'));
}

#[test]
fn a_command_that_is_never_ready_is_held_at_its_exit() {
    let (sender, events) = channel();
    let on_event = move |event| sender.send(event).unwrap_or(());
    let launched =
        Launched::start(OsStr::new("true"), &[], Streams::default(), |_| false, on_event).unwrap();
    assert!(!launched.is_ready());
    launched.resume();
    let end = Event::Exited { status: Some(0), signal: None };
    assert_eq!(run_to_end(&launched, &events), [Event::Exiting, end]);
}

#[test]
fn commands_that_cannot_run_report_the_reason() {
    let scratch = Scratch::new("refused");
    let script = scratch.path("script");
    fs::write(&script, "#!/nosuch/interpreter\n").unwrap();
    let start = |program: &str| {
        let error = Launched::start(OsStr::new(program), &[], Streams::default(), |_| true, |_| ())
            .unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        (error.to_string(), cause, matches!(error, TargetError::CommandNotFound(_)))
    };
    let not_found =
        |name: &str| (format!("could not start `{name}`: command not found"), None, true);
    assert_eq!(start("nosuch-command"), not_found("nosuch-command"));
    assert_eq!(start("/nosuch/command"), not_found("/nosuch/command"));
    let refused =
        |name: &str, why: &str| (format!("could not start `{name}`"), Some(why.to_owned()), false);
    assert_eq!(start(&script), refused(&script, "permission denied"));
    assert_eq!(start("/etc"), refused("/etc", "permission denied"));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    assert_eq!(start(&script), refused(&script, "its interpreter or loader does not exist"));
}
