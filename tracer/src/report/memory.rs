//! The memory of the targets as a whole, and how far they are from their limits.

use serde::{Deserialize, Serialize};

/// The memory of all targets together, or what it was when they were last read. Pages that several targets share count for
/// each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessMemory {
    /// Resident memory, bytes.
    pub rss_bytes: Option<u64>,
    /// Resident anonymous memory, bytes: heap, stacks and private data.
    pub anon_bytes: Option<u64>,
    /// Resident memory of files, bytes: programs, libraries and mapped files.
    pub file_bytes: Option<u64>,
    /// Resident shared memory, bytes.
    pub shared_bytes: Option<u64>,
    /// Resident memory of the threads' stacks, bytes; `null` when one of them is not known.
    pub stacks_bytes: Option<u64>,
    /// What the allocator has given to the program, bytes; `null` while the heap is not read.
    pub heap_used_bytes: Option<u64>,
    /// What the allocator keeps although it is free, bytes; `null` while the heap is not read.
    pub heap_kept_bytes: Option<u64>,
    /// Outstanding memory, bytes.
    pub outstanding_bytes: u64,
    /// The share of the growth of anonymous memory that outstanding memory explains, 0 to 1; `null` while anonymous
    /// memory does not surely grow.
    pub explained_growth: Option<f64>,
}

/// A limit, and how close to it the targets are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// What is limited, with the one that limits it: `open files (RLIMIT_NOFILE)`.
    pub what: String,
    /// The process; `null` for a limit of several processes.
    #[serde(default)]
    pub pid: Option<u32>,
    /// How much is used: bytes for memory, else a number.
    pub used: u64,
    /// The limit, in the same unit.
    pub limit: u64,
    /// When it is reached at the present rate; `null` while use does not surely grow, or when that is more than 200 times as
    /// far ahead as the growth was seen for.
    pub time_to_limit_s: Option<TimeToLimit>,
}

impl Limit {
    /// Whether the figures are bytes.
    pub fn is_bytes(&self) -> bool {
        ["memory", "address space", "data"].iter().any(|what| self.what.starts_with(what))
    }

    /// The share that is used.
    pub fn share(&self) -> f64 {
        self.used as f64 / self.limit.max(1) as f64
    }
}

/// When a limit is reached, seconds, with a 95 percent interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeToLimit {
    /// At the earliest.
    pub low: f64,
    /// Most likely.
    pub mid: f64,
    /// At the latest.
    pub high: Option<f64>,
}
