//! The memory of the targets as a whole, and how far they are from their limits.

use serde::{Deserialize, Serialize};

use crate::format;

/// Growth without an explanation is worth a sentence from here on, bytes: page tables, stacks and code that runs for the
/// first time grow by less.
const LEAST_BYTES: f64 = 1_048_576.0;
/// As above, as a share of the growth: allocators ask for more than they hand out.
const LEAST_SHARE: f64 = 0.25;

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
    /// How the parts of resident memory grow.
    #[serde(default)]
    pub growth: MemoryGrowth,
}

/// How the parts of resident memory grow; `null` for a part that does not surely grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryGrowth {
    /// Anonymous memory.
    pub anonymous: Option<PartGrowth>,
    /// Memory of files.
    pub file: Option<PartGrowth>,
    /// Shared memory.
    pub shared: Option<PartGrowth>,
}

/// How a part of resident memory grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartGrowth {
    /// Bytes per second.
    pub bytes_per_s: f64,
    /// The part of it that neither a traced call asked for, nor stacks or free memory that the allocator keeps explain;
    /// `null` unless all memory is traced all the time.
    pub unexplained_bytes_per_s: Option<f64>,
    /// The time that the growth was seen over, seconds.
    pub over_s: f64,
}

impl PartGrowth {
    /// The unexplained rate, if it is worth a sentence.
    fn unexplained(&self) -> Option<f64> {
        let rate = self.unexplained_bytes_per_s?;
        let is_much = rate * self.over_s >= LEAST_BYTES && rate >= LEAST_SHARE * self.bytes_per_s;
        is_much.then_some(rate)
    }
}

impl ProcessMemory {
    /// Growth that no traced call explains: a sentence for each part of memory that has some. A call site for it is in no
    /// list.
    pub fn unexplained(&self) -> impl Iterator<Item = String> {
        let kept =
            self.heap_kept_bytes.is_none().then_some(", free memory that the allocator keeps");
        let anonymous = format!(
            "system calls made directly (mmap), an allocator of its own (--alloc, --free, --allocator-prefix){}, or \
             memory from before the attach that is touched now",
            kept.unwrap_or_default()
        );
        let file = "code that runs for the first time, or files that were mapped by system calls made directly or \
                    before the attach";
        let shared = "segments attached with shmat, or memory that was mapped by system calls made directly or \
                      before the attach";
        let MemoryGrowth { anonymous: private, file: files, shared: common } = self.growth;
        let parts = [
            (private, "anonymous memory", anonymous),
            (files, "resident memory of files", file.to_owned()),
            (common, "shared memory", shared.to_owned()),
        ];
        parts.into_iter().filter_map(|(growth, part, origin)| {
            let growth = growth?;
            let rest = growth.unexplained()?;
            let rate = |per_s: f64| format!("{}/s", format::bytes(format::magnitude(per_s)));
            Some(format!(
                "{part} grows by {}, of which no traced call asked for {}: {origin}",
                rate(growth.bytes_per_s),
                rate(rest)
            ))
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn grows(bytes_per_s: f64, unexplained: Option<f64>, over_s: f64) -> PartGrowth {
        PartGrowth { bytes_per_s, unexplained_bytes_per_s: unexplained, over_s }
    }

    #[test]
    fn growth_that_no_call_asked_for_is_named_with_its_part_of_memory() {
        let growth = MemoryGrowth {
            anonymous: Some(grows(3_145_728.0, Some(1_048_576.0), 60.0)),
            file: Some(grows(1_048_576.0, Some(0.0), 60.0)),
            shared: Some(grows(2_097_152.0, Some(2_097_152.0), 60.0)),
        };
        let memory = ProcessMemory { growth, heap_kept_bytes: Some(0), ..ProcessMemory::default() };
        let sentences: Vec<String> = memory.unexplained().collect();
        assert_eq!(
            sentences,
            [
                "anonymous memory grows by 3.0 MiB/s, of which no traced call asked for 1.0 MiB/s: system calls made \
                 directly (mmap), an allocator of its own (--alloc, --free, --allocator-prefix), or memory from before \
                 the attach that is touched now",
                "shared memory grows by 2.0 MiB/s, of which no traced call asked for 2.0 MiB/s: segments attached with \
                 shmat, or memory that was mapped by system calls made directly or before the attach",
            ]
        );
        // The free memory of other allocators is not known.
        let other = ProcessMemory { heap_kept_bytes: None, ..memory };
        assert!(other.unexplained().next().unwrap().contains("that the allocator keeps, or"));
    }

    #[test]
    fn a_little_or_a_small_share_of_the_growth_is_no_news() {
        let sentences = |growth| {
            let growth = MemoryGrowth { anonymous: Some(growth), ..MemoryGrowth::default() };
            ProcessMemory { growth, ..ProcessMemory::default() }.unexplained().count()
        };
        assert_eq!(sentences(grows(100_000.0, Some(100_000.0), 10.0)), 0);
        assert_eq!(sentences(grows(100_000.0, Some(100_000.0), 11.0)), 1);
        assert_eq!(sentences(grows(1e7, Some(2.4e6), 60.0)), 0);
        assert_eq!(sentences(grows(1e7, None, 60.0)), 0);
    }
}
