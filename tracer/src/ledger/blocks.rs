//! Outstanding resources that are released by handle: ten million of them in well under 64 bytes each.
//!
//! One table for each process and kind. A block that does not fit a [`Packed`] is kept beside it, unpacked. Pure.
//!
//! A table is divided into shards that grow independently, so that growth neither doubles the memory held nor
//! takes long at once. Handles fall into the last shard twice as often as into the first: no two shards of a
//! growing table are full at the same moment, and memory use follows the number of blocks closely.

use std::{collections::HashMap, hash::BuildHasher as _};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use tracer_common::kind::Kind;

use super::{
    events::{Block, Handle},
    packed::{Packed, TICK_BITS},
};
use crate::target::Pid;

/// Shards of a table. At ten million blocks, the growth of one takes some milliseconds.
const SHARDS: u32 = 64;
/// A shard of this many slots or fewer is not shrunk.
const SMALL: usize = 64;
/// How much earlier than the first block another one may be: they do not arrive in order.
const EARLIER_NS: u64 = 60 * 1_000_000_000;

/// All tables.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    tables: HashMap<(Pid, Kind), Table, FixedState>,
    /// Base of the stored times.
    origin_ns: Option<u64>,
}

/// Blocks of one process and kind.
#[derive(Debug)]
pub(super) struct Table {
    origin_ns: u64,
    shards: Vec<HashTable<Packed>>,
    /// Blocks that are too wide for the packed encoding.
    wide: HashMap<u64, Block, FixedState>,
}

impl Blocks {
    /// Adds a block. If the table has one of that handle, it keeps the later of the two and returns the earlier one.
    pub(super) fn place(&mut self, handle: &Handle, block: Block) -> Option<Block> {
        let origin_ns = *self.origin_ns.get_or_insert_with(|| {
            block.time_ns.saturating_sub(EARLIER_NS) >> TICK_BITS << TICK_BITS
        });
        self.tables
            .entry((handle.pid, handle.kind))
            .or_insert_with(|| Table::new(origin_ns))
            .place(handle.value, block)
    }

    /// The block with that handle.
    pub(super) fn get(&self, handle: &Handle) -> Option<Block> {
        self.tables.get(&(handle.pid, handle.kind))?.get(handle.value)
    }

    /// Every block of one kind with its handle, in no order.
    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (Handle, Block)> {
        let of_kind = self.tables.iter().filter(move |((_, of), _)| *of == kind);
        of_kind.flat_map(move |((pid, _), table)| {
            let pid = *pid;
            table.iter().map(move |(value, block)| (Handle { pid, kind, value }, block))
        })
    }

    /// Removes and returns the block with that handle if it was acquired at or before `position`.
    pub(super) fn take(&mut self, handle: &Handle, position: u64) -> Option<Block> {
        self.tables.get_mut(&(handle.pid, handle.kind))?.take(handle.value, position)
    }

    /// Removes the blocks for which `keep` returns `false`.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Handle, &Block) -> bool) {
        for ((pid, kind), table) in &mut self.tables {
            let (pid, kind) = (*pid, *kind);
            table.retain(|value, block| keep(&Handle { pid, kind, value }, block));
        }
    }

    /// The same for one process and these kinds; a table that becomes empty is removed.
    pub(super) fn retain_of(
        &mut self,
        pid: Pid,
        kinds: impl Iterator<Item = Kind>,
        mut keep: impl FnMut(u64, &Block) -> bool,
    ) {
        for kind in kinds {
            if let Some(table) = self.tables.get_mut(&(pid, kind)) {
                table.retain(&mut keep);
                if table.is_empty() {
                    self.tables.remove(&(pid, kind));
                }
            }
        }
    }

    /// Removes a whole table, so that it can be read while others are written.
    pub(super) fn detach(&mut self, pid: Pid, kind: Kind) -> Option<Table> {
        self.tables.remove(&(pid, kind))
    }

    /// Puts it back.
    pub(super) fn reattach(&mut self, pid: Pid, kind: Kind, table: Table) {
        self.tables.insert((pid, kind), table);
    }

    /// Every block, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Block> {
        self.tables.values().flat_map(|table| table.iter().map(|(_, block)| block))
    }

    /// Bytes of memory held; for tests.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.tables.values().map(Table::bytes).sum()
    }
}

impl Table {
    fn new(origin_ns: u64) -> Self {
        let shards = (0..SHARDS).map(|_| HashTable::new()).collect();
        Self { origin_ns, shards, wide: HashMap::default() }
    }

    /// Blocks with their handles, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Block)> {
        let packed = self.shards.iter().flatten();
        packed
            .map(|packed| (packed.handle(), packed.block(self.origin_ns)))
            .chain(self.wide.iter().map(|(value, block)| (*value, *block)))
    }

    fn place(&mut self, value: u64, block: Block) -> Option<Block> {
        if self.get(value).is_some_and(|present| present.position > block.position) {
            return Some(block);
        }
        let earlier = self.take(value, u64::MAX);
        if let Some(packed) = Packed::new(value, &block, self.origin_ns) {
            let hash = hash(value);
            let shard = self.shard(hash);
            if shard.capacity() == shard.len() {
                // A quarter more must fit. If tombstones fill the shard, that is the same size again.
                resize(shard, (shard.len() + shard.len() / 4).max(3));
            }
            shard.insert_unique(hash, packed, rehash);
        } else {
            self.wide.insert(value, block);
        }
        earlier
    }

    fn get(&self, value: u64) -> Option<Block> {
        let hash = hash(value);
        let shard = self.shards.get(shard_of(hash))?;
        shard.find(hash, |packed| packed.handle() == value).map_or_else(
            || if self.wide.is_empty() { None } else { self.wide.get(&value).copied() },
            |packed| Some(packed.block(self.origin_ns)),
        )
    }

    fn take(&mut self, value: u64, position: u64) -> Option<Block> {
        let hash = hash(value);
        let origin_ns = self.origin_ns;
        let shard = self.shard(hash);
        if let Ok(entry) = shard.find_entry(hash, |packed| packed.handle() == value) {
            let block = entry.get().block(origin_ns);
            if block.position > position {
                return None;
            }
            entry.remove();
            shrink(shard);
            return Some(block);
        }
        if self.wide.get(&value)?.position > position { None } else { self.wide.remove(&value) }
    }

    fn retain(&mut self, mut keep: impl FnMut(u64, &Block) -> bool) {
        for shard in &mut self.shards {
            shard.retain(|packed| keep(packed.handle(), &packed.block(self.origin_ns)));
            shrink(shard);
        }
        self.wide.retain(|value, block| keep(*value, block));
    }

    fn is_empty(&self) -> bool {
        self.wide.is_empty() && self.shards.iter().all(HashTable::is_empty)
    }

    fn shard(&mut self, hash: u64) -> &mut HashTable<Packed> {
        #[expect(clippy::indexing_slicing, reason = "`shard_of` is below the number of shards")]
        &mut self.shards[shard_of(hash)]
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        let wide = self.wide.capacity() * size_of::<(u64, Block)>();
        wide + self.shards.iter().map(HashTable::allocation_size).sum::<usize>()
    }
}

fn hash(value: u64) -> u64 {
    FixedState::default().hash_one(value)
}

fn rehash(packed: &Packed) -> u64 {
    hash(packed.handle())
}

/// Uses bits of the hash that the shard itself does not. For a number drawn uniformly from `[0, 1)`,
/// `sqrt(1 + 3 * number) - 1` is near 1 twice as often as near 0.
const fn shard_of(hash: u64) -> usize {
    const SQUARE: u32 = SHARDS * SHARDS;
    let drawn = (hash << 16 >> 48) as u32;
    ((SQUARE + ((3 * SQUARE * drawn) >> 16)).isqrt() - SHARDS) as usize
}

/// Frees memory when most slots are empty. A shrunk shard is at least half full: it must gain or lose a
/// quarter of its blocks before its size changes again.
fn shrink(shard: &mut HashTable<Packed>) {
    let slots = shard.num_buckets();
    if slots > SMALL && shard.len() * 20 < slots * 7 {
        resize(shard, shard.len() + shard.len() / 4);
    }
}

/// Moves a shard to a table with capacity for `blocks`. The library's own growth would double a table that is
/// half full of tombstones.
fn resize(shard: &mut HashTable<Packed>, blocks: usize) {
    let mut other = HashTable::with_capacity(blocks);
    for packed in shard.iter() {
        other.insert_unique(rehash(packed), *packed, rehash);
    }
    *shard = other;
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
