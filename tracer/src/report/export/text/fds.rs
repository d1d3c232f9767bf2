//! File descriptors as text: counts, time until the limit, types, the call sites that hold most, and the sockets that the
//! peer has closed but the target has not.
//!
//! Takes the report's descriptors, returns lines. The table of all open ones is in the JSON and on the screen.

use std::{
    cmp::Reverse,
    io::{self, Write},
};

use super::{Page, per_second, place, table::table};
use crate::{
    format::{count, count_per_s, roughly, roughly_between, seconds},
    report::{Fd, Fds, Report, Site, SocketState},
};

/// Call sites that are listed here: below, they may stand behind a thousand of the heap.
const SITES: usize = 5;

/// Sockets without a peer that are listed; all of them are counted.
const NAMED: usize = 5;

pub(super) fn write(fds: &Fds, report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    page.line("")?;
    let limit = fds.limit.map(|limit| format!(" of {} allowed", count(limit))).unwrap_or_default();
    let some = |text: Option<String>| text.unwrap_or_default();
    let line = format!(
        "file descriptors: {} open{limit}{}{}{}{}",
        count(fds.open),
        some(fds.growth_per_s.map(|rate| format!(", {}", count_per_s(rate)))),
        some(fds.opened.map(|opened| format!("; opened {}", count(opened)))),
        some(fds.opened_per_s.map(|rate| format!(" ({})", per_second(rate)))),
        some(fds.closed.map(|closed| format!(", closed {}", count(closed)))),
    );
    page.line(&line)?;
    if let Some(text) = until_full(fds) {
        page.line(&format!("  {text}"))?;
    }
    by_type(fds, page)?;
    unseen(fds, page)?;
    openers(&report.sites, page)?;
    peer_gone(fds, report.targets.len() > 1, page)
}

/// The call sites of which most descriptors are open, with their rank in the list of all.
fn openers(sites: &[Site], page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let mut open: Vec<(usize, &Site)> = (1..)
        .zip(sites)
        .filter(|(_, site)| site.kind.is_descriptor() && site.outstanding_count > 0)
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    open.sort_by_key(|(_, site)| Reverse(site.outstanding_count));
    page.line("  most are open of those that were opened at:")?;
    for (rank, site) in open.iter().take(SITES) {
        let rate = site
            .growth_count_per_s
            .map_or_else(String::new, |rate| format!(", {}", count_per_s(rate)));
        page.line(&format!(
            "    {}: {} {} of {} open{rate} (call site #{rank})",
            site.asked().map_or_else(|| "unknown stack".to_owned(), place),
            site.kind_name(),
            count(site.outstanding_count),
            count(site.acquired_count),
        ))?;
    }
    match open.len().saturating_sub(SITES) {
        0 => Ok(()),
        1 => page.line("    … 1 more call site"),
        more => page.line(&format!("    … {} more call sites", count(more as u64))),
    }
}

/// When the limit will be reached, if ever.
pub(super) fn until_full(fds: &Fds) -> Option<String> {
    let left = roughly(fds.seconds_to_limit?);
    let within = match fds.seconds_to_limit_between {
        Some((from, Some(to))) => match roughly_between(from, to) {
            same if same == left => String::new(),
            between => format!(" ({between})"),
        },
        Some((from, None)) => format!(" (not before {}, maybe never)", roughly(from)),
        None => String::new(),
    };
    Some(format!("limit reached in {left}{within}"))
}

/// A row for each type, most open first.
fn by_type(fds: &Fds, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let mut types: Vec<_> = fds.turnover_by_type.iter().collect();
    if types.is_empty() {
        return Ok(());
    }
    types.sort_by_key(|(_, one)| Reverse(one.open));
    let growth = types.iter().any(|(_, one)| one.growth_per_s.is_some());
    let mut head = ["type", "open", "opened", "closed"].map(str::to_owned).to_vec();
    if growth {
        head.push("growth".to_owned());
    }
    let mut rows = vec![head];
    for (fd_type, one) in types {
        let mut row =
            vec![fd_type.to_string(), count(one.open), count(one.opened), count(one.closed)];
        if growth {
            row.push(one.growth_per_s.map_or_else(|| "?".to_owned(), count_per_s));
        }
        rows.push(row);
    }
    table(&rows, page)
}

/// Descriptors found open or closed whose opening or closing was not seen.
fn unseen(fds: &Fds, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    for (number, what) in [(fds.opened_unseen, "opened"), (fds.closed_unseen, "closed")] {
        if let Some(number) = number.filter(|number| *number > 0) {
            page.line(&format!("  {} {what} in a way that is not traced", count(number)))?;
        }
    }
    Ok(())
}

/// Open sockets whose peer is gone, those that wait longest first.
fn peer_gone(fds: &Fds, several: bool, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let mut waiting: Vec<&Fd> = fds.table.iter().filter(|one| one.is_peer_gone()).collect();
    // An unknown time sorts last: the state began before the attach, or its start was not seen.
    waiting.sort_by(|left, right| {
        let waited = |one: &Fd| one.state_s.unwrap_or(-1.0);
        waited(right).total_cmp(&waited(left))
    });
    let Some(more) = waiting.len().checked_sub(1) else { return Ok(()) };
    let title = match more {
        0 => "1 socket is still open though its peer is gone:".to_owned(),
        _ => format!(
            "{} sockets are still open though their peers are gone:",
            count(more as u64 + 1)
        ),
    };
    page.line(&format!("  {title}"))?;
    for one in waiting.iter().take(NAMED) {
        let whose = if several { format!(" of pid {}", one.pid) } else { String::new() };
        let who = one.peer.as_deref().unwrap_or("peer");
        let since = one.state_s.map_or_else(
            || "at an unknown time".to_owned(),
            |time| format!("{} ago", seconds(time)),
        );
        let is_over = one.state.as_ref().is_some_and(|state| state.is(SocketState::Close));
        let happened = if is_over {
            format!("CLOSE: the connection with {who} ended")
        } else {
            format!("CLOSE_WAIT: {who} closed")
        };
        page.line(&format!("    fd {}{whose} {happened} {since}, still open", one.fd))?;
    }
    match waiting.len().saturating_sub(NAMED) {
        0 => Ok(()),
        more => page.line(&format!("    … {} more", count(more as u64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{export::Options, fixtures};

    #[test]
    fn descriptors_do_not_hide_behind_a_thousand_call_sites_of_the_heap() {
        let mut report = fixtures::served();
        let one = report.sites.iter().find(|site| site.kind.is_descriptor()).cloned().unwrap();
        let heap = report.sites.iter().find(|site| !site.kind.is_descriptor()).cloned().unwrap();
        report.sites = vec![heap; 1_000];
        report.sites.extend((1..=7).map(|open| Site { outstanding_count: open, ..one.clone() }));
        let mut out = Vec::new();
        let options = Options { top: Some(3), ..Options::default() };
        super::super::write(&report, &options, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("  most are open of those that were opened at:\n"), "{text}");
        assert!(text.contains(" 7 of ") && text.contains("(call site #1007)"), "{text}");
        assert!(text.contains("    … 2 more call sites\n"), "{text}");
    }

    #[test]
    fn the_time_until_the_limit_has_an_interval() {
        let fds = |left, between| Fds {
            seconds_to_limit: left,
            seconds_to_limit_between: between,
            ..Fds::default()
        };
        for (left, between, text) in [
            (None, None, None),
            (Some(777.5), None, Some("limit reached in 13 min")),
            (
                Some(777.5),
                Some((540.0, Some(1_320.0))),
                Some("limit reached in 13 min (9 to 22 min)"),
            ),
            (
                Some(18_000.0),
                Some((6_000.0, None)),
                Some("limit reached in 5 h (not before 100 min, maybe never)"),
            ),
        ] {
            assert_eq!(until_full(&fds(left, between)).as_deref(), text);
        }
    }
}
