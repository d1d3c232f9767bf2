//! What libzmq's threads acquire belongs to the socket that it is for, with the number of messages that wait there: as many
//! as were sent and not received. The finding names the function that created the socket.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Report, Trace, Victim, report};

/// Messages: several pieces of a queue.
const COUNT: &str = "3000";
/// Bytes of each: too many for the message itself.
const BYTES: &str = "200";
/// Kinds that sockets and what belongs to them have.
const KINDS: [&str; 2] = ["--kind", "heap,object"];

/// Runs the program under leaktrace; the report is of the moment when all is sent.
fn played(arguments: &[&str]) -> Result<(Value, Report)> {
    let mut victim = Victim::start("queues_libzmq", arguments)?;
    let trace = Trace::attach(victim.pid(), &KINDS)?;
    victim.go()?;
    let truth = victim.answer()?;
    let report = trace.stop()?;
    victim.exit()?;
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    Ok((truth, report))
}

/// The only socket.
fn socket(report: &Report) -> Result<&Value> {
    let table = report.list("/objects/table")?;
    let mut sockets = table.iter().filter(|one| one["kind"] == "zmq_socket");
    let socket = sockets.next().context("a socket")?;
    ensure!(sockets.next().is_none(), "several sockets");
    Ok(socket)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(u64::MAX)
}

/// Whether a call site is in a thread of the library's own: no function of the program is in its stack.
fn is_of_library(site: &Value) -> bool {
    !report::symbols(site).contains(&"main")
}

/// What the library's threads have acquired belongs to the socket; all of it but what serves the whole context.
fn belongs_to_the_socket(report: &Report, socket: &Value) -> Result<()> {
    let kinds = ["zmq_receive_buffer", "zmq_pipe_chunk"];
    let all = report.list("/sites")?.iter().filter(|site| {
        is_of_library(site) && kinds.contains(&site["kind"].as_str().unwrap_or_default())
    });
    for site in all.filter(|site| number(&site["outstanding_count"]) > 0) {
        ensure!(site["owner"] == socket["site"], "{site} is not {socket}'s");
    }
    Ok(())
}

fn waits(socket_type: &str) -> Result<()> {
    let (truth, report) = &played(&[socket_type, COUNT, BYTES])?;
    let socket = socket(report)?;
    ensure!(socket["label"] == truth["endpoint"], "{socket}, and {truth} is true");
    let messages = &socket["messages"];
    // A SUB socket takes one out when its program asks for events.
    let ahead = u64::from(socket_type == "SUB");
    let (waiting, received) = (number(&messages["waiting"]), number(&messages["received"]));
    ensure!(received <= ahead, "{messages}, and {truth} is true");
    ensure!(waiting + received == number(&truth["waiting"]), "{messages}, and {truth} is true");
    ensure!(messages["unsent"] == 0, "{messages}, and {truth} is true");
    belongs_to_the_socket(report, socket)
}

#[test]
fn of_a_pull_socket_that_its_program_never_calls_again() -> Result<()> {
    waits("PULL")
}

#[test]
fn of_a_router_socket() -> Result<()> {
    waits("ROUTER")
}

#[test]
fn of_a_sub_socket() -> Result<()> {
    waits("SUB")
}

#[test]
fn of_a_push_socket_whose_peer_does_not_answer() -> Result<()> {
    let (truth, report) = played(&["PUSH", COUNT, BYTES])?;
    let socket = socket(&report)?;
    let expected = serde_json::json!({"waiting": 0, "received": 0, "unsent": truth["waiting"]});
    ensure!(socket["messages"] == expected, "{socket}, and {truth} is true");
    // The contents are the program's own, and have its function.
    let sent = report.list("/sites")?.iter().find(|site| {
        report::symbols(site).contains(&"publish") && site["outstanding_count"] == truth["sent"]
    });
    ensure!(sent.is_some(), "no call site of publish");
    belongs_to_the_socket(&report, socket)
}

#[test]
fn nothing_waits_where_everything_is_received() -> Result<()> {
    let (truth, report) = played(&["RECEIVED", COUNT, BYTES])?;
    let expected = serde_json::json!({"waiting": 0, "received": truth["received"], "unsent": 0});
    let socket = socket(&report)?;
    ensure!(socket["messages"] == expected, "{socket}, and {truth} is true");
    ensure!(report.list("/findings")?.is_empty(), "{:?}", report.list("/findings")?);
    Ok(())
}

#[test]
fn the_finding_names_the_function_that_created_the_socket() -> Result<()> {
    // Long enough for a verdict on what grows.
    let (truth, report) = played(&["PULL", "2000", BYTES, "25"])?;
    let endpoint = truth["endpoint"].as_str().context("an endpoint")?;
    let findings = report.list("/findings")?;
    ensure!(findings.len() == 1, "{findings:?}");
    let title = "open_feed: 2,000 messages in the PULL zmq_socket at ";
    ensure!(
        findings[0]["title"] == format!("{title}{endpoint} were never received"),
        "{findings:?}"
    );
    let owner = &findings[0]["owners"][0];
    ensure!((&owner["type"], &owner["name"]) == (&"PULL".into(), &truth["endpoint"]), "{owner}");
    ensure!(owner["messages"]["waiting"] == truth["waiting"], "{owner}, and {truth} is true");
    Ok(())
}
