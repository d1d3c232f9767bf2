//! What a cycle receives from the kernel, and in which order.
//!
//! Takes the kernel's tables, hands on drained resources and records. Reads no clock but for the pace of drains.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::kernel::{Drained, Tables};

/// Longest walk over the ledger without a drain.
const MAX_WALK: Duration = Duration::from_millis(50);

/// Keeps draining during long work. What is drained reaches the ledger with the next cycle.
pub(super) struct Drains {
    last: Instant,
    failed: Option<io::Error>,
}

impl Drains {
    /// The work begins now.
    pub(super) fn new() -> Self {
        Self { last: Instant::now(), failed: None }
    }

    /// Drains into `drained`, if the last drain was a while ago.
    pub(super) fn keep_up(&mut self, tables: &mut Tables, drained: &mut Vec<Drained>) {
        if self.last.elapsed() >= MAX_WALK && self.failed.is_none() {
            self.failed = tables.drain(drained).err();
            self.last = Instant::now();
        }
    }

    /// Whether every drain succeeded.
    pub(super) fn result(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}
