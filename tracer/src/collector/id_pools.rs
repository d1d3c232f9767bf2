//! Id pools for the BPF programs: thread states, and numbers for call sites and connections.

use std::{io, ops::Range};

use tracer_common::limits;

use crate::{kernel::IdPool, ledger::Ledger, source::RecordSource};

/// Call-site numbers available at the start.
const FIRST_SITES: u32 = 1 << 14;
/// Thread states available at the start.
const FIRST_THREAD_STATES: u32 = 1 << 10;
/// Connection numbers available at the start.
const FIRST_CONNECTIONS: u32 = 1 << 13;

/// What has been given to the pools.
pub(super) struct IdPools {
    /// Whether connections need numbers.
    connections: bool,
    /// The next connection number to allocate.
    next_connection: u32,
}

impl IdPools {
    /// Nothing has been given yet; `connections` says whether connections need numbers.
    pub(super) const fn new(connections: bool) -> Self {
        Self { connections, next_connection: 1 }
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

    /// Adds the remaining thread states.
    pub(super) fn allocate_threads(source: &mut RecordSource) -> io::Result<()> {
        source.add_ids(IdPool::ThreadStates, FIRST_THREAD_STATES..source.thread_states())
    }

    /// The remaining call-site numbers, in portions: adding them all at once takes a tenth of a second, which would delay
    /// the next drain.
    pub(super) fn remaining_sites() -> impl Iterator<Item = Range<u32>> {
        let starts = (FIRST_SITES..limits::SITES).step_by(FIRST_SITES as usize);
        starts.map(|from| from..limits::SITES.min(from + FIRST_SITES))
    }

    /// Adds a portion of call-site numbers, and as large a part of the remaining connection numbers: a server's first
    /// second can need tens of thousands of either.
    pub(super) fn allocate_portion(
        &mut self,
        sites: Range<u32>,
        source: &mut RecordSource,
        ledger: &Ledger,
    ) -> io::Result<()> {
        let up_to = |site: u32| {
            let part = u64::from(site - FIRST_SITES);
            let whole = u64::from(limits::SITES - FIRST_SITES);
            u64::from(limits::FREE_CONNECTIONS - FIRST_CONNECTIONS) * part / whole
        };
        let connections = up_to(sites.end) - up_to(sites.start);
        source.add_ids(IdPool::Sites, sites)?;
        if self.connections {
            self.allocate_connections(source, ledger, connections)?;
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
