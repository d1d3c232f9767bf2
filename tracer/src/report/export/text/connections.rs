//! Connections as text: counts, how they closed, clients, and what they left behind.
//!
//! Takes the report's connections, returns lines; says what it leaves out. Single connections are in the JSON and on
//! the screen.

use std::{
    cmp::Reverse,
    io::{self, Write},
};

use super::{
    Page, per_second,
    table::{table, table_of},
};
use crate::{
    format::{bytes, count, percent},
    report::{Amount, Client, ClosedBy, Connections, Frame, Leaving, Site, Word},
};

/// Rows of clients and call sites; the rest are counted.
const ROWS: usize = 10;

pub(super) fn write(
    connections: &Connections,
    sites: &[Site],
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    page.line("")?;
    let rate = connections
        .opened_per_s
        .map_or_else(String::new, |rate| format!(" ({})", per_second(rate)));
    page.line(&format!(
        "connections: {} open; opened {}{rate}, closed {}{}",
        count(connections.open),
        count(connections.opened),
        count(connections.closed),
        ends(connections),
    ))?;
    if let Some(text) = left_behind(connections, sites) {
        page.line(&format!("  {text}"))?;
    }
    call_sites(connections, sites, page)?;
    clients(connections, page)
}

/// Where the resources left behind were acquired, a row for each function.
fn call_sites(
    connections: &Connections,
    sites: &[Site],
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let left = connections.leaving(sites);
    if left.is_empty() {
        return Ok(());
    }
    let head = ["share", "connections", "left behind", "kind", "call site", "by"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(left.iter().take(ROWS).map(|one| call_site(one, sites)));
    table_of(&rows, |column| column > 2, page)?;
    match left.len().saturating_sub(ROWS) {
        0 => {}
        1 => page.line("  … 1 more call site")?,
        more => page.line(&format!("  … {} more call sites", count(more as u64)))?,
    }
    page.line("  share: of the connections that closed at least 1s (or --min-age) ago")?;
    if left.iter().take(ROWS).all(|one| one.connections.0 == one.connections.1) {
        return Ok(());
    }
    page.line("  from–to: connections that left something on several paths cannot be distinguished")
}

fn call_site(one: &Leaving, sites: &[Site]) -> Vec<String> {
    let worst = one.sites.first().copied().unwrap_or_default();
    let site = sites.iter().find(|site| site.id == worst);
    let unknown = || "?".to_owned();
    let left = if site.is_some_and(|site| site.kind.is_thread()) {
        format!("{} threads", count(one.count))
    } else if site.is_some_and(|site| site.kind.is_descriptor()) {
        format!("{} open", count(one.count))
    } else {
        format!("{} in {}", bytes(one.bytes), count(one.count))
    };
    let asked = site.and_then(Site::asked);
    let mut place = asked.map_or_else(|| format!("call site {worst}"), Frame::label);
    if let Some(source) = asked.and_then(Frame::source) {
        place = format!("{place}  {source}");
    }
    if one.sites.len() > 1 {
        place = format!("{place}  ({} paths)", count(one.sites.len() as u64));
    }
    vec![
        one.share_text().unwrap_or_else(unknown),
        one.connections_text(count),
        left,
        site.map_or_else(unknown, |site| site.kind_name().to_owned()),
        place,
        site.map_or_else(unknown, |site| site.acquired_by.clone()),
    ]
}

/// Who closed them, most frequent first.
fn ends(connections: &Connections) -> String {
    let mut ends: Vec<_> = connections.by_end.iter().filter(|(_, number)| **number > 0).collect();
    ends.sort_by_key(|(_, number)| Reverse(**number));
    let words: Vec<String> =
        ends.iter().map(|(end, number)| format!("{} {}", count(**number), by(end))).collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}

/// How a connection closed, as part of a sentence. A word of a later version is kept as it is.
fn by(end: &Word<ClosedBy>) -> &str {
    match end.known() {
        Some(ClosedBy::Us) => "by the target",
        Some(ClosedBy::Peer) => "by the peer",
        _ => end.name(),
    }
}

/// Resources that closed connections left behind, if any did.
fn left_behind(connections: &Connections, sites: &[Site]) -> Option<String> {
    let leaving = connections.with_orphans;
    if leaving == 0 {
        return None;
    }
    let all = connections.closed.max(leaving);
    let of = format!(
        "{} of {} closed connections ({})",
        count(leaving),
        count(all),
        percent(leaving as f64 / all as f64)
    );
    let clients = &connections.clients;
    // Without all clients there is no total.
    if clients.iter().map(|one| one.with_orphans).sum::<u64>() != leaving {
        return Some(format!("something was left behind by {of}"));
    }
    let whose = match connections.mostly_from(leaving) {
        Some((address, true)) => format!(", all from {address}"),
        Some((address, false)) => format!(", mostly from {address}"),
        None => String::new(),
    };
    let total = Amount {
        count: clients.iter().map(|one| one.orphan_count).sum(),
        bytes: clients.iter().map(|one| one.orphan_bytes).sum(),
    };
    let noun = noun(connections, sites);
    Some(if leaving > 1 && all_the_same(connections, total) {
        let one = Amount { count: total.count / leaving, bytes: total.bytes / leaving };
        format!("{} left behind by each of {of}{whose}", amount(one, noun))
    } else {
        format!("{} left behind by {of}{whose}", amount(total, noun))
    })
}

/// "blocks" if all resources are known to be blocks, else "resources".
fn noun(connections: &Connections, sites: &[Site]) -> &'static str {
    let sized = |number| {
        let site = sites.iter().find(|site| site.id == number);
        site.is_some_and(|site| site.kind.has_bytes())
    };
    let rows = &connections.left_behind;
    let blocks = !rows.is_empty() && rows.iter().all(|row| sized(row.site));
    if blocks { "block" } else { "resource" }
}

/// Whether each connection left the same: the mean equals what each individually known one left.
fn all_the_same(connections: &Connections, total: Amount) -> bool {
    let leaving = connections.with_orphans;
    let mut singly = connections
        .recently_closed
        .iter()
        .map(|one| one.orphans)
        .filter(|orphans| orphans.count > 0)
        .peekable();
    singly.peek().is_some()
        && singly.all(|one| {
            one.count.checked_mul(leaving) == Some(total.count)
                && one.bytes.checked_mul(leaving) == Some(total.bytes)
        })
}

fn amount(amount: Amount, noun: &str) -> String {
    let many = if amount.count == 1 { "" } else { "s" };
    format!("{} in {} {noun}{many}", bytes(amount.bytes), count(amount.count))
}

fn clients(connections: &Connections, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let clients = &connections.clients;
    if clients.is_empty() {
        return Ok(());
    }
    let head = ["client", "left behind", "open", "opened", "closed", "per second", "in", "out"];
    let unknown = || "?".to_owned();
    let row = |one: &Client| {
        vec![
            one.address.clone(),
            match one.orphan_count {
                0 => "-".to_owned(),
                number => format!("{} in {}", bytes(one.orphan_bytes), count(number)),
            },
            count(one.open),
            count(one.opened),
            count(one.closed),
            one.opened_per_s.map_or_else(unknown, per_second),
            one.bytes_in.map_or_else(unknown, bytes),
            one.bytes_out.map_or_else(unknown, bytes),
        ]
    };
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(clients.iter().take(ROWS).map(row));
    table(&rows, page)?;
    match clients.len().saturating_sub(ROWS) {
        0 => Ok(()),
        1 => page.line("  … 1 more client"),
        more => page.line(&format!("  … {} more clients", count(more as u64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{LeftBehind, fixtures};

    fn served() -> (Connections, Vec<Site>) {
        let report = fixtures::served();
        (report.connections.unwrap(), report.sites)
    }

    #[test]
    fn amount_per_connection_is_shown_only_if_all_are_equal() {
        let (mut some, sites) = served();
        some.recently_closed[2].orphans.bytes -= 1;
        let text = left_behind(&some, &sites).unwrap();
        assert_eq!(
            text,
            "61.3 MiB in 15,693 blocks left behind by 5,231 of 9,120 closed connections (57.4 %), \
             mostly from 10.0.0.7"
        );
        some.recently_closed.clear();
        assert_eq!(left_behind(&some, &sites).unwrap(), text, "nothing is known of any");
        some.left_behind.push(LeftBehind { site: 6, ..some.left_behind[0] });
        let text = left_behind(&some, &sites).unwrap();
        assert!(text.starts_with("61.3 MiB in 15,693 resources left"), "descriptors, too: {text}");
    }

    #[test]
    fn no_total_without_all_clients() {
        let (mut some, sites) = served();
        some.clients.remove(0);
        assert_eq!(
            left_behind(&some, &sites).unwrap(),
            "something was left behind by 5,231 of 9,120 closed connections (57.4 %)"
        );
        some.with_orphans = 0;
        assert_eq!(left_behind(&some, &sites), None);
    }

    #[test]
    fn paths_to_one_function_are_one_row_and_descriptors_have_no_bytes() {
        let (mut some, sites) = served();
        let one = call_site(&some.leaving(&sites)[0], &sites);
        assert_eq!(one[..4], ["57.4 %", "5,231", "61.3 MiB in 15,693", "heap"]);
        let second = Site { id: 7, ..sites[0].clone() };
        let sites = [&sites[..], &[second]].concat();
        some.left_behind.push(LeftBehind { site: 7, ..some.left_behind[0] });
        some.left_behind.push(LeftBehind { site: 6, ..some.left_behind[0] });
        let rows: Vec<_> = some.leaving(&sites).iter().map(|one| call_site(one, &sites)).collect();
        assert_eq!(rows[0][..4], ["57.4 %", "5,231", "123 MiB in 31,386", "heap"]);
        assert!(rows[0][4].ends_with("gateway.cpp:88  (2 paths)"), "{rows:?}");
        assert_eq!(
            rows[1][2..],
            ["15,693 open", "eventfd", "publish_error  bus.cpp:141", "eventfd2"]
        );
        some.with_orphans += 100;
        let least = call_site(&some.leaving(&sites)[0], &sites);
        assert_eq!(least[..2], ["57.4–58.5 %", "5,231–5,331"], "a hundred may have left it, too");
    }
}
