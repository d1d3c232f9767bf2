//! Connections at one moment: sums, the worst open ones, and the last that closed. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

use super::{Client, Connection, Connections, End, LeftBehind, Occurrence, Seed};
use crate::{
    collect::{ledger::Ledger, tally::Sum},
    target::Pid,
};

/// Open connections that are told singly: as many as anybody looks at.
const TABLE: usize = 1_000;

/// What is known of connections at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Open ones: those from before the attach and those opened since, without those closed since.
    pub open: u64,
    /// Opened since the attach.
    pub opened: u64,
    /// Closed since the attach, those from before it included.
    pub closed: u64,
    /// Closed ones that left something behind.
    pub with_orphans: u64,
    /// Closed ones by how they ended; under `None` those of which that is not known.
    pub by_end: BTreeMap<Option<End>, u64>,
    /// By peer.
    pub clients: Vec<Client>,
    /// The open ones, at most a thousand: those that hold most. In the order of their ids.
    pub table: Vec<Shown>,
    /// The last that closed, the newest first.
    pub recent: Vec<Shown>,
}

/// One connection at that moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Which.
    pub connection: Connection,
    /// What was acquired for it and is outstanding.
    pub held: Sum,
    /// The part of it that its end left behind.
    pub orphans: Sum,
    /// The state of its socket, if the kernel has told, and since when it is in it: `CLOCK_MONOTONIC`, nanoseconds.
    pub state: Option<(&'static str, Option<u64>)>,
    /// Bytes received and sent so far, if the kernel has told.
    pub bytes: Option<(u64, u64)>,
}

impl Connections {
    fn told(&self, connection: &Connection) -> Shown {
        let (held, orphans) =
            connection.number.map(|number| self.holdings.of(number)).unwrap_or_default();
        Shown { connection: connection.clone(), held, orphans, state: None, bytes: None }
    }

    /// All figures.
    pub(in crate::collect) fn figures(&self) -> Figures {
        let mut open: Vec<(Reverse<u64>, u64, &Connection)> = self
            .open
            .values()
            .chain(self.seeds.values())
            .map(|one| {
                let held = one.number.map_or(0, |number| self.holdings.of(number).0.bytes);
                (Reverse(held), one.id, one)
            })
            .collect();
        if open.len() > TABLE {
            open.select_nth_unstable_by_key(TABLE, |(held, id, _)| (*held, *id));
            open.truncate(TABLE);
        }
        open.sort_unstable_by_key(|(_, id, _)| *id);
        Figures {
            open: (self.open.len() + self.seeds.len()) as u64,
            opened: self.opened,
            closed: self.closed,
            with_orphans: self.holdings.with_orphans(),
            by_end: self.by_end.clone(),
            clients: self.clients.list(),
            table: open.into_iter().map(|(_, _, one)| self.told(one)).collect(),
            recent: self.recent.iter().rev().map(|one| self.told(one)).collect(),
        }
    }
}

impl Ledger {
    /// What closed connections left behind at a call site.
    pub fn left_behind(&self, site: u32) -> LeftBehind {
        self.book.connections.left(site)
    }

    /// What is known of connections when nothing is left to settle of those that ended `grace_ns` before `now_ns`.
    pub fn connections(&mut self, now_ns: u64, grace_ns: u64) -> Figures {
        self.settle_connections(now_ns, grace_ns);
        self.book.connections.figures()
    }

    /// What ended at least `grace_ns` before `now_ns` has left behind what it holds.
    pub fn settle_connections(&mut self, now_ns: u64, grace_ns: u64) {
        self.book.connections.settle_until(now_ns, grace_ns);
    }

    /// A connection was open before the attach.
    pub(in crate::collect) fn seed_connection(&mut self, seed: Seed) {
        self.book.connections.seed(seed);
    }

    /// The connections of a target that has ended are over, see [`Connections::exited`].
    pub(in crate::collect) fn connections_exited(
        &mut self,
        pid: Pid,
        at_ns: u64,
        heir: impl Fn(u64) -> Option<(Pid, u32)>,
    ) {
        self.book.connections.exited(pid, at_ns, heir);
    }

    /// What a look found of connections, see [`Connections::looked`].
    pub(in crate::collect) fn connections_looked(
        &mut self,
        sockets: &HashSet<u64>,
        looked: impl Fn(Pid) -> bool,
        at_ns: u64,
    ) {
        self.book.connections.looked(sockets, looked, at_ns);
    }

    /// How many numbers have been used for connections so far, so that as many more can be handed out.
    pub fn connections_begun(&self) -> u64 {
        self.book.connections.begun
    }

    /// Whether a number is in use: for a connection that is open, or for what is left of one.
    pub fn connection_in_use(&self, number: u32) -> bool {
        self.book.connections.holdings.knows(number)
    }

    /// Sockets and numbers of connections whose end was not seen, since this was last asked: nothing is to be known of
    /// them in the kernel.
    pub fn connections_ended_unseen(&mut self) -> Vec<(u64, u32)> {
        std::mem::take(&mut self.book.connections.unseen)
    }

    /// From now on what becomes of connections is remembered for a log.
    pub fn log_connections(&mut self) {
        self.book.connections.occurrences.get_or_insert_default();
    }

    /// What has become of connections since this was last asked, in order.
    pub fn occurrences(&mut self) -> Vec<Occurrence> {
        self.book.connections.occurrences.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Connections {
    fn left(&self, site: u32) -> LeftBehind {
        self.holdings.left(site)
    }
}
