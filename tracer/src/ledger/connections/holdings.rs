//! The resources that connections hold, by call site, and those that they left behind. Pure.
//!
//! Compact and long-lived: a connection that left something behind stays here until all of it is released,
//! however many such connections there are.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;
use tracer_common::connection::Role;

use super::clients::Clients;
use crate::ledger::{events::Block, sum::Sum};

/// A connection's resources from one call site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    site: u32,
    count: u32,
    bytes: u64,
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its start has not arrived, or never will.
    #[default]
    Unknown,
    /// It is open.
    Open,
    /// It has ended recently: its resources may still be released in consequence.
    Closed,
    /// Its remaining resources count as left behind.
    Past,
}

/// One connection's resources.
#[derive(Debug)]
struct Holding {
    /// By call site, ascending.
    items: Vec<Item>,
    client: u32,
    role: Role,
    phase: Phase,
    /// No event of it is in flight any more.
    settled: bool,
}

impl Default for Holding {
    fn default() -> Self {
        let (role, phase) = (Role::Before, Phase::Unknown);
        Self { items: Vec::new(), client: Clients::OTHERS, role, phase, settled: false }
    }
}

impl Holding {
    fn is_finished(&self) -> bool {
        self.items.is_empty() && (self.phase == Phase::Unknown || self.settled)
    }

    fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for item in &self.items {
            sum.merge(Sum { count: u64::from(item.count), bytes: item.bytes });
        }
        sum
    }
}

/// Resources that closed connections left behind at one call site.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LeftBehind {
    /// Resources and their bytes.
    pub sum: Sum,
    /// Connections that left one.
    pub connections: u64,
    /// Their share of all connections of the same roles that closed long enough ago, 0 to 1; `None` without any.
    pub share: Option<f64>,
}

/// Totals of one call site, with the number of connections by role.
#[derive(Clone, Copy, Debug, Default)]
struct AtSite {
    sum: Sum,
    connections: [u64; ROLES],
}

const ROLES: usize = 3;

/// The resources of all connections.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    by_number: HashMap<u32, Holding, FixedState>,
    left: HashMap<u32, AtSite, FixedState>,
    /// Connections that ended long enough ago, by role.
    past: [u64; ROLES],
    /// Those that left something behind.
    with_orphans: u64,
}

impl Holdings {
    /// Adds a resource; if not `whole`, only bytes to a counted one.
    pub(super) fn add(&mut self, block: &Block, whole: bool, clients: &mut Clients) {
        let holding = self.by_number.entry(block.connection).or_default();
        let first = holding.items.is_empty();
        let at = holding.items.binary_search_by_key(&block.site, |item| item.site);
        let new = at.is_err();
        let at = at.unwrap_or_else(|at| {
            // Most connections hold resources of one call site: reserve no more.
            holding.items.reserve_exact(1);
            holding.items.insert(at, Item { site: block.site, count: 0, bytes: 0 });
            at
        });
        if let Some(item) = holding.items.get_mut(at) {
            item.count = item.count.saturating_add(u32::from(whole));
            item.bytes += block.size;
        }
        if holding.phase == Phase::Past {
            let more = Sum { count: u64::from(whole), bytes: block.size };
            let (role, client) = (holding.role, holding.client);
            self.leave(block.site, more, new.then_some(role));
            self.with_orphans += u64::from(first);
            clients.add_orphans(client, more, first);
        }
    }

    /// Removes a resource; if not `whole`, only a part of its bytes.
    pub(super) fn take(&mut self, block: &Block, whole: bool, clients: &mut Clients) {
        let Some(holding) = self.by_number.get_mut(&block.connection) else { return };
        let at = holding.items.binary_search_by_key(&block.site, |item| item.site);
        let Some(at) = at.ok().filter(|at| *at < holding.items.len()) else { return };
        let mut gone = false;
        if let Some(item) = holding.items.get_mut(at) {
            item.count = item.count.saturating_sub(u32::from(whole));
            item.bytes = item.bytes.saturating_sub(block.size);
            gone = item.count == 0 && item.bytes == 0;
        }
        if gone {
            holding.items.remove(at);
        }
        let last = holding.items.is_empty();
        if holding.phase == Phase::Past {
            let less = Sum { count: u64::from(whole), bytes: block.size };
            if let Some(left) = self.left.get_mut(&block.site) {
                left.sum.count = left.sum.count.saturating_sub(less.count);
                left.sum.bytes = left.sum.bytes.saturating_sub(less.bytes);
                if gone && let Some(number) = left.connections.get_mut(holding.role as usize) {
                    *number = number.saturating_sub(1);
                }
            }
            self.with_orphans -= u64::from(last);
            clients.remove_orphans(holding.client, less, last);
        }
        if holding.is_finished() {
            self.by_number.remove(&block.connection);
        }
    }

    /// Adds resources left behind at a call site; by one more connection, if its role is given.
    fn leave(&mut self, site: u32, more: Sum, by: Option<Role>) {
        let left = self.left.entry(site).or_default();
        left.sum.merge(more);
        if let Some(number) = by.and_then(|role| left.connections.get_mut(role as usize)) {
            *number += 1;
        }
    }

    /// Starts a connection; resources that reached the ledger before are already here.
    pub(super) fn begin(&mut self, number: u32, role: Role, client: u32) {
        let holding = self.by_number.entry(number).or_default();
        (holding.role, holding.client, holding.phase) = (role, client, Phase::Open);
        holding.settled = false;
    }

    /// Ends a connection.
    pub(super) fn end(&mut self, number: u32) {
        if let Some(holding) = self.by_number.get_mut(&number) {
            holding.phase = Phase::Closed;
        }
    }

    /// Counts the remaining resources of a closed connection as left behind and returns their sum. A connection without
    /// a number has none, but is counted.
    pub(super) fn pass(&mut self, number: Option<u32>, role: Role, clients: &mut Clients) -> Sum {
        if let Some(past) = self.past.get_mut(role as usize) {
            *past += 1;
        }
        let Some(holding) = number.and_then(|number| self.by_number.get_mut(&number)) else {
            return Sum::default();
        };
        if holding.phase != Phase::Closed {
            return Sum::default();
        }
        holding.phase = Phase::Past;
        let (sum, client) = (holding.sum(), holding.client);
        // From now on it only loses resources.
        holding.items.shrink_to_fit();
        let items = holding.items.clone();
        if !items.is_empty() {
            self.with_orphans += 1;
            clients.add_orphans(client, sum, true);
        }
        for item in items {
            let more = Sum { count: u64::from(item.count), bytes: item.bytes };
            self.leave(item.site, more, Some(role));
        }
        sum
    }

    /// Records that no event of it is in flight any more.
    pub(super) fn settle(&mut self, number: u32) {
        if let Some(holding) = self.by_number.get_mut(&number) {
            holding.settled = holding.phase == Phase::Past;
            if holding.is_finished() {
                self.by_number.remove(&number);
            }
        }
    }

    /// The resources of a connection, and those of them that it left behind.
    pub(super) fn of(&self, number: u32) -> (Sum, Sum) {
        self.by_number.get(&number).map_or_else(Default::default, |holding| {
            let sum = holding.sum();
            (sum, if holding.phase == Phase::Past { sum } else { Sum::default() })
        })
    }

    /// The resources of all connections, open and closed, by call site and by index of their peer's entry.
    pub(super) fn by_site_and_client(&self) -> HashMap<(u32, u32), Sum, FixedState> {
        let mut sums = HashMap::<(u32, u32), Sum, FixedState>::default();
        for holding in self.by_number.values() {
            for item in &holding.items {
                let sum = sums.entry((item.site, holding.client)).or_default();
                sum.merge(Sum { count: u64::from(item.count), bytes: item.bytes });
            }
        }
        sums
    }

    /// Index of its peer's entry.
    pub(super) fn client(&self, number: u32) -> u32 {
        self.by_number.get(&number).map_or(Clients::OTHERS, |holding| holding.client)
    }

    /// Whether there is an entry under this number.
    pub(super) fn contains(&self, number: u32) -> bool {
        self.by_number.contains_key(&number)
    }

    /// The resources that closed connections left behind at a call site.
    pub(super) fn left(&self, site: u32) -> LeftBehind {
        let left = self.left.get(&site).copied().unwrap_or_default();
        let connections = left.connections.iter().sum();
        let roles = left.connections.iter().zip(&self.past);
        // Where nothing is left behind, all closed connections count.
        let compared: u64 = roles
            .filter(|(leaving, _)| connections == 0 || **leaving > 0)
            .map(|(_, past)| past)
            .sum();
        let share = (compared > 0).then(|| connections as f64 / compared as f64);
        LeftBehind { sum: left.sum, connections, share }
    }

    /// Forgets what was left behind at call sites that are gone.
    pub(super) fn forget_sites(&mut self, gone: &HashSet<u32, FixedState>) {
        self.left.retain(|site, _| !gone.contains(site));
    }

    /// Number of closed connections that left something behind.
    pub(super) const fn with_orphans(&self) -> u64 {
        self.with_orphans
    }

    /// Resources by connection and call site; for tests.
    #[cfg(test)]
    pub(super) fn items(&self) -> Vec<(u32, u32, u64, u64)> {
        let all = self.by_number.iter().flat_map(|(number, holding)| {
            holding.items.iter().map(|item| (*number, item.site, u64::from(item.count), item.bytes))
        });
        let mut all: Vec<_> = all.collect();
        all.sort_unstable();
        all
    }

    /// Number of connections with an entry; for tests.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.by_number.len()
    }
}
