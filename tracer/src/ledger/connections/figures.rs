//! Connections at one moment: totals, the open ones that hold most, and the last ones that closed. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use super::{Client, Connection, Connections, End, Peer, holdings::Holdings};
use crate::ledger::sum::Sum;

/// Maximum number of open connections listed one by one: as many as anybody looks at.
const TABLE: usize = 1_000;
/// Peers of a call site: as many as a finding lists.
const PEERS: usize = 5;

/// Connections at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Open connections: those from before the attach and those opened since, without those closed since.
    pub open: u64,
    /// Opened since the attach.
    pub opened: u64,
    /// Closed since the attach, those from before it included.
    pub closed: u64,
    /// Closed connections that left something behind.
    pub with_orphans: u64,
    /// Closed connections by how they ended; under `None`, those whose end is unknown.
    pub by_end: BTreeMap<Option<End>, u64>,
    /// By peer.
    pub clients: Vec<Client>,
    /// By call site: the peers whose connections, open and closed, have most of its resources. A bounded number.
    pub by_site: HashMap<u32, Vec<(Peer, Sum)>>,
    /// Open connections, at most a thousand: those that hold most. Ordered by id.
    pub table: Vec<Shown>,
    /// The last ones that closed, the newest first.
    pub recent: Vec<Shown>,
}

/// One connection at that moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The connection.
    pub connection: Connection,
    /// Outstanding resources acquired for it.
    pub held: Sum,
    /// Those of them that it left behind.
    pub orphans: Sum,
    /// The state of its socket, if known, and since when: `CLOCK_MONOTONIC`, nanoseconds.
    pub state: Option<(&'static str, Option<u64>)>,
    /// Bytes received and sent so far, if known.
    pub bytes: Option<(u64, u64)>,
}

/// All figures.
pub(super) fn figures(all: &Connections) -> Figures {
    let mut open: Vec<(Reverse<u64>, u64, &Connection)> = all
        .open
        .values()
        .chain(all.seeds.values())
        .map(|one| {
            let held = one.number.map_or(0, |number| all.holdings.of(number).0.bytes);
            (Reverse(held), one.id, one)
        })
        .collect();
    if open.len() > TABLE {
        open.select_nth_unstable_by_key(TABLE, |(held, id, _)| (*held, *id));
        open.truncate(TABLE);
    }
    open.sort_unstable_by_key(|(_, id, _)| *id);
    Figures {
        open: (all.open.len() + all.seeds.len()) as u64,
        opened: all.opened,
        closed: all.closed,
        with_orphans: all.holdings.with_orphans(),
        by_end: all.by_end.clone(),
        clients: all.clients.list(),
        by_site: by_site(all),
        table: open.into_iter().map(|(_, _, one)| shown(&all.holdings, one)).collect(),
        recent: all.recent.iter().rev().map(|one| shown(&all.holdings, one)).collect(),
    }
}

/// The peers that have most of each call site's resources.
fn by_site(all: &Connections) -> HashMap<u32, Vec<(Peer, Sum)>> {
    let mut sites: HashMap<u32, Vec<(u32, Sum)>> = HashMap::new();
    for ((site, client), sum) in all.holdings.by_site_and_client() {
        sites.entry(site).or_default().push((client, sum));
    }
    let worst = |mut clients: Vec<(u32, Sum)>| {
        clients.sort_unstable_by_key(|(client, sum)| (Reverse((sum.count, sum.bytes)), *client));
        clients.truncate(PEERS);
        clients.into_iter().map(|(client, sum)| (all.clients.peer(client), sum)).collect()
    };
    sites.into_iter().map(|(site, clients)| (site, worst(clients))).collect()
}

fn shown(holdings: &Holdings, connection: &Connection) -> Shown {
    let (held, orphans) = connection.number.map(|number| holdings.of(number)).unwrap_or_default();
    Shown { connection: connection.clone(), held, orphans, state: None, bytes: None }
}
