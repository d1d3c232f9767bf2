//! A census: what is in the heap of a process at one moment, with or without tracing.
//!
//! Depends on nothing else. `docs/census.schema.json` describes its JSON form.

use serde::{Deserialize, Serialize};

use super::Address;

/// The name of this format.
pub const CENSUS_SCHEMA: &str = "leaktrace-census/1";

/// A census of one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CensusReport {
    /// Always [`CENSUS_SCHEMA`].
    pub schema: String,
    /// Version of leaktrace that wrote it.
    pub version: String,
    /// The process.
    pub target: CensusTarget,
    /// When the census was begun, RFC 3339.
    pub at: String,
    /// How long it took, seconds.
    pub took_s: f64,
    /// Bytes of the process's memory that were read.
    pub read_bytes: u64,
    /// Bytes of it that were swapped out, and had to be brought back.
    pub swapped_in_bytes: u64,
    /// What was not understood or does not agree, a sentence each.
    pub doubts: Vec<String>,
    /// The figures.
    pub census: Census,
    /// What has changed since the previous census of the same run; `null` in the first one.
    pub difference: Option<CensusDifference>,
}

/// The process of a census.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CensusTarget {
    /// Process id.
    pub pid: u32,
    /// Path of its executable; `null` when unknown.
    pub exe: Option<String>,
    /// Resident memory, bytes; `null` when it cannot be read.
    pub rss_bytes: Option<u64>,
}

/// What is in a heap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// The allocator, with the versions that have this layout where that is known.
    pub allocator: String,
    /// Allocated blocks.
    pub blocks: u64,
    /// Bytes that the program may use in them: what it requested, rounded up by the allocator.
    pub bytes: u64,
    /// Blocks by what they are, most bytes first.
    pub by_type: Vec<CensusType>,
    /// Blocks by size, most bytes first.
    pub by_size: Vec<CensusSize>,
    /// Bytes of allocated blocks in the heap, with what the allocator adds to each.
    pub used_bytes: u64,
    /// Bytes that are free, and that the allocator keeps.
    pub kept_bytes: u64,
    /// The allocator's arenas, the main one first.
    pub arenas: Vec<CensusArena>,
    /// Pages that one small block each keeps from being given back.
    pub pinned: CensusPinned,
}

/// Blocks of one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CensusType {
    /// The name of a C++ class, or a description in parentheses.
    #[serde(rename = "type")]
    pub name: String,
    /// Whether it is a class.
    pub is_class: bool,
    /// Number of blocks.
    pub count: u64,
    /// Usable bytes.
    pub bytes: u64,
    /// How many of the blocks were allocated before tracing began; `null` without tracing.
    pub before_attach: Option<u64>,
    /// The first bytes of one of the blocks, in hexadecimal; `null` unless requested.
    pub content: Option<String>,
}

/// Blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CensusSize {
    /// Usable bytes of one block.
    pub size: u64,
    /// Number of blocks.
    pub count: u64,
}

/// One arena: a part of the heap with a lock of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CensusArena {
    /// Its address; `null` for blocks that have mappings of their own.
    pub address: Option<Address>,
    /// Allocated blocks.
    pub blocks: u64,
    /// Bytes of allocated blocks.
    pub used_bytes: u64,
    /// Bytes of free blocks in the caches of threads.
    pub thread_cached_bytes: u64,
    /// Bytes of free blocks in the arena's lists.
    pub free_bytes: u64,
    /// Bytes at its end that have not been divided into blocks.
    pub top_bytes: u64,
    /// Bytes of the allocator's own records in it.
    pub own_bytes: u64,
}

/// Pages that one small block each keeps from being given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CensusPinned {
    /// Number of pages.
    pub pages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The pages by the usable size of the block, most pages first.
    pub by_size: Vec<PinnedBySize>,
}

/// Pages pinned by blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedBySize {
    /// Usable bytes of the block.
    pub size: u64,
    /// Number of pages.
    pub pages: u64,
}

/// What has changed between two censuses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CensusDifference {
    /// Time between the two, seconds.
    pub over_s: f64,
    /// More (or fewer) allocated blocks.
    pub blocks: i64,
    /// More (or fewer) usable bytes.
    pub bytes: i64,
    /// Change of the bytes in use.
    pub used_bytes: i64,
    /// Change of the bytes kept.
    pub kept_bytes: i64,
    /// Types that have changed, most growth in bytes first.
    pub by_type: Vec<TypeDifference>,
    /// Sizes that have changed, most growth in bytes first.
    pub by_size: Vec<SizeDifference>,
}

/// How one type has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeDifference {
    /// The type.
    #[serde(rename = "type")]
    pub name: String,
    /// Change of the number of blocks.
    pub count: i64,
    /// Change of the usable bytes.
    pub bytes: i64,
}

/// How one size has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeDifference {
    /// Usable bytes of one block.
    pub size: u64,
    /// Change of the number of blocks.
    pub count: i64,
}

impl Census {
    /// What has changed since an earlier census.
    pub fn since(&self, earlier: &Self, over_s: f64) -> CensusDifference {
        let change = |now: u64, before: u64| now.cast_signed().wrapping_sub(before.cast_signed());
        let mut by_type: Vec<TypeDifference> = Vec::new();
        for (one, sign) in self
            .by_type
            .iter()
            .map(|one| (one, 1))
            .chain(earlier.by_type.iter().map(|one| (one, -1)))
        {
            by_type.push(TypeDifference {
                name: one.name.clone(),
                count: one.count.cast_signed() * sign,
                bytes: one.bytes.cast_signed() * sign,
            });
        }
        by_type.sort_by(|one, other| one.name.cmp(&other.name));
        by_type.dedup_by(|next, kept| {
            let same = next.name == kept.name;
            if same {
                kept.count += next.count;
                kept.bytes += next.bytes;
            }
            same
        });
        by_type.retain(|one| (one.count, one.bytes) != (0, 0));
        by_type.sort_by_key(|one| std::cmp::Reverse(one.bytes));
        let now = self.by_size.iter().map(|one| (one.size, one.count.cast_signed()));
        let before = earlier.by_size.iter().map(|one| (one.size, -one.count.cast_signed()));
        let mut sizes = std::collections::BTreeMap::<u64, i64>::new();
        for (size, count) in now.chain(before) {
            *sizes.entry(size).or_default() += count;
        }
        let sizes = sizes.into_iter().filter(|(_, count)| *count != 0);
        let mut by_size: Vec<SizeDifference> =
            sizes.map(|(size, count)| SizeDifference { size, count }).collect();
        by_size
            .sort_by_key(|one| std::cmp::Reverse(one.count.saturating_mul(one.size.cast_signed())));
        CensusDifference {
            over_s,
            blocks: change(self.blocks, earlier.blocks),
            bytes: change(self.bytes, earlier.bytes),
            used_bytes: change(self.used_bytes, earlier.used_bytes),
            kept_bytes: change(self.kept_bytes, earlier.kept_bytes),
            by_type,
            by_size,
        }
    }
}
