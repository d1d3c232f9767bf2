//! Servers that are trees of processes: the report equals what `/proc` says of all of them together, nothing is lost, and
//! the report is of a size that programs and people can read.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tests::trees::{self, Traced, Tree};

/// Bytes that a report on a tree may have: what a log line collector or a ticket takes, and a browser shows at once.
const MOST_BYTES: usize = 2_000_000;
/// Seconds of load while it is traced; `LEAKTRACE_TREE_SECONDS` sets another number, to measure.
const SECONDS: u64 = 4;

fn seconds() -> u64 {
    std::env::var("LEAKTRACE_TREE_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SECONDS)
}

/// Traces a server and checks the report; returns its figures.
fn check(tree: &Tree) -> Result<String> {
    let traced = tree.traced(seconds(), &[])?;
    if let Some(folder) = std::env::var_os("LEAKTRACE_TREE_REPORTS") {
        let path = std::path::Path::new(&folder).join(format!("{}.json", tree.name));
        std::fs::write(path, traced.text.as_bytes())?;
    }
    let Traced { report, text, processes } = &traced;
    ensure!(processes.len() >= tree.processes, "{} processes", processes.len());
    let lost = report.lost_by_target()?;
    ensure!(lost.is_empty(), "lost {lost}");
    let open: BTreeMap<u32, u64> =
        processes.iter().map(|(pid, one)| (*pid, one.descriptors)).collect();
    let reported = traced.reported_descriptors()?;
    ensure!(reported == open, "{reported:?} reported\n{open:?} in /proc");
    ensure!(report.number("/fds/open")? == traced.sum().descriptors, "{}", report.at("/fds")?);
    let heap = report.total("heap")?;
    ensure!(heap.outstanding_bytes <= traced.sum().private_bytes, "{heap:?}: {processes:?}");
    ensure!(text.len() < MOST_BYTES, "{} bytes", text.len());
    row(tree, &traced)
}

/// A row of figures, as in the table of the documentation.
fn row(tree: &Tree, traced: &Traced) -> Result<String> {
    let (report, sum) = (&traced.report, traced.sum());
    let heap = report.total("heap")?;
    Ok(format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        tree.name,
        traced.processes.len(),
        report.number("/accounting/events")?,
        sum.descriptors,
        report.number("/fds/open")?,
        heap.outstanding_bytes,
        sum.resident_bytes,
        sum.private_bytes,
        report.list("/sites")?.len(),
        traced.text.len(),
    ))
}

#[test]
fn postgres() -> Result<()> {
    println!("{}", check(&trees::POSTGRES)?);
    Ok(())
}

#[test]
fn apache_prefork() -> Result<()> {
    println!("{}", check(&trees::APACHE_PREFORK)?);
    Ok(())
}

#[test]
fn apache_event() -> Result<()> {
    println!("{}", check(&trees::APACHE_EVENT)?);
    Ok(())
}

#[test]
fn gunicorn() -> Result<()> {
    println!("{}", check(&trees::GUNICORN)?);
    Ok(())
}

#[test]
fn php_fpm() -> Result<()> {
    println!("{}", check(&trees::PHP_FPM)?);
    Ok(())
}

#[test]
fn sshd() -> Result<()> {
    println!("{}", check(&trees::SSHD)?);
    Ok(())
}

#[test]
fn nginx() -> Result<()> {
    println!("{}", check(&trees::NGINX)?);
    Ok(())
}
