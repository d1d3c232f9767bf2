//! Releases of what is not there: a descriptor that is not open, a block that has been released already.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Frame, Resource, Word, words::names};

names! {
    /// Why a release is invalid.
    pub enum WhyInvalid {
        /// No such descriptor is open: `close` fails with `EBADF`. Between two closes another thread may open a descriptor
        /// of that number, which the second one then closes.
        NotOpen = "not open",
        /// The block was released before, and not acquired since.
        AlreadyReleased = "already released",
    }
}

/// Invalid releases at one call site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InvalidRelease {
    /// What was to be released.
    pub kind: Resource,
    /// Why that is invalid.
    pub why: Word<WhyInvalid>,
    /// The function that was called: `close`, `free`.
    pub released_by: String,
    /// Number of calls.
    pub count: u64,
    /// Processes that have made them; 1 for one that is gone.
    pub processes: u32,
    /// Index of the frame that is probably to blame.
    pub headline: usize,
    /// The stack, innermost first; of a block only the caller.
    pub frames: Arc<[Frame]>,
}
