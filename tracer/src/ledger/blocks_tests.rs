//! The tables of blocks, compared with plain hash maps, and their memory use.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn heap(pid: u32, value: u64) -> Handle {
    Handle { pid: Pid(pid), kind: Kind::Heap, value }
}

fn block(position: u64) -> Block {
    Block { size: 16, time_ns: 0, position, site: 1, connection: 0 }
}

/// Handles with an allocator's spacing.
fn handles(count: u64) -> impl Iterator<Item = Handle> {
    (0..count).map(|number| heap(1, 0x7f00_0000_0000 + number * 32))
}

/// Bytes per block.
#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn bytes_each(blocks: &Blocks, count: u64) -> f64 {
    blocks.bytes() as f64 / count as f64
}

#[test]
fn a_block_takes_less_than_64_bytes_at_every_size_of_the_table() {
    let mut blocks = Blocks::default();
    let count = 600_000;
    for (number, handle) in (1..).zip(handles(count)) {
        assert_eq!(blocks.place(&handle, block(0)), None);
        if number % 1000 == 0 && number >= 50_000 {
            let each = bytes_each(&blocks, number);
            assert!(each < 54.0, "{each} bytes each at {number}");
        }
    }
    for (number, handle) in (1..).zip(handles(count)) {
        assert_eq!(blocks.take(&handle, 0), Some(block(0)));
        let left = count - number;
        if left % 1000 == 0 && left >= 50_000 {
            let each = bytes_each(&blocks, left);
            assert!(each < 64.0, "{each} bytes each at {left} that are left");
        }
    }
    assert!(blocks.bytes() < 256 << 10, "{} bytes for nothing", blocks.bytes());
}

#[test]
fn short_lived_blocks_do_not_make_a_table_grow() {
    let mut blocks = Blocks::default();
    let live = 100_000;
    for (number, handle) in (0..).zip(handles(live * 10)) {
        blocks.place(&handle, block(0));
        if number >= live {
            let oldest = heap(1, handle.value - live * 32);
            assert_eq!(blocks.take(&oldest, 0), Some(block(0)));
        }
        if number > live && number % 1000 == 0 {
            let each = bytes_each(&blocks, live);
            assert!(each < 64.0, "{each} bytes each at {number}");
        }
    }
}

#[test]
fn no_two_shards_grow_at_once() {
    let mut count = [0_u32; SHARDS as usize];
    for handle in handles(1 << 20) {
        count[shard_of(hash(handle.value))] += 1;
    }
    let (first, last) = (count[0], count[SHARDS as usize - 1]);
    assert!((f64::from(last) / f64::from(first) - 2.0).abs() < 0.15, "{first} to {last}");
    for pair in count.windows(2) {
        assert!(f64::from(pair[1]) > 0.95 * f64::from(pair[0]), "{count:?}");
    }
}

#[test]
fn times_before_the_first_one_seen_are_kept() {
    let mut blocks = Blocks::default();
    let hour = 3_600_000_000_000;
    for time_ns in [2 * hour, 2 * hour - 1_000_000_000, hour, 0] {
        let one = Block { time_ns, ..block(0) };
        assert_eq!(blocks.place(&heap(1, time_ns + 8), one), None);
        let back = blocks.take(&heap(1, time_ns + 8), 0).unwrap();
        assert!((0..1 << TICK_BITS).contains(&(time_ns - back.time_ns)), "{time_ns}: {back:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Place { handle: Handle, block: Block },
    Take { handle: Handle, position: u64 },
    RetainAll { rest: u64 },
    RetainOf { pid: Pid, until: u64 },
    Detach { pid: Pid },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wide = |few: std::ops::Range<u64>, bits: u32| prop_oneof![6 => few, 1 => (1_u64 << bits) - 1..(1 << bits) + 2, 1 => Just(u64::MAX)];
    let handle = (1_u32..4, wide(0..40, 48)).prop_map(|(pid, value)| heap(pid, value));
    let site = prop_oneof![6 => 0_u32..5, 1 => (1_u32 << 24) - 1..(1 << 24) + 2];
    let tick = 1_u64 << TICK_BITS;
    let times = prop_oneof![6 => (0_u64..50).prop_map(move |at| at * tick), 1 => Just(tick << 36), 1 => Just(tick << 40)];
    let block = (wide(0..9, 36), times, wide(0..20, 48), site).prop_map(
        |(size, time_ns, position, site)| Block { size, time_ns, position, site, connection: 0 },
    );
    let step = prop_oneof![
        20 => (handle.clone(), block).prop_map(|(handle, block)| Step::Place { handle, block }),
        12 => (handle, wide(0..20, 48)).prop_map(|(handle, position)| Step::Take { handle, position }),
        1 => (0_u64..5).prop_map(|rest| Step::RetainAll { rest }),
        1 => (1_u32..4, 0_u64..20).prop_map(|(pid, until)| Step::RetainOf { pid: Pid(pid), until }),
        1 => (1_u32..4).prop_map(|pid| Step::Detach { pid: Pid(pid) }),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    /// Packed or not: every answer equals a plain hash map's, and so do the remaining blocks.
    #[test]
    fn agrees_with_a_plain_table(steps in steps()) {
        let mut model: HashMap<Handle, Block> = HashMap::new();
        let mut blocks = Blocks::default();
        for step in steps {
            match step {
                Step::Place { handle, block } => {
                    let earlier = match model.get(&handle) {
                        Some(present) if present.position > block.position => Some(block),
                        _ => model.insert(handle, block),
                    };
                    prop_assert_eq!(blocks.place(&handle, block), earlier);
                }
                Step::Take { handle, position } => {
                    let there = model.get(&handle).is_some_and(|block| block.position <= position);
                    let taken = if there { model.remove(&handle) } else { None };
                    prop_assert_eq!(blocks.take(&handle, position), taken);
                }
                Step::RetainAll { rest } => {
                    let keep = |handle: &Handle, block: &Block| (handle.value ^ block.position) % 5 != rest;
                    model.retain(|handle, block| keep(handle, block));
                    blocks.retain(keep);
                }
                Step::RetainOf { pid, until } => {
                    model.retain(|handle, block| handle.pid != pid || block.position > until);
                    blocks.retain_of(pid, Kind::ALL.into_iter(), |_, block| block.position > until);
                }
                Step::Detach { pid } => {
                    if let Some(table) = blocks.detach(pid, Kind::Heap) {
                        let own = model.iter().filter(|(handle, _)| handle.pid == pid);
                        let own: HashMap<u64, Block> = own.map(|(handle, block)| (handle.value, *block)).collect();
                        prop_assert_eq!(table.iter().collect::<HashMap<_, _>>(), own);
                        blocks.reattach(pid, Kind::Heap, table);
                    }
                }
            }
        }
        let key = |block: &Block| (block.site, block.position, block.size, block.time_ns);
        let mut left: Vec<Block> = blocks.iter().collect();
        let mut expected: Vec<Block> = model.values().copied().collect();
        left.sort_unstable_by_key(key);
        expected.sort_unstable_by_key(key);
        prop_assert_eq!(left, expected);
    }
}
