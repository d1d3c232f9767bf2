//! Connections as the report shows them.

use std::{cmp::Reverse, collections::HashMap};

use tracer_common::connection::Role;

use crate::{
    analyze::time_series::TimeSeries,
    ledger::{
        Sum,
        connections::{self as traced, End, Peer, Shown},
    },
    report::{
        Amount, Client, ClosedBy, Connection, ConnectionRole, Connections, LeftBehind, Orphans,
        Word,
    },
    snapshot::{SiteFigures, Snapshot},
};

/// Clients whose history is kept: the worst.
const CLIENT_HISTORIES: usize = 1_000;

/// The history of connections.
#[derive(Debug, Default)]
pub(super) struct History {
    opened: TimeSeries,
    by_client: HashMap<Peer, TimeSeries>,
}

/// Resources of a call site that closed connections left behind, if connections are traced.
pub(super) fn orphans(snapshot: &Snapshot, left: &traced::LeftBehind) -> Option<Orphans> {
    snapshot.connections.is_some().then_some(Orphans {
        count: left.sum.count,
        bytes: left.sum.bytes,
        connections: left.connections,
        share: left.share,
    })
}

/// The connections of a snapshot, if connections are traced; times are relative to `started_ns`.
pub(super) fn report(
    snapshot: &Snapshot,
    started_ns: u64,
    history: &mut History,
) -> Option<Connections> {
    let figures = snapshot.connections.as_ref()?;
    let at_s = snapshot.at_ns as f64 / 1e9;
    history.opened.push(at_s, figures.opened as f64);
    let convert = |one: &Shown| connection(one, snapshot.at_ns, started_ns);
    Some(Connections {
        open: figures.open,
        opened: figures.opened,
        closed: figures.closed,
        opened_per_s: history.opened.slope(),
        with_orphans: figures.with_orphans,
        by_end: figures
            .by_end
            .iter()
            .map(|(end, count)| (end.map_or(ClosedBy::Unknown, closed_by).into(), *count))
            .collect(),
        left_behind: left_behind(snapshot),
        clients: clients(&figures.clients, at_s, history),
        table: figures.table.iter().map(convert).collect(),
        recently_closed: figures.recent.iter().map(convert).collect(),
    })
}

/// Call sites whose resources closed connections left behind. A little left by every connection ranks above a lot
/// left by one.
fn left_behind(snapshot: &Snapshot) -> Vec<LeftBehind> {
    let left = |site: &SiteFigures| {
        let orphans = orphans(snapshot, &site.orphans).filter(|orphans| orphans.count > 0)?;
        Some(LeftBehind { site: site.number, orphans })
    };
    let mut all: Vec<LeftBehind> = snapshot.sites.iter().filter_map(left).collect();
    all.sort_by_key(|one| Reverse((one.orphans.connections, one.orphans.bytes, Reverse(one.site))));
    all
}

/// The peers, worst first. Their history is kept while they are among the worst.
fn clients(all: &[traced::Client], at_s: f64, history: &mut History) -> Vec<Client> {
    let mut order: Vec<&traced::Client> = all.iter().collect();
    order.sort_by_key(|one| Reverse((one.orphans.bytes, one.orphans.count, one.open, one.opened)));
    let mut before = std::mem::take(&mut history.by_client);
    let shown = order.into_iter().enumerate().map(|(place, one)| {
        let mut opened_per_s = None;
        if place < CLIENT_HISTORIES {
            let mut series = before.remove(&one.peer).unwrap_or_default();
            series.push(at_s, one.opened as f64);
            opened_per_s = series.slope();
            history.by_client.insert(one.peer.clone(), series);
        }
        client(one, opened_per_s)
    });
    shown.collect()
}

fn client(one: &traced::Client, opened_per_s: Option<f64>) -> Client {
    Client {
        address: address(&one.peer),
        opened: one.opened,
        open: one.open,
        closed: one.closed,
        opened_per_s,
        bytes_in: one.bytes_in,
        bytes_out: one.bytes_out,
        orphan_count: one.orphans.count,
        orphan_bytes: one.orphans.bytes,
        with_orphans: one.with_orphans,
    }
}

/// The display name of a peer.
pub(super) fn address(peer: &Peer) -> String {
    match peer {
        Peer::Host(ip) => ip.to_string(),
        Peer::Name(name) => name.as_ref().to_owned(),
        Peer::Unknown => "unknown".to_owned(),
        Peer::Others => "others".to_owned(),
    }
}

fn connection(shown: &Shown, at_ns: u64, started_ns: u64) -> Connection {
    let Shown { connection, held, orphans, state, bytes } = shown;
    let closed = connection.closed.as_ref();
    let seconds = |ns: u64| ns as f64 / 1e9;
    let since_start = |ns: u64| seconds(ns.saturating_sub(started_ns));
    let until_ns = closed.map_or(at_ns, |closed| closed.at_ns);
    let (bytes_in, bytes_out) = match closed {
        Some(closed) => (closed.bytes_in, closed.bytes_out),
        None => (bytes.map(|(came, _)| came), bytes.map(|(_, went)| went)),
    };
    Connection {
        id: connection.id,
        pid: connection.pid.0,
        fd: closed.is_none().then_some(connection.fd),
        protocol: Word::named(connection.protocol),
        role: began(connection.role),
        local: connection.local.as_ref().map(ToString::to_string),
        peer: connection.peer.as_ref().map(ToString::to_string),
        opened_s: connection.opened_ns.map(since_start),
        age_s: connection.opened_ns.map(|opened| seconds(until_ns.saturating_sub(opened))),
        closed_s: closed.map(|closed| since_start(closed.at_ns)),
        bytes_in,
        bytes_out,
        state: state.map(|(state, _)| Word::named(state)),
        state_s: state.and_then(|(_, since)| since).map(|ns| seconds(at_ns.saturating_sub(ns))),
        closed_by: closed.and_then(|closed| closed.by).map(|end| closed_by(end).into()),
        held: amount(*held),
        orphans: amount(*orphans),
        site: (connection.site != 0).then_some(connection.site),
        pre_attach: connection.opened_ns.is_none(),
    }
}

/// Which side opened the connection, if that was seen.
pub(super) const fn began(role: Role) -> Option<ConnectionRole> {
    match role {
        Role::Accepted => Some(ConnectionRole::Accepted),
        Role::Connected => Some(ConnectionRole::Connected),
        Role::Before => None,
    }
}

/// Which side closed it.
pub(super) const fn closed_by(end: End) -> ClosedBy {
    match end {
        End::Us => ClosedBy::Us,
        End::Peer => ClosedBy::Peer,
        End::Reset => ClosedBy::Reset,
        End::Timeout => ClosedBy::Timeout,
        End::Exit => ClosedBy::Exit,
    }
}

/// Converts a number of resources and their bytes.
pub(super) const fn amount(sum: Sum) -> Amount {
    Amount { count: sum.count, bytes: sum.bytes }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
