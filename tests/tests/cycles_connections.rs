//! `cargo xtask churn` against real servers: they survive, and count as many connections as the client.
//! Needs neither root nor leaktrace.

use std::fs;

use anyhow::{Context as _, Result};
use tests::{
    Service,
    child::Running,
    churn::{Account, account, account_now, churn, finish, start},
    http::Connection,
    programs::nginx_tls_that_counts,
    wait_until,
};

/// The ways of `churn` over HTTP.
const HTTP: [&str; 13] = [
    "connect-close",
    "half-close",
    "http-malformed",
    "keep-alive",
    "mid-body",
    "mid-request",
    "polite",
    "reset",
    "server-first",
    "silent",
    "slow-reader",
    "slow-writer",
    "we-first",
];

/// Each way over HTTP: counts of connections are equal, the server answers afterwards, and leaks only with an option.
fn every_way_over_http(mut service: Service) -> Result<()> {
    let before = account(&service)?;
    let churned = churn(&service, &["--connections", "650", "--at-once", "40"])?;
    churned.check()?;
    assert_eq!(churned.ways()?, HTTP);
    let after = account(&service)?;
    assert_eq!(after.accepted_since(&before)?, churned.number("/total/connected")?);
    assert_eq!(churned.number("/total/connected")?, 650);
    for (way, answered) in [("polite", 50), ("we-first", 50), ("keep-alive", 150), ("reset", 0)] {
        assert_eq!(churned.number(&format!("/ways/{way}/answered"))?, answered, "{way}");
    }
    assert_eq!(churned.number("/ways/polite/closed_by_us")?, 25);
    assert_eq!(churned.number("/ways/server-first/closed_by_server")?, 50);
    assert_eq!(churned.number("/ways/reset/reset_by_us")?, 50);
    assert_eq!(churned.0.pointer("/total/unexpected"), Some(&serde_json::json!({})));
    nothing_leaked(&after)?;
    assert!(service.is_running());
    Ok(())
}

fn nothing_leaked(account: &Account) -> Result<()> {
    for name in ["leaked_on_close_count", "leaked_on_error_count", "leaked_fds"] {
        assert_eq!(account.number(name)?, 0, "{name}");
    }
    Ok(())
}

#[test]
fn a_server_on_libevent() -> Result<()> {
    every_way_over_http(Service::http_server(&[])?)
}

#[test]
fn a_server_with_a_pool_of_threads() -> Result<()> {
    every_way_over_http(Service::pool_server(&[])?)
}

#[test]
fn a_server_on_uwebsockets() -> Result<()> {
    let mut service = Service::uws_server(&[])?;
    let before = account(&service)?;
    let http = churn(&service, &["--connections", "260", "--at-once", "20"])?;
    http.check()?;
    assert_eq!(http.ways()?, HTTP);
    let options = ["--protocol", "websocket", "--path", "/echo", "--connections", "260"];
    let sockets = churn(&service, &[&options[..], &["--at-once", "20"]].concat())?;
    sockets.check()?;
    assert_eq!(sockets.ways()?.len(), 13, "{:?}", sockets.ways()?);
    let after = account(&service)?;
    let connected = http.number("/total/connected")? + sockets.number("/total/connected")?;
    assert_eq!(after.accepted_since(&before)?, connected);
    // The upgrade and the pong; three pongs.
    assert_eq!(sockets.number("/ways/polite/answered")?, 40);
    assert_eq!(sockets.number("/ways/keep-alive/answered")?, 80);
    nothing_leaked(&after)?;
    assert!(service.is_running());
    Ok(())
}

/// Connections that nginx has accepted, including the one that asks.
fn accepted_by_nginx(port: u16) -> Result<u64> {
    // `Active connections: 1`, headings, and three numbers, the first of which is the count.
    let text = Connection::open(port)?.get("/")?;
    let line = text.lines().nth(2).context("a third line")?;
    Ok(line.split_whitespace().next().context("a number")?.parse()?)
}

#[test]
fn nginx_with_tls() -> Result<()> {
    let (mut service, status) = nginx_tls_that_counts()?;
    let before = accepted_by_nginx(status)?;
    let churned =
        churn(&service, &["--protocol", "tls", "--connections", "170", "--at-once", "10"])?;
    churned.check()?;
    assert_eq!(churned.ways()?.len(), 17, "{:?}", churned.ways()?);
    let connected = churned.number("/total/connected")?;
    wait_until("nginx has accepted all", std::time::Duration::from_secs(10), {
        let mut asked = 0;
        move || {
            asked += 1;
            Ok(accepted_by_nginx(status)? == before + connected + asked)
        }
    })?;
    for (way, answered) in [("polite", 10), ("keep-alive", 30), ("server-first", 10)] {
        assert_eq!(churned.number(&format!("/ways/{way}/answered"))?, answered, "{way}");
    }
    for way in ["tls-no-cipher", "tls-garbage", "tls-cut", "tls-untrusted"] {
        assert_eq!(churned.number(&format!("/ways/{way}/answered"))?, 0, "{way}");
    }
    assert_eq!(churned.0.pointer("/total/unexpected"), Some(&serde_json::json!({})));
    assert!(service.is_running());
    Ok(())
}

/// Descriptors of `/dev/null` in a process.
fn null_fds(service: &Service) -> Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(format!("/proc/{}/fd", service.pid()))? {
        let null = fs::read_link(entry?.path()).is_ok_and(|link| link.as_os_str() == "/dev/null");
        count += u64::from(null);
    }
    Ok(count)
}

/// Each leak happens where it should and is counted: on every N-th connection, and only on one that fails.
fn leaks_what_it_says(
    server: fn(&[&str]) -> Result<Service>,
    options: &[&str],
    failing: &[&str],
    fine: &[&str],
) -> Result<()> {
    let service = server(&["--leak-on-close", "10", "--leak-on-error", "--leak-fd", "7"])?;
    let null_fds_before = null_fds(&service)?;
    let mut before = account(&service)?;
    for (ways, fails) in [(failing, 1), (fine, 0)] {
        for way in ways {
            let ways = ["--ways", way, "--connections", "50", "--at-once", "10"];
            churn(&service, &[options, &ways].concat())?.check()?;
            let after = account(&service)?;
            assert_eq!(after.accepted_since(&before)?, 50, "{way}");
            assert_eq!(after.since(&before, "leaked_on_error_count")?, 50 * fails, "{way}");
            before = after;
        }
    }
    let last = account(&service)?;
    assert_eq!(last.number("leaked_fds")?, last.number("accepted")? / 7);
    assert_eq!(last.number("leaked_fds")?, null_fds(&service)? - null_fds_before);
    assert_eq!(last.number("leaked_on_close_count")?, last.number("closed")? / 10);
    let bytes = |name: &str| last.number(&format!("{name}_bytes"));
    assert_eq!(bytes("leaked_on_close")?, 500 * last.number("leaked_on_close_count")?);
    assert_eq!(bytes("leaked_on_error")?, 300 * last.number("leaked_on_error_count")?);
    Ok(())
}

/// Ways that end before a complete request, or by a reset.
const FAILING: [&str; 6] =
    ["mid-request", "mid-body", "connect-close", "silent", "reset", "slow-reader"];
/// Ways that end normally.
const FINE: [&str; 5] = ["polite", "we-first", "server-first", "keep-alive", "slow-writer"];

#[test]
fn a_leaking_server_on_libevent() -> Result<()> {
    leaks_what_it_says(Service::http_server, &[], &FAILING, &FINE)
}

#[test]
fn a_leaking_server_with_a_pool_of_threads() -> Result<()> {
    leaks_what_it_says(Service::pool_server, &[], &FAILING, &FINE)
}

#[test]
fn a_leaking_server_on_uwebsockets() -> Result<()> {
    let options = ["--protocol", "websocket", "--path", "/echo"];
    let failing = [
        "mid-request",
        "mid-body",
        "connect-close",
        "silent",
        "reset",
        "reserved-bits",
        "we-first",
    ];
    leaks_what_it_says(
        Service::uws_server,
        &options,
        &failing,
        &["polite", "server-first", "keep-alive"],
    )
}

#[test]
fn clients_of_different_addresses_are_counted_apart() -> Result<()> {
    let service = Service::http_server(&[])?;
    let from =
        ["--ways", "polite", "--connections", "90", "--from", "127.0.0.2,127.0.0.3,127.1.2.3"];
    let churned = churn(&service, &from)?;
    for source in ["127.0.0.2", "127.0.0.3", "127.1.2.3"] {
        assert_eq!(churned.number(&format!("/sources/{source}/connected"))?, 30, "{source}");
        assert_eq!(churned.number(&format!("/sources/{source}/answered"))?, 30, "{source}");
    }
    Ok(())
}

#[test]
fn ends_at_ctrl_c_with_its_figures() -> Result<()> {
    let service = Service::http_server(&[])?;
    let options = ["--ways", "polite,silent", "--connections", "1000000", "--seconds", "50"];
    let running: Running = start(&service, &options)?;
    wait_until("connections come", std::time::Duration::from_secs(20), || {
        Ok(account_now(&service)?.number("accepted")? > 500)
    })?;
    running.signal("INT")?;
    let churned = finish(running)?;
    churned.check()?;
    assert_eq!(churned.0.pointer("/ended"), Some(&serde_json::json!("asked")));
    assert!(churned.number("/total/connected")? < 1_000_000);
    Ok(())
}
