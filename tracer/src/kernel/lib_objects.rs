//! What the programs know of objects of libraries.

use std::{io, os::fd::AsFd as _};

use tracer_common::{
    object::{Object, ObjectId},
    state::Key,
};

use super::{batch, tables::Tables};

impl Tables {
    /// What is known of each object that is there, appended to `seen`.
    pub fn objects(&mut self, seen: &mut Vec<(Key, Object)>) -> io::Result<()> {
        let _guard = self.priority_guard();
        batch::read_all(self.objects.fd().as_fd(), &mut self.object_room, seen)
    }

    /// The objects whose release was asked for, and since when (`CLOCK_MONOTONIC`, nanoseconds).
    pub fn asks(&mut self) -> io::Result<Vec<(ObjectId, u64)>> {
        let _guard = self.priority_guard();
        let mut asks = Vec::new();
        batch::read_all(self.asks.fd().as_fd(), &mut self.ask_room, &mut asks)?;
        Ok(asks)
    }

    /// Forgets that the release of an object was asked for, which is no more.
    pub fn forget_ask(&self, id: &ObjectId) {
        let map = self.asks.fd().as_fd();
        if let Err(error) = batch::remove_if(map, id, |_: &u64| true) {
            log::warn!("could not forget the request to release an object: {error}");
        }
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
