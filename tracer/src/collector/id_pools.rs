//! Id pools for the BPF programs: thread states, and numbers for call sites and connections.

use std::io;

use tracer_common::limits;

use super::Collector;
use crate::kernel::IdPool;

/// Call-site numbers available at the start.
const FIRST_SITES: u32 = 1 << 14;
/// Thread states available at the start.
const FIRST_THREAD_STATES: u32 = 1 << 10;
/// Connection numbers available at the start.
const FIRST_CONNECTIONS: u32 = 1 << 13;

impl Collector {
    /// Fills the pools for the start.
    pub(super) fn allocate_initial_ids(&mut self) -> io::Result<()> {
        // Number 0 is the unknown call site.
        self.source.give(IdPool::Sites, 1..FIRST_SITES)?;
        self.source
            .give(IdPool::ThreadStates, 0..FIRST_THREAD_STATES.min(self.source.thread_states()))?;
        if self.fds.is_some() {
            self.allocate_connections(FIRST_CONNECTIONS.into())?;
        }
        Ok(())
    }

    /// Adds the remaining thread states, connection numbers and call-site numbers: a server's first second can need
    /// tens of thousands, but adding as many takes a tenth of a second, which would delay the start.
    pub(super) fn allocate_remaining_ids(&mut self) -> io::Result<()> {
        self.source.give(IdPool::ThreadStates, FIRST_THREAD_STATES..self.source.thread_states())?;
        if self.fds.is_some() {
            self.allocate_connections((limits::FREE_CONNECTIONS - FIRST_CONNECTIONS).into())?;
        }
        let mut from = FIRST_SITES;
        while from < limits::SITES {
            let to = limits::SITES.min(from + FIRST_SITES);
            self.source.give(IdPool::Sites, from..to)?;
            self.cycle()?;
            from = to;
        }
        Ok(())
    }

    /// Adds `count` connection numbers to the pool. After four billion they start over, without those still in use.
    pub(super) fn allocate_connections(&mut self, count: u64) -> io::Result<()> {
        let Self { source, ledger, next_connection, .. } = self;
        let numbers = (0..count).filter_map(|_| {
            let number = *next_connection;
            *next_connection = number.wrapping_add(1);
            // 0 stands for no connection.
            (number != 0 && !ledger.connection_in_use(number)).then_some(number)
        });
        source.give(IdPool::Connections, numbers)
    }
}
