//! Real servers under load: every answer stays correct, the figures are plausible, and nothing stays behind.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    Load, Report, Service, Trace,
    http::Connection,
    programs::{Demand, program},
    service::no_breakpoint_remains,
};

/// Traces `service` for two seconds of a load that starts before and ends after; every answer is checked.
fn traced_under_load(service: &mut Service, demand: Demand) -> Result<Report> {
    let load = Load::start(service, demand, Duration::from_secs(120))?;
    let trace = Trace::attach(service.pid(), &["-d", "2s"])?;
    let before = service.rss_bytes()?;
    let report = trace.finish();
    let quiet =
        report.as_ref().map_or(Ok(()), |report| no_breakpoint_remains(service.pid(), report));
    let asked = load.end()?;
    let report = report?;
    quiet?;
    ensure!(asked > 100, "only {asked} requests were answered");
    ensure!(service.is_running(), "the server has ended");
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let total = report.total("heap")?;
    ensure!(total.acquired_count > 0, "a server under load allocates");
    ensure!(
        total.acquired_count - total.released_count == total.outstanding_count
            && total.acquired_bytes - total.released_bytes == total.outstanding_bytes,
        "acquired - released = outstanding: {total:?}"
    );
    // Both readings are within the traced time: the load runs before and after.
    let after = report.number("/targets/0/rss_bytes")?;
    // Outstanding blocks may be in memory that was resident before; resident growth beyond outstanding bytes is slack
    // of the allocator: bounded here, not equal.
    let growth = after.saturating_sub(before);
    let slack = 32 << 20;
    ensure!(
        total.outstanding_bytes <= after + slack && growth <= total.outstanding_bytes + slack,
        "{} B outstanding, resident memory grew by {growth} B\n{}",
        total.outstanding_bytes,
        report.summary()
    );
    Ok(report)
}

/// The server's own count of leaks.
fn leaked(connection: &mut Connection) -> Result<u64> {
    let answer: Value = serde_json::from_str(&connection.get("/truth")?)?;
    answer.get("leaked_count").and_then(Value::as_u64).context("a count")
}

#[test]
fn libevent_server_and_the_session_it_forgets() -> Result<()> {
    let libevent = program("libevent")?;
    let mut service = (libevent.start)()?;
    let mut truth = Connection::open(service.port)?;
    let before = leaked(&mut truth)?;
    let report = traced_under_load(&mut service, libevent.demand)?;
    let after = leaked(&mut truth)?;
    let said = report.sites("heap", |frames| {
        frames.first() == Some(&"remember_session") && frames.get(1) == Some(&"on_request")
    })?;
    ensure!(
        said.outstanding_count > 0 && said.outstanding_count <= after - before,
        "{said:?} reported, {before} to {after} leaked"
    );
    ensure!(said.outstanding_bytes == said.outstanding_count * 1000, "{said:?}");
    ensure!(said.released_count == 0, "nothing frees a session: {said:?}");
    Ok(())
}

#[test]
fn uwebsockets_and_the_session_it_forgets() -> Result<()> {
    let uwebsockets = program("uwebsockets")?;
    let mut service = (uwebsockets.start)()?;
    let mut truth = Connection::open(service.port)?;
    let before = leaked(&mut truth)?;
    let report = traced_under_load(&mut service, uwebsockets.demand)?;
    let after = leaked(&mut truth)?;
    let said = report.sites("heap", |frames| {
        // The function comes after `operator new` and perhaps after inlined functions.
        frames.iter().any(|frame| frame.starts_with("remember_session("))
    })?;
    ensure!(
        said.outstanding_count > 0 && said.outstanding_count <= after - before,
        "{said:?} reported, {before} to {after} leaked\n{}",
        report.summary()
    );
    ensure!(said.outstanding_bytes == said.outstanding_count * 1000, "{said:?}");
    ensure!(said.released_count == 0, "nothing frees a session: {said:?}");
    Ok(())
}

/// Traces the program of this name under load.
fn stays_unharmed(name: &str) -> Result<()> {
    let program = program(name)?;
    traced_under_load(&mut (program.start)()?, program.demand).map(drop)
}

#[test]
fn memcached() -> Result<()> {
    stays_unharmed("memcached")
}

#[test]
fn nginx() -> Result<()> {
    stays_unharmed("nginx")
}

#[test]
fn nginx_tls() -> Result<()> {
    stays_unharmed("nginx_tls")
}

#[test]
fn redis() -> Result<()> {
    stays_unharmed("redis")
}

#[test]
fn python() -> Result<()> {
    stays_unharmed("python")
}

#[test]
fn node() -> Result<()> {
    stays_unharmed("node")
}
