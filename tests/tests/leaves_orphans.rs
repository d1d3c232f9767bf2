//! Resources that connections leave behind are counted per connection, with their call site: on servers that leak at a
//! known rate, and on the same servers without leaks.
//!
//! `cargo xtask churn` opens connections to each server and reports their number; the server reports its leaks.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    Report, Service, Trace,
    churn::{Churned, churn},
    report,
};

/// Traced kinds, with the shortest grace period.
const OPTIONS: [&str; 4] = ["--kind", "heap,mmap,fd,socket", "--min-age", "1s"];
/// Longer than the grace period.
const GRACE: Duration = Duration::from_millis(1600);

/// Traces a server while connections open and close. Some connections come before that, since servers fill caches at
/// first.
fn churned(service: &Service, options: &[&str]) -> Result<(Churned, Report)> {
    churn(service, &[options, &["--connections", "260", "--at-once", "40"]].concat())?.check()?;
    thread::sleep(Duration::from_millis(300));
    let trace = Trace::attach(service.pid(), &OPTIONS)?;
    let churned =
        churn(service, &[options, &["--connections", "1300", "--at-once", "20"]].concat())?;
    churned.check()?;
    thread::sleep(GRACE);
    let report = trace.stop()?;
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let connected = churned.number("/total/connected")?;
    let figure = |name: &str| report.number(&format!("/connections/{name}"));
    let found = (figure("opened")?, figure("closed")?, figure("open")?);
    ensure!(found == (connected, connected, 0), "{connected} connected: {found:?} reported");
    Ok((churned, report))
}

/// A row of the table of left-behind resources.
#[derive(Debug)]
struct Left<'report> {
    names: Vec<&'report str>,
    count: u64,
    bytes: u64,
    connections: u64,
    share: f64,
}

/// The table, in the report's order.
fn leaving(report: &Report) -> Result<Vec<Left<'_>>> {
    let sites = report.list("/sites")?;
    let rows = report.list("/connections/left_behind")?.iter().map(|row| {
        let number = |name: &str| row.get(name).and_then(Value::as_u64).context("a number");
        let site = sites.iter().find(|site| site.get("id") == row.get("site"));
        let site = site.context("a call site of the table is not in the report")?;
        let own = |name: &str| site.pointer(&format!("/orphans/{name}"));
        for name in ["count", "bytes", "connections", "share"] {
            ensure!(own(name) == row.get(name), "{name} differs: {row} {site}");
        }
        Ok(Left {
            names: report::symbols(site),
            count: number("count")?,
            bytes: number("bytes")?,
            connections: number("connections")?,
            share: row.get("share").and_then(Value::as_f64).context("a share")?,
        })
    });
    rows.collect()
}

fn listed(left: &[Left<'_>]) -> String {
    let lines: Vec<String> = left.iter().take(8).map(|one| format!("{one:?}")).collect();
    lines.join("\n")
}

/// A demangled C++ name has parentheses after it.
fn is_in(left: &Left<'_>, function: &str) -> bool {
    left.names.iter().any(|name| name.trim_end_matches("()") == function)
}

/// The first row of the table is of `function`; all its rows (it may be called from several places) have `count`
/// resources of `bytes` each, one per connection; and they are this share of `closed`. If it has a single call site,
/// the first row has that share.
fn first_is(report: &Report, function: &str, count: u64, bytes: u64, closed: u64) -> Result<()> {
    let left = leaving(report)?;
    let first = left.first().context("no orphans")?;
    ensure!(is_in(first, function), "{function} is not first:\n{}", listed(&left));
    let rows: Vec<_> = left.iter().filter(|one| is_in(one, function)).collect();
    let sum = |number: fn(&Left<'_>) -> u64| rows.iter().map(|one| number(one)).sum::<u64>();
    let found = (sum(|one| one.count), sum(|one| one.bytes), sum(|one| one.connections));
    ensure!(
        found == (count, count * bytes, count),
        "{count} of {bytes} bytes from as many connections, not {found:?}:\n{}",
        listed(&left)
    );
    let share: f64 = rows.iter().map(|one| one.share).sum();
    let exact = count as f64 / closed as f64;
    ensure!((share - exact).abs() < 1e-9, "a share of {share}, {exact} is true");
    Ok(())
}

fn nobody_leaves_anything(report: &Report) -> Result<()> {
    let left = leaving(report)?;
    ensure!(left.is_empty(), "orphans:\n{}", listed(&left));
    ensure!(report.number("/connections/with_orphans")? == 0, "some connection left orphans");
    Ok(())
}

type Start = fn(&[&str]) -> Result<Service>;

/// One block per closed connection.
fn on_close(start: Start, options: &[&str]) -> Result<()> {
    let service = start(&["--leak-on-close", "1"])?;
    let (churned, report) = churned(&service, options)?;
    let count = churned.number("/total/connected")?;
    first_is(&report, "forget_closed_connection", count, 500, count)
}

/// One block per failed connection: every third one.
fn on_error(start: Start, options: &[&str]) -> Result<()> {
    let service = start(&["--leak-on-error"])?;
    let options = [options, &["--ways", "polite,keep-alive,reset"]].concat();
    let (churned, report) = churned(&service, &options)?;
    let (count, failed) =
        (churned.number("/total/connected")?, churned.number("/ways/reset/connected")?);
    ensure!(failed == count / 3 || failed == count.div_ceil(3), "{failed} of {count} were reset");
    first_is(&report, "forget_failed_connection", failed, 300, count)
}

/// One descriptor per connection.
fn of_descriptors(start: Start, options: &[&str]) -> Result<()> {
    let service = start(&["--leak-fd", "1"])?;
    let (churned, report) = churned(&service, options)?;
    let count = churned.number("/total/connected")?;
    first_is(&report, "forget_descriptor", count, 0, count)
}

fn none(start: Start, options: &[&str]) -> Result<()> {
    let service = start(&[])?;
    let (_, report) = churned(&service, options)?;
    nobody_leaves_anything(&report)
}

/// Over HTTP and WebSocket.
const HTTP: [&str; 0] = [];
const WEBSOCKET: [&str; 4] = ["--protocol", "websocket", "--path", "/echo"];

macro_rules! leaks {
    ($name:ident, $start:expr, $options:expr) => {
        mod $name {
            #[test]
            fn a_block_with_each_connection_that_closes() -> anyhow::Result<()> {
                super::on_close($start, &$options)
            }

            #[test]
            fn a_block_with_each_that_fails() -> anyhow::Result<()> {
                super::on_error($start, &$options)
            }

            #[test]
            fn a_descriptor_with_each() -> anyhow::Result<()> {
                super::of_descriptors($start, &$options)
            }

            #[test]
            fn nothing() -> anyhow::Result<()> {
                super::none($start, &$options)
            }
        }
    };
}

leaks!(libevent, super::Service::http_server, super::HTTP);
leaks!(uwebsockets, super::Service::uws_server, super::WEBSOCKET);
leaks!(pool_of_threads, super::Service::pool_server, super::HTTP);

/// Handshakes that fail.
const FAILING: [&str; 4] =
    ["--protocol", "tls", "--ways", "tls-no-cipher,tls-garbage,tls-cut,tls-untrusted"];

#[test]
fn a_tls_object_with_each_handshake_that_fails() -> Result<()> {
    let service = Service::tls_server(&["--leak-on-handshake"])?;
    let (churned, report) = churned(&service, &FAILING)?;
    let count = churned.number("/total/connected")?;
    let left = leaving(&report)?;
    // The object itself is also a heap block.
    let first = left.first().context("no orphans")?;
    ensure!(is_in(first, "SSL_new") && is_in(first, "on_accept"), "{}", listed(&left));
    ensure!((first.connections, first.share) == (count, 1.0), "{count} failed:\n{}", listed(&left));
    ensure!(report.number("/connections/with_orphans")? == count, "not all have left one");
    Ok(())
}

#[test]
fn nothing_with_handshakes_that_fail() -> Result<()> {
    let service = Service::tls_server(&[])?;
    let (_, report) = churned(&service, &FAILING)?;
    nobody_leaves_anything(&report)
}
