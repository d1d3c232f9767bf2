//! `leaktrace census`: reads the heap of a process, once or again and again, and reports what is in it.
//!
//! Takes a [`CensusSettings`], passes on the exit status. Attaches nothing and stops nothing.

use std::{
    fmt::Write as _,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;

use super::choose::explain;
use crate::{
    cli::CensusFormat,
    error::{self, Failure},
    heap::{self, Heap, ProcessMemory, Types, census, types::Kind},
    output::{self, Output},
    report::{
        Address, CENSUS_SCHEMA, Census, CensusArena, CensusPinned, CensusReport, CensusSize,
        CensusTarget, CensusType, PinnedBySize, export,
    },
    settings::CensusSettings,
    target::{self, Identity, Pid, mappings},
};

/// How often the end of the process is checked while waiting for the next census.
const LOOK: Duration = Duration::from_millis(200);

/// Takes one census, or one after each interval until the time is up or the process ends.
pub fn census(settings: &CensusSettings) -> anyhow::Result<ExitCode> {
    let pid = Pid(settings.pid);
    let identity = target::identify(pid).map_err(explain)?;
    let output = Output::prepare(settings.output.as_deref(), true)?;
    let begun = Instant::now();
    let Some(interval) = settings.every else {
        let report = take(settings, &identity)?;
        warn_if_ended(&identity);
        output.deliver(&written(&report, settings, false)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut all = Vec::new();
    let mut previous: Option<(CensusReport, Instant)> = None;
    let is_up =
        |now: Instant| settings.duration.is_some_and(|time| now.duration_since(begun) >= time);
    loop {
        let now = Instant::now();
        let mut report = match take(settings, &identity) {
            // It has ended meanwhile: what there is, is the report. A difference from half a census would be wrong.
            Ok(_) if previous.is_some() && !is_there(&identity) => break,
            Err(_) if previous.is_some() => break,
            taken => taken?,
        };
        if previous.is_none() {
            warn_if_ended(&identity);
        }
        if let Some((before, then)) = &previous {
            let over_s = now.duration_since(*then).as_secs_f64();
            report.difference = Some(report.census.since(&before.census, over_s));
        }
        let bytes = written(&report, settings, true)?;
        if settings.output.is_none() {
            output::to_stdout(&bytes).context("could not write to `stdout`")?;
        } else {
            all.extend(bytes);
        }
        previous = Some((report, now));
        if !wait(now + interval, &identity, &is_up) {
            break;
        }
    }
    if settings.output.is_some() {
        output.deliver(&all)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until then. Says whether the process is still there and there is time left.
fn wait(until: Instant, process: &Identity, is_up: &impl Fn(Instant) -> bool) -> bool {
    loop {
        let now = Instant::now();
        if !is_there(process) || is_up(now) {
            return false;
        }
        if now >= until {
            return true;
        }
        std::thread::sleep(LOOK.min(until - now));
    }
}

/// Whether the process still exists, and is not another one with its id.
fn is_there(process: &Identity) -> bool {
    target::identify(process.pid).is_ok_and(|found| found.start_time == process.start_time)
}

/// Says so if the process has ended while its heap was read.
fn warn_if_ended(process: &Identity) {
    if !is_there(process) {
        let pid = process.pid;
        error::warn(
            &format!("process {pid} ended while its heap was read: the census is not complete"),
            "take the census of a process that goes on",
        );
    }
}

fn written(
    report: &CensusReport,
    settings: &CensusSettings,
    is_one_of_many: bool,
) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let done = match settings.format {
        CensusFormat::Text => {
            if report.difference.is_some() {
                bytes.push(b'\n');
            }
            export::census::text(report, settings.top, &mut bytes)
        }
        CensusFormat::Json => export::census::json(report, is_one_of_many, &mut bytes),
    };
    done.context("could not write the census")?;
    Ok(bytes)
}

/// Reads the heap now.
fn take(settings: &CensusSettings, process: &Identity) -> anyhow::Result<CensusReport> {
    let pid = process.pid;
    let begun = Instant::now();
    let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let memory = ProcessMemory::open(pid, settings.max_cpu)
        .map_err(|source| Failure::HeapUnreadable { pid: pid.0, source })?;
    let mappings = mappings::read(pid)?;
    let Some(heap) = heap::read(&memory, &mappings) else {
        return Err(Failure::NoReadableHeap { pid: pid.0 }.into());
    };
    let mut types = Types::new(pid, &memory, &mappings);
    let content = settings.show_content;
    let mut list = String::new();
    let counted = census::take(&memory, &heap, &mut types, content, |block, kind| {
        if settings.list_blocks.is_some() {
            // Writing to a string does not fail.
            _ = writeln!(list, "{:#x} {} {}", block.address, block.size, name(kind));
        }
    });
    if let Some(path) = &settings.list_blocks {
        Output::prepare(Some(path), false)?.deliver(list.as_bytes())?;
    }
    let cost = memory.cost();
    log::info!("read {} bytes of {pid} in {:?}", cost.bytes, begun.elapsed());
    Ok(CensusReport {
        schema: CENSUS_SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        target: CensusTarget {
            pid: pid.0,
            exe: process.exe.clone(),
            rss_bytes: target::rss_bytes(pid),
        },
        at,
        took_s: begun.elapsed().as_secs_f64(),
        read_bytes: cost.bytes,
        swapped_in_bytes: cost.swapped_bytes,
        doubts: heap.doubts.clone(),
        census: figures(&heap, &counted),
        difference: None,
    })
}

/// The figures as the report has them.
fn figures(heap: &Heap, counted: &census::Census) -> Census {
    let mut by_type: Vec<CensusType> = counted
        .by_type
        .iter()
        .map(|(kind, sum)| CensusType {
            name: name(kind),
            is_class: matches!(kind, Kind::Class(_)),
            count: sum.count,
            bytes: sum.bytes,
            before_attach: None,
            content: counted.samples.get(kind).map(|bytes| hexadecimal(bytes)),
        })
        .collect();
    by_type.sort_by(|one, other| (other.bytes, &one.name).cmp(&(one.bytes, &other.name)));
    let mut by_size: Vec<CensusSize> = counted
        .by_size
        .iter()
        .map(|(size, sum)| CensusSize { size: *size, count: sum.count })
        .collect();
    by_size.sort_by_key(|one| std::cmp::Reverse(one.size.saturating_mul(one.count)));
    let mut pinned: Vec<PinnedBySize> = counted
        .pinned
        .pages
        .iter()
        .map(|(size, pages)| PinnedBySize { size: *size, pages: *pages })
        .collect();
    pinned.sort_by_key(|one| std::cmp::Reverse(one.pages));
    let pages: u64 = pinned.iter().map(|one| one.pages).sum();
    let arena = |arena: &heap::Arena| CensusArena {
        address: (arena.address != 0).then_some(Address(arena.address)),
        blocks: arena.blocks,
        used_bytes: arena.used_bytes,
        thread_cached_bytes: arena.thread_cached_bytes,
        free_bytes: arena.free_bytes,
        top_bytes: arena.top_bytes,
        own_bytes: arena.own_bytes,
    };
    Census {
        allocator: heap.allocator.clone(),
        blocks: counted.all.count,
        bytes: counted.all.bytes,
        by_type,
        by_size,
        used_bytes: heap.used_bytes(),
        kept_bytes: heap.kept_bytes(),
        arenas: heap.arenas.iter().map(arena).collect(),
        pinned: CensusPinned {
            pages,
            bytes: pages * tracer_common::kind::PAGE_BYTES,
            by_size: pinned,
        },
    }
}

/// The name of what a block is.
fn name(kind: &Kind) -> String {
    match kind {
        Kind::Class(name) => name.as_ref().to_owned(),
        Kind::Text => "(text)".to_owned(),
        Kind::Zeros => "(zeros)".to_owned(),
        Kind::Allocator => "(caches of threads)".to_owned(),
        Kind::Other => "(other data)".to_owned(),
        Kind::Untouched => "(untouched)".to_owned(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        _ = write!(text, "{byte:02x}");
    }
    text
}
