//! Connections as text: how many, how they ended, whose they were, and what they left behind.
//!
//! Takes the report's connections, hands on lines; says what it leaves out. Single connections are in the
//! JSON and on the screen.

use std::{
    cmp::Reverse,
    io::{self, Write},
};

use super::{Page, pace, table};
use crate::{
    format::{bytes, count, percent},
    report::{Amount, Client, Connections, Frame, LeftBehind, Site},
};

/// Clients and call sites that have a row; the others are counted.
const ROWS: usize = 10;

pub(super) fn write(
    connections: &Connections,
    sites: &[Site],
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    page.line("")?;
    let rate =
        connections.opened_per_s.map_or_else(String::new, |rate| format!(" ({})", pace(rate)));
    page.line(&format!(
        "connections: {} open; opened {}{rate}, closed {}{}",
        count(connections.open),
        count(connections.opened),
        count(connections.closed),
        ends(connections),
    ))?;
    if let Some(text) = left_behind(connections) {
        page.line(&format!("  {text}"))?;
    }
    call_sites(connections, sites, page)?;
    clients(connections, page)
}

/// Where what was left behind was acquired.
fn call_sites(
    connections: &Connections,
    sites: &[Site],
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let left = &connections.left_behind;
    if left.is_empty() {
        return Ok(());
    }
    let head = ["of closed", "connections", "left behind", "by", "call site"];
    let row = |one: &LeftBehind| {
        let site = sites.iter().find(|site| site.id == one.site);
        let asked = site.and_then(Site::asked).map(Frame::label);
        vec![
            one.orphans.share.map_or_else(|| "?".to_owned(), percent),
            count(one.orphans.connections),
            format!("{} in {}", bytes(one.orphans.bytes), count(one.orphans.count)),
            site.map_or_else(|| "?".to_owned(), |site| site.acquired_by.clone()),
            asked.unwrap_or_else(|| format!("call site {}", one.site)),
        ]
    };
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(left.iter().take(ROWS).map(row));
    table(&rows, page)?;
    match left.len().saturating_sub(ROWS) {
        0 => Ok(()),
        1 => page.line("  … 1 more call site"),
        more => page.line(&format!("  … {} more call sites", count(more as u64))),
    }
}

/// Who closed them, most frequent first.
fn ends(connections: &Connections) -> String {
    let mut ends: Vec<_> = connections.by_end.iter().filter(|(_, number)| **number > 0).collect();
    ends.sort_by_key(|(_, number)| Reverse(**number));
    let words: Vec<String> =
        ends.iter().map(|(end, number)| format!("{} {}", count(**number), by(end))).collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}

/// How a connection ended, as part of a sentence. A word of a later version stays as it is.
fn by(end: &str) -> &str {
    match end {
        "us" => "by the target",
        "peer" => "by the peer",
        other => other,
    }
}

/// What closed connections left behind, if any did.
fn left_behind(connections: &Connections) -> Option<String> {
    let leaving = connections.with_orphans;
    if leaving == 0 {
        return None;
    }
    let share = percent(leaving as f64 / connections.closed.max(leaving) as f64);
    let closed = match leaving {
        1 => "1 closed connection".to_owned(),
        _ => format!("{} closed connections", count(leaving)),
    };
    let clients = &connections.clients;
    // Without all clients there is no sum.
    let known = clients.iter().map(|one| one.with_orphans).sum::<u64>() == leaving;
    let whose = known.then(|| whose(clients, leaving)).flatten().unwrap_or_default();
    if !known {
        return Some(format!("something was left behind by {closed}, {share} of all{whose}"));
    }
    let total = Amount {
        count: clients.iter().map(|one| one.orphan_count).sum(),
        bytes: clients.iter().map(|one| one.orphan_bytes).sum(),
    };
    Some(if leaving > 1 && all_the_same(connections, total) {
        let one = Amount { count: total.count / leaving, bytes: total.bytes / leaving };
        format!("{} left behind by each of {closed}, {share} of all{whose}", amount(one))
    } else {
        format!("{} left behind by {closed}, {share} of all{whose}", amount(total))
    })
}

/// Whether each left the same: the mean is what each of those that are known singly did leave.
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

fn amount(amount: Amount) -> String {
    let noun = if amount.count == 1 { "block" } else { "blocks" };
    format!("{} in {} {noun}", bytes(amount.bytes), count(amount.count))
}

/// The one client that most of them are from, if there is one.
fn whose(clients: &[Client], leaving: u64) -> Option<String> {
    let worst = clients.iter().max_by_key(|one| one.with_orphans)?;
    match worst.with_orphans {
        all if all == leaving => Some(format!(", all from {}", worst.address)),
        // A majority; less would mislead.
        most if most * 2 > leaving => Some(format!(", from {} mostly", worst.address)),
        _ => None,
    }
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
            one.opened_per_s.map_or_else(unknown, pace),
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
    use crate::report::sample;

    fn served() -> Connections {
        sample::served().connections.unwrap()
    }

    #[test]
    fn what_each_left_is_said_only_where_all_left_the_same() {
        let mut some = served();
        some.recently_closed[2].orphans.bytes -= 1;
        let text = left_behind(&some).unwrap();
        assert_eq!(
            text,
            "61.3 MiB in 15,693 blocks left behind by 5,231 closed connections, 57.4 % of all, \
             from 10.0.0.7 mostly"
        );
        some.recently_closed.clear();
        assert_eq!(left_behind(&some).unwrap(), text, "nothing is known of any");
    }

    #[test]
    fn without_all_clients_there_is_no_sum() {
        let mut some = served();
        some.clients.remove(0);
        assert_eq!(
            left_behind(&some).unwrap(),
            "something was left behind by 5,231 closed connections, 57.4 % of all"
        );
        some.with_orphans = 0;
        assert_eq!(left_behind(&some), None);
    }

    #[test]
    fn whose_they_are_is_said_of_a_majority_only() {
        let client = |address: &str, with_orphans| Client {
            address: address.to_owned(),
            with_orphans,
            ..Client::default()
        };
        assert_eq!(whose(&[client("a", 5), client("b", 5)], 10), None);
        assert_eq!(whose(&[client("a", 4), client("b", 6)], 10).unwrap(), ", from b mostly");
        assert_eq!(whose(&[client("a", 10), client("b", 0)], 10).unwrap(), ", all from a");
    }
}
