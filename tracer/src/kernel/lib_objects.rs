//! The maps of live library objects and of release requests for them.

use std::{io, os::fd::AsFd as _};

use aya::maps::MapData;
use tracer_common::{
    object::{Object, ObjectId},
    state::Key,
};

use super::{batch, priority_guard::PriorityGuards};

/// The maps.
pub struct LibObjects {
    objects: MapData,
    object_buffer: batch::Buffer<Key, Object>,
    release_requests: MapData,
    request_buffer: batch::Buffer<ObjectId, u64>,
    guards: PriorityGuards,
}

impl LibObjects {
    /// Takes the map of objects, and that of release requests.
    pub(super) fn new(objects: MapData, release_requests: MapData, guards: PriorityGuards) -> Self {
        Self {
            objects,
            object_buffer: batch::Buffer::new(),
            release_requests,
            request_buffer: batch::Buffer::new(),
            guards,
        }
    }

    /// Appends every live object to `seen`.
    pub fn objects(&mut self, seen: &mut Vec<(Key, Object)>) -> io::Result<()> {
        let _guard = self.guards.begin();
        batch::read_all(self.objects.fd().as_fd(), &mut self.object_buffer, seen)
    }

    /// The objects with a pending release request, and when it was made (`CLOCK_MONOTONIC`, nanoseconds).
    pub fn release_requests(&mut self) -> io::Result<Vec<(ObjectId, u64)>> {
        let _guard = self.guards.begin();
        let mut requests = Vec::new();
        let map = self.release_requests.fd().as_fd();
        batch::read_all(map, &mut self.request_buffer, &mut requests)?;
        Ok(requests)
    }

    /// Deletes the release request of an object that has ended.
    pub fn delete_release_request(&self, id: &ObjectId) {
        let map = self.release_requests.fd().as_fd();
        if let Err(error) = batch::remove_if(map, id, |_: &u64| true) {
            log::warn!("could not forget the request to release an object: {error}");
        }
    }

    /// Deletes the object at `key` if it was constructed at this time (`CLOCK_MONOTONIC`, nanoseconds). Returns whether
    /// it was still there and had not been replaced by another object.
    pub fn remove_object(&self, key: &Key, time_ns: u64) -> bool {
        let map = self.objects.fd().as_fd();
        // A failed deletion does not mean that another object took its place.
        batch::remove_if(map, key, |one: &Object| one.time_ns == time_ns).unwrap_or_else(|error| {
            log::warn!("could not forget an object: {error}");
            true
        })
    }
}
