//! The end of an object's details: its entry in `OBJECTS`, and the request to release it.

use tracer_common::{object::ObjectId, state::Key};

use crate::maps::{ASKS, OBJECTS};

/// Removes an ended object's details. Returns whether there were any. (Inlined: as a function of its own it would
/// exceed the verifier's limit on the combined stack of nested calls.)
#[inline(always)]
pub(crate) fn forget(key: &Key) -> bool {
    // SAFETY: reads only one word. If the kernel has reused the element for another object, this is the time of that
    // object, which matches no request under this key.
    let Some(time_ns) = (unsafe { OBJECTS.get(key) }).map(|object| object.time_ns) else {
        return false;
    };
    _ = ASKS.remove(ObjectId { key: *key, time_ns });
    OBJECTS.remove(key).is_ok()
}
