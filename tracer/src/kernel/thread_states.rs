//! The rooms of threads, as the collector sees them: whole, and to be emptied.

use std::io;

use aya::maps::MapError;
use tracer_common::state::Thread;

use super::tables::{Plain, Tables};

impl Tables {
    /// Forgets which calls threads are in. Nothing may be recorded meanwhile.
    pub fn forget_threads(&mut self) -> io::Result<()> {
        let rooms: Result<Vec<(u64, u32)>, MapError> = self.threads.iter().collect();
        for (thread, room) in rooms.map_err(io::Error::other)? {
            // One that has ended meanwhile has left its room itself.
            if self.threads.remove(&thread).is_ok() {
                self.rooms
                    .set(room, Plain([0; size_of::<Thread>()]), 0)
                    .and_then(|()| self.free_rooms.push(room, 0))
                    .map_err(io::Error::other)?;
            }
        }
        Ok(())
    }
}
