//! The thread states that the programs keep: their number, and clearing them.

use std::io;

use aya::maps::MapError;
use tracer_common::state::Thread;

use super::tables::{Plain, Tables};

impl Tables {
    /// Capacity for threads.
    pub fn rooms(&self) -> u32 {
        self.thread_states.len()
    }

    /// Forgets which calls threads are in. Recording must be off.
    pub fn forget_threads(&mut self) -> io::Result<()> {
        let indexes: Result<Vec<(u64, u32)>, MapError> = self.threads.iter().collect();
        for (thread, index) in indexes.map_err(io::Error::other)? {
            // A thread that exited in the meantime has already freed its state.
            if self.threads.remove(&thread).is_ok() {
                self.thread_states
                    .set(index, Plain([0; size_of::<Thread>()]), 0)
                    .and_then(|()| self.free_thread_states.push(index, 0))
                    .map_err(io::Error::other)?;
            }
        }
        Ok(())
    }
}
