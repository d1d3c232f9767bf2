//! What the programs know of objects of libraries.

use std::{io, os::fd::AsFd as _};

use tracer_common::{object::Object, state::Key};

use super::{batch, tables::Tables};

impl Tables {
    /// What is known of each object that is there, appended to `seen`.
    pub fn objects(&mut self, seen: &mut Vec<(Key, Object)>) -> io::Result<()> {
        let _guard = self.undisturbed();
        batch::read_all(self.objects.fd().as_fd(), &mut self.object_room, seen)
    }

    /// Forgets the object that was made at this time (`CLOCK_MONOTONIC`, nanoseconds); whether it was still there, and
    /// no other one in its place.
    pub fn forget_object(&self, key: &Key, time_ns: u64) -> bool {
        let map = self.objects.fd().as_fd();
        // What cannot be removed is no other one for that.
        batch::remove_if(map, key, |one: &Object| one.time_ns == time_ns).unwrap_or_else(|error| {
            log::warn!("could not forget an object: {error}");
            true
        })
    }
}
