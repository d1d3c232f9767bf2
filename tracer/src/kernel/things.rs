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

    /// Forgets an object.
    pub fn forget_object(&self, key: &Key) {
        // It may be gone already.
        drop(batch::remove(self.objects.fd().as_fd(), key));
    }
}
