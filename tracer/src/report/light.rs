//! What grows, as the kernel counts it: the part of a report that only `--light` fills.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FdType, Word};

/// What the targets use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Light {
    /// The targets, in the order they were named.
    pub processes: Vec<Growing>,
}

/// What one target uses; after its end, what it used last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growing {
    /// The process.
    pub pid: u32,
    /// Resident memory, bytes.
    pub rss: Option<Level>,
    /// The part of it that no file holds.
    pub anonymous: Option<Level>,
    /// The part that files hold.
    pub file: Option<Level>,
    /// The part that is shared memory.
    pub shared: Option<Level>,
    /// What is swapped out.
    pub swapped: Option<Level>,
    /// Private writable memory that was asked for, resident or not.
    pub data: Option<Level>,
    /// The heap whose end `brk` moves.
    pub brk: Option<Level>,
    /// Open file descriptors.
    pub fds: Option<Level>,
    /// The same by what they are, by the kernel's own names: `socket`, `file`, `eventpoll` …
    pub fds_by_type: BTreeMap<Word<FdType>, Level>,
}

/// An amount that rises and falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// When it was last seen.
    pub now: u64,
    /// By how much it is above what it was at the start; negative when it is below.
    pub change: i64,
    /// Change per second over the recent past; `null` when too young to tell.
    pub growth_per_s: Option<f64>,
}

impl Light {
    /// Change of the open descriptors of one type per second, all targets together; unknown when one's is.
    pub fn fds_growth_per_s(&self, fd_type: &Word<FdType>) -> Option<f64> {
        let mut levels = self.processes.iter().filter_map(|one| one.fds_by_type.get(fd_type));
        levels.try_fold(0.0, |sum, level| Some(sum + level.growth_per_s?))
    }
}

impl Growing {
    /// The amounts of memory and their names, those that are known.
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
