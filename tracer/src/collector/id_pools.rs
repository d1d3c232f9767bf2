//! Id pools for the BPF programs: thread states, and numbers for call sites and connections.

use std::io;

use tracer_common::limits;

use crate::{kernel::IdPool, ledger::Ledger, source::RecordSource};

/// Call-site numbers available at the start.
const FIRST_SITES: u32 = 1 << 14;
/// Thread states available at the start.
const FIRST_THREAD_STATES: u32 = 1 << 10;
/// Connection numbers available at the start.
const FIRST_CONNECTIONS: u32 = 1 << 13;
/// Connection numbers that follow.
const REMAINING_CONNECTIONS: u64 = (limits::FREE_CONNECTIONS - FIRST_CONNECTIONS) as u64;

/// Portions that the remaining numbers come in: adding them all at once takes a tenth of a second, which would delay the
/// next drain. Part of the format of tapes, which have a cycle for each.
pub(super) const PORTIONS: u32 = 7;
/// Portions of call-site numbers: an equal part of the remaining ones each.
const SITE_PORTIONS: u32 = 4;
const _: () = assert!((limits::SITES - FIRST_SITES).is_multiple_of(SITE_PORTIONS));

/// What has been given to the pools.
pub(super) struct IdPools {
    /// Whether connections need numbers.
    connections: bool,
    /// Whether all their numbers come before those of call sites: the user asks for connections.
    connections_first: bool,
    /// The next connection number to allocate.
    next_connection: u32,
}

impl IdPools {
    /// Nothing has been given yet; `connections` says whether connections need numbers, and `connections_first` whether the
    /// user asks for them.
    pub(super) const fn new(connections: bool, connections_first: bool) -> Self {
        Self { connections, connections_first, next_connection: 1 }
    }

    /// Fills the pools for the start.
    pub(super) fn allocate_initial(
        &mut self,
        source: &mut RecordSource,
        ledger: &Ledger,
    ) -> io::Result<()> {
        // Number 0 is the unknown call site.
        source.add_ids(IdPool::Sites, 1..FIRST_SITES)?;
        source.add_ids(IdPool::ThreadStates, 0..FIRST_THREAD_STATES.min(source.thread_states()))?;
        if self.connections {
            self.allocate_connections(source, ledger, FIRST_CONNECTIONS.into())?;
        }
        Ok(())
    }

    /// Adds the remaining thread states and, if the user asks for connections, all connection numbers: a server's first
    /// second can need tens of thousands. Adding as many takes a tenth of a second, which would delay the start, and
    /// otherwise delays call-site numbers.
    pub(super) fn allocate_remaining(
        &mut self,
        source: &mut RecordSource,
        ledger: &Ledger,
    ) -> io::Result<()> {
        source.add_ids(IdPool::ThreadStates, FIRST_THREAD_STATES..source.thread_states())?;
        if self.connections && self.connections_first {
            self.allocate_connections(source, ledger, REMAINING_CONNECTIONS)?;
        }
        Ok(())
    }

    /// Adds one of the [`PORTIONS`]: call-site numbers first, because a program that is busy at the start may have more
    /// call sites than there were numbers, and one without a number is lost.
    pub(super) fn allocate_portion(
        &mut self,
        portion: u32,
        source: &mut RecordSource,
        ledger: &Ledger,
    ) -> io::Result<()> {
        let of_sites = (limits::SITES - FIRST_SITES) / SITE_PORTIONS;
        if portion < SITE_PORTIONS {
            let from = FIRST_SITES + portion * of_sites;
            return source.add_ids(IdPool::Sites, from..from + of_sites);
        }
        if self.connections && !self.connections_first {
            let of_connections = u64::from(PORTIONS - SITE_PORTIONS);
            let count = REMAINING_CONNECTIONS.div_ceil(of_connections);
            self.allocate_connections(source, ledger, count)?;
        }
        Ok(())
    }

    /// Adds `count` connection numbers to the pool. After four billion they start over, without those still in use.
    pub(super) fn allocate_connections(
        &mut self,
        source: &mut RecordSource,
        ledger: &Ledger,
        count: u64,
    ) -> io::Result<()> {
        let next_connection = &mut self.next_connection;
        let numbers = (0..count).filter_map(|_| {
            let number = *next_connection;
            *next_connection = number.wrapping_add(1);
            // 0 stands for no connection.
            (number != 0 && !ledger.connections().is_in_use(number)).then_some(number)
        });
        source.add_ids(IdPool::Connections, numbers)
    }
}
