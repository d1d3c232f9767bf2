//! What the programs are handed out by number: rooms for threads, numbers for call sites and connections.

use std::io;

use tracer_common::limits;

use super::collector::Collector;
use crate::kernel::IdPool;

/// Numbers of call sites that the programs begin with.
const FIRST_SITES: u32 = 1 << 14;
/// Threads whose calls can be followed from the beginning.
const FIRST_ROOMS: u32 = 1 << 10;
/// Numbers for connections that the programs begin with.
const FIRST_CONNECTIONS: u32 = 1 << 13;

impl Collector {
    /// Hands the programs what they begin with.
    pub(super) fn give_first(&mut self) -> io::Result<()> {
        // Number 0 is the unknown one.
        self.tables.give(IdPool::Sites, 1..FIRST_SITES)?;
        self.tables.give(IdPool::Rooms, 0..FIRST_ROOMS.min(self.tables.rooms()))?;
        if self.found.is_some() {
            self.give_connections(FIRST_CONNECTIONS.into())?;
        }
        Ok(())
    }

    /// Hands the programs the rest of rooms, and of the numbers for call sites: a server's first second can bring tens
    /// of thousands, but handing out as many takes a tenth of one, and nobody should wait for it.
    pub(super) fn give_the_rest(&mut self) -> io::Result<()> {
        self.tables.give(IdPool::Rooms, FIRST_ROOMS..self.tables.rooms())?;
        if self.found.is_some() {
            self.give_connections((limits::FREE_CONNECTIONS - FIRST_CONNECTIONS).into())?;
        }
        let mut from = FIRST_SITES;
        while from < limits::SITES {
            let to = limits::SITES.min(from + FIRST_SITES);
            self.tables.give(IdPool::Sites, from..to)?;
            self.cycle()?;
            from = to;
        }
        Ok(())
    }

    /// Hands the programs `count` more numbers for connections. Four thousand million later they begin anew, without those
    /// still in use.
    pub(super) fn give_connections(&mut self, count: u64) -> io::Result<()> {
        let Self { tables, ledger, next_connection, .. } = self;
        let numbers = (0..count).filter_map(|_| {
            let number = *next_connection;
            *next_connection = number.wrapping_add(1);
            // 0 is nobody's.
            (number != 0 && !ledger.connection_in_use(number)).then_some(number)
        });
        tables.give(IdPool::Connections, numbers)
    }
}
