//! A census as text, and as JSON.
//!
//! Takes a [`CensusReport`], returns its bytes. Adds and judges nothing; says what it leaves out.

use std::io::{self, Write};

use crate::{
    format::{bytes, count, printable, seconds},
    report::{CensusDifference, CensusReport},
};

/// Sizes of blocks in text: the others are few bytes.
const SIZES: usize = 10;

/// Arenas in text; a process has up to eight per processor.
const ARENAS: usize = 8;

/// Writes it for programs: indented, or on one line for a list of censuses.
pub fn json(report: &CensusReport, is_line: bool, out: &mut impl Write) -> io::Result<()> {
    if is_line {
        serde_json::to_writer(&mut *out, report)?;
    } else {
        serde_json::to_writer_pretty(&mut *out, report)?;
    }
    out.write_all(b"\n")
}

/// Writes it for people, with at most this many types.
pub fn text(report: &CensusReport, top: usize, out: &mut impl Write) -> io::Result<()> {
    let census = &report.census;
    let exe = report.target.exe.as_deref().and_then(|path| path.rsplit('/').next());
    writeln!(
        out,
        "leaktrace census  {} (pid {})  {}  {}  read in {}",
        printable(exe.unwrap_or("?")),
        report.target.pid,
        printable(&census.allocator),
        report.at,
        seconds(report.took_s),
    )?;
    for doubt in &report.doubts {
        writeln!(out, "doubt: {}", printable(doubt))?;
    }
    let arenas = |of: fn(&crate::report::CensusArena) -> u64| census.arenas.iter().map(of).sum();
    writeln!(
        out,
        "\n  allocated  {:>10}  {} blocks; {} with what the allocator adds",
        bytes(census.bytes),
        count(census.blocks),
        bytes(census.used_bytes),
    )?;
    writeln!(
        out,
        "  kept free  {:>10}  {} in lists, {} in caches of threads, {} at the ends of arenas",
        bytes(census.kept_bytes),
        bytes(arenas(|one| one.free_bytes)),
        bytes(arenas(|one| one.thread_cached_bytes)),
        bytes(arenas(|one| one.top_bytes)),
    )?;
    if let Some(first) = census.pinned.by_size.first() {
        writeln!(
            out,
            "  pinned     {:>10}  {} pages that one small block each keeps, most of them of {} B",
            bytes(census.pinned.bytes),
            count(census.pinned.pages),
            count(first.size),
        )?;
    }
    if let Some(difference) = &report.difference {
        return changes(difference, top, out);
    }
    by_type(report, top, out)?;
    by_size(report, out)?;
    by_arena(report, out)
}

fn by_type(report: &CensusReport, top: usize, out: &mut impl Write) -> io::Result<()> {
    let census = &report.census;
    writeln!(out, "\n{:>12}  {:>10}  {:>9}  type", "blocks", "bytes", "average")?;
    for one in census.by_type.iter().take(top) {
        let average = one.bytes / one.count.max(1);
        writeln!(
            out,
            "{:>12}  {:>10}  {:>9}  {}",
            count(one.count),
            bytes(one.bytes),
            bytes(average),
            printable(&one.name)
        )?;
        if let Some(content) = one.content.as_deref().filter(|content| !content.is_empty()) {
            writeln!(out, "{:>12}  {content}", "")?;
        }
    }
    left_out(census.by_type.len().saturating_sub(top), "types", out)
}

fn by_size(report: &CensusReport, out: &mut impl Write) -> io::Result<()> {
    let sizes = &report.census.by_size;
    writeln!(out, "\n{:>12}  {:>10}  {:>9}", "blocks", "bytes", "size")?;
    for one in sizes.iter().take(SIZES) {
        let size = format!("{} B", count(one.size));
        writeln!(out, "{:>12}  {:>10}  {size:>9}", count(one.count), bytes(one.count * one.size))?;
    }
    left_out(sizes.len().saturating_sub(SIZES), "sizes", out)
}

fn by_arena(report: &CensusReport, out: &mut impl Write) -> io::Result<()> {
    let arenas = &report.census.arenas;
    writeln!(
        out,
        "\n{:>12}  {:>10}  {:>10}  {:>10}  {:>10}  arena",
        "blocks", "used", "free", "cached", "end"
    )?;
    for one in arenas.iter().take(ARENAS) {
        let name = one.address.map_or_else(
            || "(blocks with a mapping of their own)".to_owned(),
            |address| address.to_string(),
        );
        writeln!(
            out,
            "{:>12}  {:>10}  {:>10}  {:>10}  {:>10}  {name}",
            count(one.blocks),
            bytes(one.used_bytes),
            bytes(one.free_bytes),
            bytes(one.thread_cached_bytes),
            bytes(one.top_bytes),
        )?;
    }
    left_out(arenas.len().saturating_sub(ARENAS), "arenas", out)
}

fn changes(difference: &CensusDifference, top: usize, out: &mut impl Write) -> io::Result<()> {
    let signed = |number: i64, write: fn(u64) -> String| {
        let sign = if number < 0 { "-" } else { "+" };
        format!("{sign}{}", write(number.unsigned_abs()))
    };
    writeln!(
        out,
        "\nin {}: {} blocks, {}; the allocator keeps {}",
        seconds(difference.over_s),
        signed(difference.blocks, count),
        signed(difference.bytes, bytes),
        signed(difference.kept_bytes, bytes),
    )?;
    writeln!(out, "\n{:>12}  {:>10}  type", "blocks", "bytes")?;
    for one in difference.by_type.iter().take(top) {
        writeln!(
            out,
            "{:>12}  {:>10}  {}",
            signed(one.count, count),
            signed(one.bytes, bytes),
            printable(&one.name)
        )?;
    }
    left_out(difference.by_type.len().saturating_sub(top), "types", out)?;
    writeln!(out, "\n{:>12}  {:>10}", "blocks", "size")?;
    for one in difference.by_size.iter().take(SIZES) {
        let size = format!("{} B", count(one.size));
        writeln!(out, "{:>12}  {size:>10}", signed(one.count, count))?;
    }
    left_out(difference.by_size.len().saturating_sub(SIZES), "sizes", out)
}

fn left_out(number: usize, what: &str, out: &mut impl Write) -> io::Result<()> {
    if number == 0 {
        return Ok(());
    }
    writeln!(out, "{:>12}  more {what}, with fewer bytes; -f json has all", count(number as u64))
}
