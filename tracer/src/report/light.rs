//! Growth as the kernel counts it: the part of a report that only `--light` fills.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FdType, Word};

/// Resource use of the targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Light {
    /// The targets, in the order given.
    pub processes: Vec<Growing>,
}

/// Resource use of one target; after its end, the last known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growing {
    /// The process.
    pub pid: u32,
    /// Resident memory, bytes.
    pub rss: Option<Level>,
    /// The part of it that is not backed by files.
    pub anonymous: Option<Level>,
    /// The part that is backed by files.
    pub file: Option<Level>,
    /// The part that is shared memory.
    pub shared: Option<Level>,
    /// Swapped-out memory.
    pub swapped: Option<Level>,
    /// Private writable memory, resident or not.
    pub data: Option<Level>,
    /// The heap that `brk` extends.
    pub brk: Option<Level>,
    /// Open file descriptors.
    pub fds: Option<Level>,
    /// Open file descriptors by type, by the kernel's own names: `socket`, `file`, `eventpoll` …
    pub fds_by_type: BTreeMap<Word<FdType>, Level>,
}

/// An amount that rises and falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// The latest value.
    pub now: u64,
    /// Difference from the value at the start; negative when it is lower.
    pub change: i64,
    /// Change per second over the recent past; `null` with too little history.
    pub growth_per_s: Option<f64>,
}

impl Light {
    /// Change in open descriptors of one type per second, all targets together; unknown when any target's is.
    pub fn fds_growth_per_s(&self, fd_type: &Word<FdType>) -> Option<f64> {
        let mut levels = self.processes.iter().filter_map(|one| one.fds_by_type.get(fd_type));
        levels.try_fold(0.0, |sum, level| Some(sum + level.growth_per_s?))
    }
}

impl Growing {
    /// The known amounts of memory, with their names.
    pub fn memory(&self) -> impl Iterator<Item = (&'static str, Level)> {
        [
            ("rss", self.rss),
            ("anonymous", self.anonymous),
            ("file", self.file),
            ("shared", self.shared),
            ("swapped", self.swapped),
            ("data", self.data),
            ("brk", self.brk),
        ]
        .into_iter()
        .filter_map(|(name, level)| Some((name, level?)))
    }
}
