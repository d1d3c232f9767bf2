//! The targets' memory as a whole and their limits, as text.
//!
//! Takes the report's memory and limits, returns lines: of the limits those that will be reached, and those that are
//! nearly used up. The others are in the JSON.

use std::io::{self, Write};

use super::Page;
use crate::{
    format::{bytes, count, percent, roughly, roughly_between},
    report::{Limit, ProcessMemory, Report, TimeToLimit},
};

/// A limit is worth a line when this share of it is used, even while use does not grow.
const NEARLY: f64 = 0.8;
/// Lines of limits.
const MOST: usize = 5;

pub(super) fn write(report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    if let Some(memory) = &report.memory {
        page.line(&described(memory))?;
    }
    limits(&report.limits, page)
}

/// Resident memory with its parts, and outstanding memory beside it.
fn described(memory: &ProcessMemory) -> String {
    let parts = [
        ("anonymous", memory.anon_bytes),
        ("files", memory.file_bytes),
        ("shared", memory.shared_bytes),
        ("stacks", memory.stacks_bytes),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter_map(|(name, figure)| Some(format!("{name} {}", bytes(figure?))))
        .collect();
    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    let resident = memory.rss_bytes.map_or_else(|| "unknown".to_owned(), bytes);
    let explained = memory.explained_growth.map_or_else(String::new, |share| {
        format!(", which explains {} of the growth of anonymous memory", percent(share))
    });
    let heap = memory.heap_used_bytes.zip(memory.heap_kept_bytes).map(|(used, kept)| {
        format!("; heap {} in use and {} kept free by the allocator", bytes(used), bytes(kept))
    });
    format!(
        "memory resident {resident}{parts}{}; outstanding {}{explained}",
        heap.unwrap_or_default(),
        bytes(memory.outstanding_bytes)
    )
}

fn limits(limits: &[Limit], page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let close = |one: &&Limit| one.time_to_limit_s.is_some() || one.share() >= NEARLY;
    let close: Vec<&Limit> = limits.iter().filter(close).collect();
    for (rank, one) in close.iter().take(MOST).enumerate() {
        let title = if rank == 0 { "limits" } else { "" };
        page.line(&format!("{title:<6} {}", limit(one)))?;
    }
    match close.len().saturating_sub(MOST) {
        0 => Ok(()),
        more => page.line(&format!("       … {} more", count(more as u64))),
    }
}

fn limit(one: &Limit) -> String {
    let amount = if one.is_bytes() { bytes } else { count };
    let whose = one.pid.map_or_else(String::new, |pid| format!(" of pid {pid}"));
    let reached = one.time_to_limit_s.map_or_else(String::new, |time| until(&time));
    format!(
        "{}{whose}: {} of {} used ({}){reached}",
        one.what,
        amount(one.used),
        amount(one.limit),
        percent(one.share())
    )
}

/// When the limit is reached.
fn until(time: &TimeToLimit) -> String {
    let mid = roughly(time.mid);
    let between = match time.high {
        Some(high) => roughly_between(time.low, high),
        None => format!("not before {}", roughly(time.low)),
    };
    if between == mid {
        return format!(", reached in {mid}");
    }
    format!(", reached in {mid} ({between})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{export::Options, fixtures};

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        let options = Options::default();
        let mut page = Page { width: options.width, out: &mut out };
        write(report, &mut page).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn limited(used: u64, time: Option<TimeToLimit>) -> Limit {
        Limit {
            what: "open files (RLIMIT_NOFILE)".to_owned(),
            pid: Some(7),
            used,
            limit: 100,
            time_to_limit_s: time,
        }
    }

    #[test]
    fn memory_has_its_parts_and_what_explains_its_growth() {
        let mut report = fixtures::sample();
        report.limits.clear();
        report.memory = Some(ProcessMemory {
            rss_bytes: Some(3 << 20),
            anon_bytes: Some(2 << 20),
            file_bytes: Some(1 << 20),
            outstanding_bytes: 1 << 20,
            explained_growth: Some(0.93),
            ..ProcessMemory::default()
        });
        let wanted = "memory resident 3.0 MiB (anonymous 2.0 MiB, files 1.0 MiB); outstanding 1.0 MiB, which explains \
                      93.0 % of the growth of anonymous memory\n";
        assert_eq!(text(&report), wanted);
        report.memory = Some(ProcessMemory::default());
        assert_eq!(text(&report), "memory resident unknown; outstanding 0 B\n");
        report.memory = None;
        assert_eq!(text(&report), "");
    }

    #[test]
    fn limits_that_are_reached_or_nearly_used_up_have_a_line() {
        let time = |high| Some(TimeToLimit { low: 540.0, mid: 777.5, high });
        let mut report = fixtures::sample();
        report.memory = None;
        report.limits = vec![
            limited(20, time(Some(1_320.0))),
            limited(20, time(None)),
            limited(80, None),
            limited(79, None),
        ];
        let wanted = "limits open files (RLIMIT_NOFILE) of pid 7: 20 of 100 used (20.0 %), reached in 13 min (9 to 22 min)\n       \
                      open files (RLIMIT_NOFILE) of pid 7: 20 of 100 used (20.0 %), reached in 13 min (not before 9 min)\n       \
                      open files (RLIMIT_NOFILE) of pid 7: 80 of 100 used (80.0 %)\n";
        assert_eq!(text(&report), wanted);
        report.limits = vec![limited(95, None); 7];
        let many = text(&report);
        assert_eq!(many.lines().count(), 6);
        assert!(many.ends_with("       … 2 more\n"), "{many}");
    }
}
