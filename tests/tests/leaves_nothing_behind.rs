//! However leaktrace ends, its target goes on unharmed, and nothing of leaktrace remains: no changed code, no process.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests::{
    Report, Terminal, Victim, compare::Named, running_leaktraces, scratch, service::changed_code,
    wait_until,
};

/// The event that ends leaktrace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Key,
    Signal(&'static str),
    ClosedTerminal,
}

/// The output that was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Screen,
    Report,
}

/// leaktrace exits soon after an event that it handles, however many probes are attached: at most a second on an idle
/// machine; the test prints the time.
const PROMPT: Duration = Duration::from_secs(5);

/// The kernel removes probes link by link, each with all its locations at once: some tenths of a second, some seconds
/// on a busy machine. (The test prints the time. Kernels before 6.6 take 0.1 s per location.)
const CLEAN: Duration = Duration::from_secs(15);

/// Fifty pairs of functions: a hundred probes in addition to the default ones.
fn pairs() -> Vec<String> {
    let pair = |number: usize| {
        let (get, put) = (format!("get_{number:02}:size@0"), format!("put_{number:02}"));
        ["--alloc".to_owned(), get, "--free".to_owned(), put]
    };
    (0..50).flat_map(pair).collect()
}

/// The victim's number of turns; it must report no error so far.
fn turns(victim: &mut Victim) -> Result<u64> {
    victim.send("count")?;
    let answer = victim.answer()?;
    let number = |key| answer.get(key).and_then(Value::as_u64);
    ensure!(number("broken") == Some(0) && number("signals") == Some(0), "{answer}");
    number("turns").context("a number of turns")
}

/// Waits until the threads have done a thousand more turns.
fn goes_on(victim: &mut Victim) -> Result<()> {
    let before = turns(victim)?;
    wait_until(
        "the target works on",
        Duration::from_secs(20),
        || Ok(turns(victim)? > before + 1000),
    )
}

fn unharmed(form: Form, end: End, options: &[String]) -> Result<()> {
    // The process that takes out the probes of the test before lives as long as that takes.
    wait_until("no leaktrace runs yet", CLEAN, || Ok(running_leaktraces()?.is_empty()))?;
    let mut victim = Victim::start("pairs", &[])?;
    let (pid, output) = (victim.pid().to_string(), scratch("goodbye.json")?);
    let mut arguments = vec!["-p", &pid];
    if form == Form::Report {
        arguments.extend(["-f", "json", "-o", output.to_str().context("a path in UTF-8")?]);
    }
    arguments.extend(options.iter().map(String::as_str));
    let mut terminal = Terminal::start(&arguments)?;
    terminal.wait_for(if form == Form::Report { "leaktrace: tracing" } else { "heap 0 B in 0" })?;
    ensure!(!changed_code(victim.pid())?.is_empty(), "probes are on and not found");
    victim.go()?;
    let truth = victim.truth()?;
    goes_on(&mut victim)?;
    let begun = Instant::now();
    match end {
        End::Key => terminal.press("q")?,
        End::ClosedTerminal => terminal.close(),
        End::Signal(name) => terminal.signal(name)?,
    }
    let fatal = match end {
        End::Signal("KILL") => Some(9),
        End::Signal("ABRT") => Some(6),
        End::Signal("SEGV") => {
            // The first signal only removes the Rust runtime's handler, which checks for stack overflows.
            if terminal.wait(Duration::from_millis(200)).is_err() {
                terminal.signal("SEGV")?;
            }
            Some(11)
        }
        _ => None,
    };
    let status = terminal.wait(if fatal.is_some() { CLEAN } else { PROMPT })?;
    let ended = begun.elapsed();
    // The target must also run while its probes are being removed.
    goes_on(&mut victim)?;
    let left = CLEAN.saturating_sub(begun.elapsed());
    wait_until("probes are taken out", left, || Ok(changed_code(victim.pid())?.is_empty()))?;
    let clean = begun.elapsed();
    wait_until("no process of leaktrace is left", CLEAN, || Ok(running_leaktraces()?.is_empty()))?;
    let gone = begun.elapsed();
    goes_on(&mut victim)?;
    ensure!(victim.end()?.code() == Some(0), "something was wrong with the target");
    print(&format!(
        "{form:?}, {end:?}: ended after {ended:.0?}, code clean after {clean:.1?}, all gone after {gone:.1?}"
    ));
    match (fatal, form) {
        (Some(signal), _) => {
            use std::os::unix::process::ExitStatusExt as _;
            ensure!(status.signal() == Some(signal), "{status}");
        }
        (None, Form::Screen) => ensure!(status.code() == Some(0), "{status}"),
        (None, Form::Report) => {
            ensure!(status.code() == Some(0), "{status}");
            let report = Report::read(&output)?;
            // Functions without probes are not traced.
            let unseen: &[&str] = if options.is_empty() { &["hold"] } else { &[] };
            truth.without(unseen).compare(&report, Named::ByFirstFrame, &[], true)?;
            if !options.is_empty() {
                let on = |probe: &&Value| probe.get("status").is_some_and(|status| status == "on");
                ensure!(report.list("/probes")?.iter().filter(on).count() > 100);
            }
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "how long it took is for people")]
fn print(line: &str) {
    println!("{line}");
}

/// Runs all cases, then reports all failures.
fn check_all(cases: &[(Form, End)], options: &[String]) -> Result<()> {
    let mut failures = Vec::new();
    for (form, end) in cases {
        if let Err(error) = unharmed(*form, *end, options) {
            failures.push(format!("{form:?}, {end:?}: {error:#}"));
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!(failures.join("\n\n")) }
}

#[test]
fn a_key_leaves_at_once_however_many_probes_are_on() -> Result<()> {
    check_all(&[(Form::Screen, End::Key)], &pairs())
}

#[test]
fn signals_leave_a_report_and_nothing_else_however_many_probes_are_on() -> Result<()> {
    let cases = ["INT", "TERM", "HUP"].map(|signal| (Form::Report, End::Signal(signal)));
    check_all(&cases, &pairs())
}

#[test]
fn signals_leave_the_screen_as_the_key_does() -> Result<()> {
    let cases = ["INT", "TERM", "HUP"].map(|signal| (Form::Screen, End::Signal(signal)));
    check_all(&cases, &[])
}

#[test]
fn a_closed_terminal_ends_it_too() -> Result<()> {
    let cases = [Form::Screen, Form::Report].map(|form| (form, End::ClosedTerminal));
    check_all(&cases, &[])
}

#[test]
fn a_crash_harms_nobody_else() -> Result<()> {
    let cases = ["SEGV", "ABRT"].map(|signal| (Form::Report, End::Signal(signal)));
    check_all(&cases, &[])
}

#[test]
fn sigkill_harms_nobody_else() -> Result<()> {
    check_all(&[(Form::Screen, End::Signal("KILL")), (Form::Report, End::Signal("KILL"))], &[])
}
