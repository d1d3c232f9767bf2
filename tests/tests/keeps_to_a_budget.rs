//! `--max-overhead`: where continuous tracing would cost more, leaktrace traces in sampling windows, and the report
//! contains estimates with their error; between windows the target contains no probe; where tracing costs less, the
//! figures are exact.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    Load, Report, Service, Trace, Victim,
    compile::victim_with,
    http::Connection,
    programs::Demand,
    report::{Amounts, symbols},
    service::changed_code,
    wait_until,
};

/// Time limit for a window, or a pause between two, to begin.
const TURN: Duration = Duration::from_secs(60);

/// With this many windows the error is meaningful: of seven after the first, Student's quantile is 2.4 and no longer
/// 12.7, as of two. They take half a minute, a minute on a busy machine.
const WINDOWS: u64 = 8;
/// Long enough for that many windows.
const LOADED: Duration = Duration::from_secs(180);

/// The first function of a call site's stack.
fn function(site: &Value) -> &str {
    symbols(site).first().copied().unwrap_or("?")
}

/// A number that may be unknown.
fn float(report: &Report, pointer: &str) -> Result<f64> {
    report.at(pointer)?.as_f64().with_context(|| format!("`{pointer}` is no number"))
}

/// Waits until the target's code contains probes, or none.
fn wait_for_probes(pid: u32, there: bool) -> Result<()> {
    let what = if there { "a window opens" } else { "a window closes" };
    // During an exec, the code cannot be read.
    wait_until(
        what,
        TURN,
        || Ok(changed_code(pid).is_ok_and(|changed| changed.is_empty() != there)),
    )
}

/// Checks a report of sampling windows without losses.
fn in_windows(report: &Report, at_least: u64) -> Result<()> {
    ensure!(report.lost()?.is_empty(), "{}", report.summary());
    ensure!(report.at("/accounting/estimated")? == true, "{}", report.at("/accounting")?);
    let windows = report.number("/accounting/budget/windows")?;
    ensure!(windows >= at_least, "{windows} windows");
    Ok(())
}

#[test]
fn a_leak_of_a_loaded_server_is_found_and_its_size_estimated() -> Result<()> {
    let server = Service::http_server(&["--leak-every", "100"])?;
    let leaked = || -> Result<(u64, u64)> {
        let said: Value = serde_json::from_str(&Connection::open(server.port)?.get("/truth")?)?;
        let number = |key: &str| said[key].as_u64().context("a number");
        Ok((number("leaked_count")?, number("leaked_bytes")?))
    };
    let before = leaked()?;
    let trace = Trace::attach(server.pid(), &["--max-overhead", "5%"])?;
    let load = Load::start(&server, Demand::Wrk, LOADED)?;
    for _ in 0..WINDOWS {
        wait_for_probes(server.pid(), false)?;
        wait_for_probes(server.pid(), true)?;
    }
    let answered = load.end()?;
    let after = leaked()?;
    let report = trace.stop()?;
    let truth = (after.0 - before.0, after.1 - before.1);

    in_windows(&report, WINDOWS)?;
    let sites = report.list("/sites")?;
    let first = sites.first().context("a call site")?;
    let said = Amounts::read(first)?;
    let error = &first["error"]["outstanding"];
    let cost = float(&report, "/accounting/budget/cost")?;
    println!(
        "{answered} requests; {} leaked, {} ± {} estimated; {}; cost {:.1} %",
        truth.0,
        said.outstanding_count,
        error["count"],
        report.at("/accounting/budget")?,
        cost * 100.0,
    );
    ensure!(function(first) == "remember_session", "{}", report.summary());
    for (what, truth, said, error) in [
        ("count", truth.0, said.outstanding_count, error["count"].as_u64()),
        ("bytes", truth.1, said.outstanding_bytes, error["bytes"].as_u64()),
    ] {
        // An estimate is useful if it is off by a factor of two at most.
        let useful = (truth / 2..=truth * 2).contains(&said);
        // The truth is within the error in 19 of 20 cases, which is about two standard errors: six never occur. And an
        // error as large as the estimate would mean that there may be no leak at all.
        let covered = error.is_some_and(|error| truth.abs_diff(said) <= 3 * error && error < said);
        ensure!(
            useful && covered,
            "{what}: {said} reported, ± {error:?}, {truth} true\n{}",
            report.summary()
        );
    }
    for other in &sites[1..] {
        let bytes = Amounts::read(other)?.outstanding_bytes;
        ensure!(bytes <= said.outstanding_bytes / 10, "{}", report.summary());
    }
    ensure!(cost <= 0.10, "{cost}");
    Ok(())
}

#[test]
fn cheap_tracing_is_continuous_and_exact() -> Result<()> {
    let mut victim = Victim::start("steady_leak", &["50", "5"])?;
    let trace = Trace::attach(victim.pid(), &["--max-overhead", "50%"])?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    victim.exit()?;
    ensure!(report.at("/accounting/estimated")? == false, "{}", report.at("/accounting")?);
    ensure!(report.number("/accounting/budget/windows")? == 1, "{}", report.at("/accounting")?);
    let no_error = |one: &Value| one["error"].is_null();
    ensure!(report.list("/sites")?.iter().all(no_error) && no_error(report.at("/totals/heap")?));
    truth.equals(&report)
}

/// Traces a server that waits most of its time, for so long. Its leak is exact, or estimated well.
fn mostly_waiting(pause_us: &str, traced: Duration) -> Result<Report> {
    let mut victim = Victim::start("mostly_waits", &[pause_us])?;
    let trace = Trace::attach(victim.pid(), &["--max-overhead", "5%"])?;
    let begun = Instant::now();
    victim.go()?;
    wait_until("it has served", TURN, || Ok(begun.elapsed() >= traced))?;
    victim.send("stop")?;
    let truth = victim.truth()?.sum("heap");
    let report = trace.stop()?;
    victim.exit()?;
    let first = report.list("/sites")?.first().context("a call site")?;
    ensure!(function(first) == "make_session", "{}", report.summary());
    let said = Amounts::read(first)?;
    let error = first.pointer("/error/outstanding/count").and_then(Value::as_u64);
    if report.at("/accounting/estimated")? == false {
        ensure!(said == truth, "{said:?}, not {truth:?}");
        return Ok(report);
    }
    let (left, said) = (truth.outstanding_count, said.outstanding_count);
    ensure!((left / 2..=left * 2).contains(&said), "{said}, not {left}");
    // Of two windows there is none.
    if let Some(error) = error {
        ensure!(left.abs_diff(said) <= 3 * error, "{said} ± {error}, not {left}");
    }
    Ok(report)
}

#[test]
fn a_server_that_mostly_waits_is_traced_all_the_time() -> Result<()> {
    let report = mostly_waiting("10000", Duration::from_secs(8))?;
    ensure!(report.at("/accounting/estimated")? == false, "{}", report.at("/accounting")?);
    Ok(())
}

#[test]
fn a_leak_of_a_server_that_waits_less_is_exact_or_estimated_well() -> Result<()> {
    mostly_waiting("400", Duration::from_secs(20)).map(drop)
}

#[test]
fn between_two_windows_no_probe_is_in_the_code() -> Result<()> {
    // Linked statically: probes of other tests are not in its code.
    let program = victim_with("loop", "loop_static", &["-static"])?;
    let mut victim = Victim::start_program(&program, &["60"])?;
    let trace = Trace::attach(victim.pid(), &["--max-overhead", "20%"])?;
    wait_for_probes(victim.pid(), true)?;
    victim.go()?;
    for _ in 0..3 {
        wait_for_probes(victim.pid(), false)?;
        wait_for_probes(victim.pid(), true)?;
    }
    let report = trace.stop()?;
    wait_until("probes are taken out", Duration::from_secs(30), || {
        Ok(changed_code(victim.pid())?.is_empty())
    })?;
    // Recording begins when the probes are attached: the last window may not have begun yet.
    in_windows(&report, 3)?;
    victim.kill()
}

/// How a victim is linked. The code of a static executable is at the same addresses after each exec, that of a
/// position-independent one at others.
const LINKED: [(&str, &str); 2] = [("spins_static", "-static"), ("spins_pie", "-pie")];

/// A victim at full speed, traced by leaktrace that is between two windows.
fn between_windows((name, linked): (&str, &str)) -> Result<(Victim, Trace)> {
    let program = victim_with("spins", name, &["-fPIE", linked])?;
    let mut victim = Victim::start_program(&program, &[])?;
    let trace = Trace::attach(victim.pid(), &["--max-overhead", "20%"])?;
    victim.go()?;
    wait_for_probes(victim.pid(), false)?;
    Ok((victim, trace))
}

#[test]
fn a_target_that_executes_another_program_between_two_windows_is_followed() -> Result<()> {
    for linked in LINKED {
        let (mut victim, trace) = between_windows(linked)?;
        victim.send("exec")?;
        for _ in 0..2 {
            wait_for_probes(victim.pid(), true)?;
            wait_for_probes(victim.pid(), false)?;
        }
        let report = trace.stop()?;
        in_windows(&report, 3)?;
        let of = |name: &str| report.sites("heap", |frames| frames.first() == Some(&name));
        let (before, after) = (of("before_exec")?, of("after_exec")?);
        ensure!(before.outstanding_count == 0, "still outstanding after exec: {before:?}");
        ensure!(after.acquired_count > 0, "{linked:?}: {}", report.summary());
        victim.kill()?;
    }
    Ok(())
}

#[test]
fn a_target_that_ends_between_two_windows_does_not_end_the_tracing_of_another() -> Result<()> {
    let program = victim_with("spins", "spins_static", &["-fPIE", "-static"])?;
    let mut victims =
        [Victim::start_program(&program, &[])?, Victim::start_program(&program, &[])?];
    let pids = victims.each_ref().map(|victim| victim.pid().to_string()).join(",");
    let mut trace = Trace::start(&["-p", &pids, "--max-overhead", "20%"])?;
    trace.wait_until_attached()?;
    for victim in &mut victims {
        victim.go()?;
    }
    let [mut first, mut second] = victims;
    wait_for_probes(first.pid(), false)?;
    first.send("exit")?;
    for _ in 0..2 {
        wait_for_probes(second.pid(), true)?;
        wait_for_probes(second.pid(), false)?;
    }
    let report = trace.stop()?;
    in_windows(&report, 3)?;
    ensure!(!report.at("/targets/0/exited")?.is_null(), "{}", report.at("/targets")?);
    ensure!(report.at("/targets/1/exited")?.is_null(), "{}", report.at("/targets")?);
    second.kill()
}

#[test]
fn a_target_that_ends_between_two_windows_leaves_a_report() -> Result<()> {
    let (mut victim, trace) = between_windows(LINKED[0])?;
    victim.send("exit")?;
    let report = trace.finish()?;
    in_windows(&report, 1)?;
    ensure!(!report.at("/targets/0/exited")?.is_null(), "{}", report.at("/targets")?);
    let seen = report.sites("heap", |frames| frames.first() == Some(&"before_exec"))?;
    ensure!(seen.acquired_count > 0, "{}", report.summary());
    Ok(())
}
