//! What connections leave behind is counted per connection, and named: on servers that leak so and so often, and on the
//! same ones when they do not.
//!
//! Each is asked by `cargo xtask churn` for as many connections as the client then says; the server says what it left.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    Report, Service, Trace,
    churn::{Churned, churn},
    report, root_or_skip,
};

/// What is traced, with the shortest grace.
const OPTIONS: [&str; 4] = ["--kind", "heap,mmap,fd,socket", "--min-age", "1s"];
/// Longer than that.
const GRACE: Duration = Duration::from_millis(1600);

/// Traces a server while connections come and go. Some came before, as servers fill caches at first.
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

/// The call sites that orphans were acquired at, those of most bytes first.
fn leaving(report: &Report) -> Result<Vec<&Value>> {
    let count = |site: &&Value| site.pointer("/orphans/count").and_then(Value::as_u64).unwrap_or(0);
    let bytes = |site: &&Value| site.pointer("/orphans/bytes").and_then(Value::as_u64).unwrap_or(0);
    let mut sites: Vec<&Value> =
        report.list("/sites")?.iter().filter(|one| count(one) > 0).collect();
    sites.sort_by_key(|site| std::cmp::Reverse((bytes(site), count(site))));
    Ok(sites)
}

fn told(sites: &[&Value]) -> String {
    let line = |site: &&Value| {
        let orphans = site.get("orphans").cloned().unwrap_or_default();
        format!("{orphans} {}\n", report::symbols(site).join(" <- "))
    };
    sites.iter().take(8).map(line).collect()
}

/// That the first call site with orphans is in `function`, has `count` of `bytes` each, from `connections`, which are
/// that share of all.
fn first_is(
    report: &Report,
    function: &str,
    (count, bytes, connections): (u64, u64, u64),
    closed: u64,
) -> Result<()> {
    let sites = leaving(report)?;
    let first = sites.first().context("no orphans")?;
    ensure!(report::symbols(first).contains(&function), "not {function}:\n{}", told(&sites));
    let number = |name: &str| first.pointer(&format!("/orphans/{name}")).and_then(Value::as_u64);
    let found = (number("count"), number("bytes"), number("connections"));
    ensure!(
        found == (Some(count), Some(count * bytes), Some(connections)),
        "{count} of {bytes} bytes from {connections} connections:\n{}",
        told(&sites)
    );
    let share = first.pointer("/orphans/share").and_then(Value::as_f64).context("a share")?;
    let exact = connections as f64 / closed as f64;
    ensure!((share - exact).abs() < 1e-9, "a share of {share}, {exact} is true");
    Ok(())
}

fn nobody_leaves_anything(report: &Report) -> Result<()> {
    let sites = leaving(report)?;
    ensure!(sites.is_empty(), "orphans:\n{}", told(&sites));
    ensure!(report.number("/connections/with_orphans")? == 0, "some connection left orphans");
    Ok(())
}

type Start = fn(&[&str]) -> Result<Service>;

/// One block with each connection that closes.
fn on_close(start: Start, options: &[&str]) -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let service = start(&["--leak-on-close", "1"])?;
    let (churned, report) = churned(&service, options)?;
    let count = churned.number("/total/connected")?;
    first_is(&report, "forget_closed_connection", (count, 500, count), count)
}

/// One block with each connection that fails: each third one.
fn on_error(start: Start, options: &[&str]) -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let service = start(&["--leak-on-error"])?;
    let options = [options, &["--ways", "polite,keep-alive,reset"]].concat();
    let (churned, report) = churned(&service, &options)?;
    let (count, failed) =
        (churned.number("/total/connected")?, churned.number("/ways/reset/connected")?);
    ensure!(failed == count / 3 || failed == count.div_ceil(3), "{failed} of {count} were reset");
    first_is(&report, "forget_failed_connection", (failed, 300, failed), count)
}

/// One descriptor with each connection.
fn of_descriptors(start: Start, options: &[&str]) -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let service = start(&["--leak-fd", "1"])?;
    let (churned, report) = churned(&service, options)?;
    let count = churned.number("/total/connected")?;
    first_is(&report, "forget_descriptor", (count, 0, count), count)
}

fn none(start: Start, options: &[&str]) -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let service = start(&[])?;
    let (_, report) = churned(&service, options)?;
    nobody_leaves_anything(&report)
}

/// Over HTTP and otherwise.
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
    if !root_or_skip() {
        return Ok(());
    }
    let service = Service::tls_server(&["--leak-on-handshake"])?;
    let (churned, report) = churned(&service, &FAILING)?;
    let count = churned.number("/total/connected")?;
    let sites = leaving(&report)?;
    let first = sites.first().context("no orphans")?;
    ensure!(report::symbols(first).contains(&"on_accept"), "{}", told(&sites));
    // The object itself is one block of each, wherever it stands among what it holds.
    let object = sites.iter().find(|site| {
        let names = report::symbols(site);
        names.iter().any(|name| name.starts_with("SSL_new")) && names.contains(&"on_accept")
    });
    let object = object.with_context(|| format!("no SSL object:\n{}", told(&sites)))?;
    let connections = object.pointer("/orphans/connections").and_then(Value::as_u64);
    ensure!(connections == Some(count), "{count} handshakes failed:\n{}", told(&sites));
    ensure!(
        object.pointer("/orphans/share").and_then(Value::as_f64) == Some(1.0),
        "{}",
        told(&sites)
    );
    ensure!(report.number("/connections/with_orphans")? == count, "not all have left one");
    Ok(())
}

#[test]
fn nothing_with_handshakes_that_fail() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let service = Service::tls_server(&[])?;
    let (_, report) = churned(&service, &FAILING)?;
    nobody_leaves_anything(&report)
}
