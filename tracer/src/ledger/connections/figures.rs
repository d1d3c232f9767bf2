//! Connections at one moment: totals, the open ones that hold most, and the last ones that closed. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

use super::{
    Client, Connection, Connections, End, LeftBehind, Occurrence, Seed, holdings::Holdings,
};
use crate::{
    ledger::{Ledger, sum::Sum},
    target::Pid,
};

/// Maximum number of open connections listed one by one: as many as anybody looks at.
const TABLE: usize = 1_000;

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
fn figures(all: &Connections) -> Figures {
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
        table: open.into_iter().map(|(_, _, one)| shown(&all.holdings, one)).collect(),
        recent: all.recent.iter().rev().map(|one| shown(&all.holdings, one)).collect(),
    }
}

fn shown(holdings: &Holdings, connection: &Connection) -> Shown {
    let (held, orphans) = connection.number.map(|number| holdings.of(number)).unwrap_or_default();
    Shown { connection: connection.clone(), held, orphans, state: None, bytes: None }
}

impl Ledger {
    /// The resources that closed connections left behind at a call site.
    pub fn left_behind(&self, site: u32) -> LeftBehind {
        self.totals.connections.holdings.left(site)
    }

    /// The figures of connections, after settling those that ended at least `grace_ns` before `now_ns`.
    pub fn connections(&mut self, now_ns: u64, grace_ns: u64) -> Figures {
        self.settle_connections(now_ns, grace_ns);
        figures(&self.totals.connections)
    }

    /// Counts the resources of connections that ended at least `grace_ns` before `now_ns` as left behind.
    pub fn settle_connections(&mut self, now_ns: u64, grace_ns: u64) {
        self.totals.connections.settle_until(now_ns, grace_ns);
    }

    /// Adds a connection that was open before the attach.
    pub(crate) fn seed_connection(&mut self, seed: Seed) {
        self.totals.connections.seed(seed);
    }

    /// Ends the connections of a target that has ended, see [`Connections::exited`].
    pub(crate) fn connections_exited(
        &mut self,
        pid: Pid,
        at_ns: u64,
        heir: impl Fn(u64) -> Option<(Pid, u32)>,
    ) {
        self.totals.connections.exited(pid, at_ns, heir);
    }

    /// Applies a scan of the targets' descriptors, see [`Connections::scanned`].
    pub(crate) fn connections_scanned(
        &mut self,
        sockets: &HashSet<u64>,
        scanned: impl Fn(Pid) -> bool,
        at_ns: u64,
    ) {
        self.totals.connections.scanned(sockets, scanned, at_ns);
    }

    /// How many connection numbers have been used so far, so that as many can be added to the pool.
    pub fn connections_begun(&self) -> u64 {
        self.totals.connections.begun
    }

    /// Whether a number is in use: by an open connection, or by one that left resources behind.
    pub fn connection_in_use(&self, number: u32) -> bool {
        self.totals.connections.holdings.contains(number)
    }

    /// Sockets and numbers of connections that ended without a probe seeing it, since the last call: the BPF maps are
    /// to forget them.
    pub fn connections_ended_unseen(&mut self) -> Vec<(u64, u32)> {
        std::mem::take(&mut self.totals.connections.unseen)
    }

    /// Starts to keep entries for the log of connections.
    pub fn log_connections(&mut self) {
        self.totals.connections.occurrences.get_or_insert_default();
    }

    /// The log entries since the last call, in order.
    pub fn occurrences(&mut self) -> Vec<Occurrence> {
        self.totals.connections.occurrences.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
