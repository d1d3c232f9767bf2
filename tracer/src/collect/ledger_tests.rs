//! The ledger by hand, and against a model of the kernel side that delivers in every allowed order.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const PID: Pid = Pid(1);

fn heap(value: u64) -> Handle {
    Handle { pid: PID, kind: Kind::Heap, value }
}

fn acquired(value: u64, position: u64, site: u32, size: u64) -> Event {
    Event::Acquired { handle: heap(value), block: Block { size, time_ns: 0, position, site } }
}

fn released(value: u64, position: u64, resizing: Option<u32>) -> Event {
    Event::Released { handle: heap(value), size: 0, position, caller: 0, resizing }
}

#[track_caller]
fn check(events: Vec<Event>, outstanding: &[(u32, u64)], unknown: u64) {
    let mut ledger = Ledger::default();
    events.into_iter().for_each(|event| ledger.apply(event));
    let mut left: Vec<_> = ledger.outstanding().map(|block| (block.site, block.size)).collect();
    left.sort_unstable();
    assert_eq!(left, outstanding);
    assert_eq!(ledger.unknown_releases(), unknown);
    for (_, _, tally) in ledger.sites() {
        let (acquired, released) = (tally.acquired(), tally.released());
        assert_eq!(acquired.count, released.count + tally.outstanding().count);
        assert_eq!(acquired.bytes, released.bytes + tally.outstanding().bytes);
    }
}

#[test]
fn a_release_ends_what_was_acquired() {
    check(vec![acquired(8, 0, 1, 100), released(8, 0, None)], &[], 0);
}

#[test]
fn a_release_of_an_unknown_address_is_counted_not_fatal() {
    check(vec![released(8, 0, None)], &[], 1);
}

#[test]
fn a_release_from_before_the_acquisition_leaves_it_alone() {
    check(vec![acquired(8, 64, 1, 100), released(8, 0, None)], &[(1, 100)], 1);
}

#[test]
fn an_address_in_use_again_proves_its_release_which_then_settles_nothing() {
    check(
        vec![acquired(8, 0, 1, 100), acquired(8, 64, 2, 50), released(8, 0, None)],
        &[(2, 50)],
        0,
    );
}

#[test]
fn late_news_of_an_earlier_life_does_not_displace_the_later_one() {
    check(
        vec![acquired(8, 64, 2, 50), acquired(8, 0, 1, 100), released(8, 0, None)],
        &[(2, 50)],
        0,
    );
}

#[test]
fn a_failed_resize_puts_the_block_back() {
    let restored = Event::Restored { handle: heap(8), thread: 5 };
    check(vec![acquired(8, 0, 1, 100), released(8, 0, Some(5)), restored], &[(1, 100)], 0);
}

#[test]
fn a_failed_resize_of_an_unknown_block_is_no_unknown_release() {
    check(vec![released(8, 0, Some(5)), Event::Restored { handle: heap(8), thread: 5 }], &[], 0);
}

#[test]
fn another_program_in_a_targets_place_has_nothing_of_the_first() {
    let mut ledger = Ledger::default();
    ledger.apply(acquired(8, 10, 1, 100));
    let mapped = Handle { pid: PID, kind: Kind::Mmap, value: 0x1000 };
    let block = Block { size: 0x1000, time_ns: 0, position: 0, site: 2 };
    ledger.apply(Event::Acquired { handle: mapped, block });
    let other = Handle { pid: Pid(2), ..heap(8) };
    ledger.apply(Event::Acquired { handle: other, block });
    ledger.forget(PID);
    assert_eq!(ledger.outstanding().collect::<Vec<_>>(), [block]);
    let (released, outstanding) =
        ledger.sites().fold((0, 0), |(released, outstanding), (_, _, tally)| {
            (released + tally.released().count, outstanding + tally.outstanding().count)
        });
    assert_eq!((released, outstanding), (2, 1));
}

#[test]
fn a_doubt_sets_aside_only_what_is_not_younger() {
    let mut ledger = Ledger::default();
    ledger.apply(acquired(8, 10, 1, 100));
    ledger.apply(acquired(16, 30, 1, 100));
    ledger.doubt(&[20]);
    assert_eq!((ledger.doubtful(), ledger.outstanding().count()), (1, 1));
}

#[test]
fn the_allocators_own_unmapping_is_no_unknown_release() {
    let mut ledger = Ledger::default();
    ledger.set_internal(PID, vec![(0x100, 0x200)]);
    let unmap = |caller| Event::Released {
        handle: Handle { pid: PID, kind: Kind::Mmap, value: 0x1000 },
        size: 0x1000,
        position: 0,
        caller,
        resizing: None,
    };
    ledger.apply(unmap(0x150));
    assert_eq!(ledger.unknown_releases(), 0);
    ledger.apply(unmap(0x300));
    assert_eq!(ledger.unknown_releases(), 1);
}

/// What the kernel side does, with the ring buffer's length as the position.
#[derive(Default)]
struct Kernel {
    young: HashMap<u64, Block>,
    ring: VecDeque<Event>,
    sent: u64,
    /// Batches that were taken out of `young` and have not reached the ledger.
    batch: Vec<Event>,
    held: HashMap<u64, (u32, u64)>,
    unknown: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Acquire { address: u64, size: u64, overflow: bool },
    Release { address: u64 },
    Resize { address: u64, to: u64, size: u64, fails: bool },
    Drain { part: u64 },
    Deliver,
    Read { most: usize },
}

impl Kernel {
    fn send(&mut self, event: Event) {
        self.ring.push_back(event);
        self.sent += 64;
    }

    fn acquire(&mut self, address: u64, site: u32, size: u64, overflow: bool) {
        let block = Block { size, time_ns: 0, position: self.sent, site };
        self.held.insert(address, (site, size));
        if overflow {
            self.send(Event::Acquired { handle: heap(address), block });
        } else {
            self.young.insert(address, block);
        }
    }

    fn release(&mut self, address: u64, resizing: Option<u32>) -> Option<Block> {
        self.held.remove(&address);
        let young = self.young.remove(&address);
        if young.is_none() {
            self.send(released(address, self.sent, resizing));
        }
        young
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let address = 1_u64..6;
    let step = prop_oneof![
        4 => (address.clone(), 1_u64..9, proptest::bool::weighted(0.2))
            .prop_map(|(address, size, overflow)| Step::Acquire { address, size, overflow }),
        4 => address.clone().prop_map(|address| Step::Release { address }),
        2 => (address.clone(), address, 1_u64..9, any::<bool>())
            .prop_map(|(address, to, size, fails)| Step::Resize { address, to, size, fails }),
        2 => (0_u64..4).prop_map(|part| Step::Drain { part }),
        2 => Just(Step::Deliver),
        2 => (1_usize..5).prop_map(|most| Step::Read { most }),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// However drains, deliveries and reads interleave with the target's calls, in the end the ledger
    /// holds what the target holds, and counts exactly the releases of what it never acquired.
    #[test]
    fn ends_equal_to_the_target(steps in steps()) {
        let mut kernel = Kernel::default();
        let mut ledger = Ledger::default();
        for (site, step) in (1_u32..).zip(steps) {
            match step {
                Step::Acquire { address, size, overflow } if !kernel.held.contains_key(&address) => {
                    kernel.acquire(address, site, size, overflow);
                }
                Step::Release { address } => {
                    if !kernel.held.contains_key(&address) {
                        kernel.unknown += 1;
                    }
                    kernel.release(address, None);
                }
                Step::Resize { address, to, size, fails } => {
                    let Some(old) = kernel.held.get(&address).copied() else { continue };
                    if kernel.held.contains_key(&to) && to != address {
                        continue;
                    }
                    let young = kernel.release(address, Some(7));
                    if fails {
                        kernel.held.insert(address, old);
                        match young {
                            Some(block) => _ = kernel.young.insert(address, block),
                            None => kernel.send(Event::Restored { handle: heap(address), thread: 7 }),
                        }
                    } else {
                        kernel.acquire(to, site, size, false);
                    }
                }
                // The collector never takes a batch before the last one has reached the ledger.
                Step::Drain { part } if kernel.batch.is_empty() => {
                    let taken: Vec<u64> =
                        kernel.young.keys().copied().filter(|address| address % 4 != part).collect();
                    for address in taken {
                        let block = kernel.young.remove(&address).unwrap();
                        kernel.batch.push(Event::Acquired { handle: heap(address), block });
                    }
                }
                Step::Acquire { .. } | Step::Drain { .. } => {}
                Step::Deliver => kernel.batch.drain(..).for_each(|event| ledger.apply(event)),
                // Nor does it read records before that.
                Step::Read { most } => {
                    kernel.batch.drain(..).for_each(|event| ledger.apply(event));
                    for _ in 0..most {
                        let Some(event) = kernel.ring.pop_front() else { break };
                        ledger.apply(event);
                    }
                }
            }
        }
        kernel.batch.drain(..).for_each(|event| ledger.apply(event));
        for (address, block) in kernel.young.drain() {
            ledger.apply(Event::Acquired { handle: heap(address), block });
        }
        kernel.ring.drain(..).for_each(|event| ledger.apply(event));
        let mut expected: Vec<_> = kernel.held.values().copied().collect();
        expected.sort_unstable();
        let mut left: Vec<_> =
            ledger.outstanding().map(|block| (block.site, block.size)).collect();
        left.sort_unstable();
        prop_assert_eq!(left, expected);
        prop_assert_eq!(ledger.unknown_releases(), kernel.unknown);
    }
}
