//! The ledger: examples, and a comparison with a model of the BPF side that delivers in every allowed order.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const PID: Pid = Pid(1);

fn heap(value: u64) -> Handle {
    Handle { pid: PID, kind: Kind::Heap, value }
}

fn acquired(value: u64, position: u64, site: u32, size: u64) -> Event {
    Event::Acquired {
        handle: heap(value),
        block: Block { size, time_ns: 0, position, site, connection: 0 },
    }
}

fn released(value: u64, position: u64, resizing: Option<u32>) -> Event {
    Event::Released { handle: heap(value), size: 0, position, time_ns: 0, caller: 0, resizing }
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
fn a_release_from_before_the_acquisition_is_unknown() {
    check(vec![acquired(8, 64, 1, 100), released(8, 0, None)], &[(1, 100)], 1);
}

#[test]
fn a_reused_address_proves_its_release_which_then_settles_nothing() {
    check(
        vec![acquired(8, 0, 1, 100), acquired(8, 64, 2, 50), released(8, 0, None)],
        &[(2, 50)],
        0,
    );
}

#[test]
fn a_late_acquisition_at_an_address_does_not_displace_a_newer_one() {
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
fn forgetting_a_target_releases_all_its_memory_and_no_other() {
    let mut ledger = Ledger::default();
    ledger.apply(acquired(8, 10, 1, 100));
    let mapped = Handle { pid: PID, kind: Kind::Mmap, value: 0x1000 };
    let block = Block { size: 0x1000, time_ns: 0, position: 0, site: 2, connection: 0 };
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
fn a_lost_release_sets_aside_only_older_resources() {
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
        time_ns: 0,
        caller,
        resizing: None,
    };
    ledger.apply(unmap(0x150));
    assert_eq!(ledger.unknown_releases(), 0);
    ledger.apply(unmap(0x300));
    assert_eq!(ledger.unknown_releases(), 1);
}

/// A process of the model and its resources: the step that acquired each, and its size.
#[derive(Clone, Default)]
struct Process {
    programs: u64,
    held: HashMap<u64, (u32, u64)>,
    mapped: HashMap<u64, (u32, u64)>,
}

/// A model of the BPF side, with the ring buffer's length as the position.
#[derive(Default)]
struct Kernel {
    young: HashMap<(Pid, u64, u64), Block>,
    ring: VecDeque<Event>,
    sent: u64,
    /// A batch that was taken out of `young` and has not reached the ledger.
    batch: Vec<Event>,
    /// Whether a drain has taken everything since the last cycle.
    drained: bool,
    processes: BTreeMap<Pid, Process>,
    /// Position of the last fork by process, plus one.
    forks: HashMap<Pid, u64>,
    /// Resources that were released without ever reaching the ledger.
    died: u64,
    acquired: u64,
    unknown: u64,
}

#[derive(Clone, Debug)]
enum Action {
    Acquire { address: u64, size: u64, overflow: bool },
    Release { address: u64 },
    Resize { address: u64, to: u64, size: u64, fails: bool },
    Map { address: u64, size: u64 },
    Unmap { address: u64, size: u64 },
    Fork,
    Exec,
}

#[derive(Clone, Debug)]
enum Step {
    /// An action of one of the existing processes.
    Do {
        process: usize,
        action: Action,
    },
    /// Drains everything but the addresses that leave this remainder when divided by four.
    Drain {
        part: u64,
    },
    Deliver,
    Read {
        most: usize,
    },
}

impl Kernel {
    fn send(&mut self, event: Event) {
        self.ring.push_back(event);
        self.sent += 64;
    }

    fn at(pid: Pid, value: u64) -> Handle {
        Handle { pid, kind: Kind::Heap, value }
    }

    fn acquire(&mut self, pid: Pid, address: u64, site: u32, size: u64, overflow: bool) {
        let connection = site % 3;
        let block = Block { size, time_ns: 0, position: self.sent, site, connection };
        let process = self.processes.entry(pid).or_default();
        process.held.insert(address, (site, size));
        self.acquired += 1;
        if overflow {
            self.send(Event::Acquired { handle: Self::at(pid, address), block });
        } else {
            self.young.insert((pid, process.programs, address), block);
        }
    }

    fn release(&mut self, pid: Pid, address: u64, resizing: Option<u32>) -> Option<Block> {
        let programs = self.processes.entry(pid).or_default().programs;
        let mut young = self.young.remove(&(pid, programs, address));
        let handle = Self::at(pid, address);
        if let Some(block) = young
            && self.forks.get(&pid).is_some_and(|after| block.position < *after)
        {
            self.send(Event::Acquired { handle, block });
            young = None;
        }
        if young.is_none() {
            let position = self.sent;
            self.send(Event::Released {
                handle,
                size: 0,
                position,
                time_ns: 0,
                caller: 0,
                resizing,
            });
        } else if resizing.is_none() {
            self.died += 1;
        }
        young
    }

    fn perform(&mut self, pid: Pid, site: u32, action: &Action) {
        let process = self.processes.entry(pid).or_default();
        let programs = process.programs;
        match *action {
            Action::Acquire { address, .. } if process.held.contains_key(&address) => {}
            Action::Acquire { address, size, overflow } => {
                self.acquire(pid, address, site, size, overflow);
            }
            Action::Release { address } => {
                if process.held.remove(&address).is_none() {
                    self.unknown += 1;
                }
                self.release(pid, address, None);
            }
            Action::Resize { address, to, size, fails } => {
                let Some(old) = process.held.get(&address).copied() else { return };
                if process.held.contains_key(&to) && to != address {
                    return;
                }
                process.held.remove(&address);
                let young = self.release(pid, address, Some(7));
                if !fails {
                    self.died += u64::from(young.is_some());
                    return self.acquire(pid, to, site, size, false);
                }
                self.processes.entry(pid).or_default().held.insert(address, old);
                if let Some(block) = young {
                    self.young.insert((pid, programs, address), block);
                } else {
                    let handle = Self::at(pid, address);
                    self.send(Event::Restored { handle, thread: 7 });
                }
            }
            Action::Map { address, size } => {
                process.mapped.retain(|at, _| !(address..address + size).contains(at));
                process.mapped.extend((address..address + size).map(|at| (at, (site, 1))));
                self.acquired += 1;
                let connection = site % 3;
                let block = Block { size, time_ns: 0, position: self.sent, site, connection };
                let handle = Handle { pid, kind: Kind::Mmap, value: address };
                self.send(Event::Acquired { handle, block });
            }
            Action::Unmap { address, size } => {
                let before = process.mapped.len();
                process.mapped.retain(|at, _| !(address..address + size).contains(at));
                self.unknown += u64::from(process.mapped.len() == before);
                let handle = Handle { pid, kind: Kind::Mmap, value: address };
                let position = self.sent;
                self.send(Event::Released {
                    handle,
                    size,
                    position,
                    time_ns: 0,
                    caller: 0,
                    resizing: None,
                });
            }
            Action::Fork => {
                let child = Pid(pid.0 * 10 + u32::try_from(self.processes.len()).unwrap());
                if self.processes.len() > 6 || self.processes.contains_key(&child) {
                    return;
                }
                let copy = self.processes.entry(pid).or_default().clone();
                self.processes.insert(child, copy);
                self.forks.insert(pid, self.sent + 1);
                let position = self.sent;
                self.send(Event::Forked { parent: pid, child, files: false, position, time_ns: 0 });
            }
            Action::Exec => {
                *process = Process { programs: programs + 1, ..Process::default() };
                let position = self.sent;
                self.send(Event::Executed { pid, parent: None, position, time_ns: 0 });
            }
        }
    }

    fn drain(&mut self, but: u64) {
        let batch = self.young.extract_if(|(_, _, address), _| address % 4 != but);
        self.batch.extend(batch.map(|((pid, _, address), block)| Event::Acquired {
            handle: Self::at(pid, address),
            block,
        }));
        self.drained |= but > 3;
    }

    fn read(&mut self, most: usize, ledger: &mut Ledger) {
        // Records are never read before the last batch has reached the ledger.
        self.batch.drain(..).for_each(|event| ledger.apply(event));
        for _ in 0..most {
            let Some(event) = self.ring.pop_front() else { break };
            ledger.apply(event);
        }
        if self.ring.is_empty() && std::mem::take(&mut self.drained) {
            ledger.cycled();
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let address = 1_u64..6;
    let action = prop_oneof![
        8 => (address.clone(), 1_u64..9, proptest::bool::weighted(0.2))
            .prop_map(|(address, size, overflow)| Action::Acquire { address, size, overflow }),
        8 => address.clone().prop_map(|address| Action::Release { address }),
        4 => (address.clone(), address.clone(), 1_u64..9, any::<bool>())
            .prop_map(|(address, to, size, fails)| Action::Resize { address, to, size, fails }),
        1 => (address.clone(), 1_u64..4).prop_map(|(address, size)| Action::Map { address, size }),
        1 => (address, 1_u64..4).prop_map(|(address, size)| Action::Unmap { address, size }),
        2 => Just(Action::Fork),
        1 => Just(Action::Exec),
    ];
    let step = prop_oneof![
        12 => (0_usize..7, action).prop_map(|(process, action)| Step::Do { process, action }),
        3 => (0_u64..6).prop_map(|part| Step::Drain { part }),
        2 => Just(Step::Deliver),
        3 => (1_usize..9).prop_map(|most| Step::Read { most }),
    ];
    proptest::collection::vec(step, 1..100)
}

/// The resources of each process, by the site that first acquired them.
fn left(ledger: &Ledger, owners: &HashMap<u32, Pid>) -> Vec<(Pid, u32, u64)> {
    let mut left: Vec<_> = ledger
        .outstanding()
        .map(|block| {
            let (heir, site) = ledger.resources.totals.root(block.site);
            (heir.unwrap_or_else(|| owners[&site]), site, block.size)
        })
        .collect();
    left.sort_unstable();
    left
}

fn retagged(value: u64, position: u64, site: u32) -> Event {
    Event::Retagged { handle: heap(value), site, position }
}

fn moved(from: u64, to: u64, size: u64, position: u64) -> Event {
    Event::Moved { from, handle: heap(to), size, position }
}

#[test]
fn a_block_that_is_an_object_is_acquired_and_released_at_the_objects_site() {
    let mut ledger = Ledger::default();
    ledger.apply(acquired(8, 10, 1, 100));
    ledger.apply(retagged(8, 20, 2));
    ledger.apply(retagged(8, 21, 2));
    let sums = |ledger: &Ledger| {
        ledger
            .sites()
            .map(|(site, _, tally)| (site, tally.acquired().count, tally.outstanding().bytes))
            .filter(|(_, acquired, _)| *acquired > 0)
            .collect::<Vec<_>>()
    };
    assert_eq!(sums(&ledger), [(2, 1, 100)]);
    ledger.apply(released(8, 30, None));
    assert_eq!(sums(&ledger), [(2, 1, 0)]);
    assert_eq!(ledger.unknown_releases(), 0);
}

#[test]
fn an_object_whose_address_was_reused_before_it_was_retagged_still_counts_as_one() {
    let mut ledger = Ledger::default();
    for event in [
        acquired(8, 10, 1, 100),
        acquired(8, 40, 1, 50),
        retagged(8, 20, 2),
        released(8, 25, None),
        retagged(8, 45, 2),
    ] {
        ledger.apply(event);
    }
    let sums: Vec<(u32, u64, u64)> = ledger
        .sites()
        .map(|(site, _, tally)| (site, tally.acquired().count, tally.released().count))
        .filter(|(_, acquired, _)| *acquired > 0)
        .collect();
    assert_eq!((sums, ledger.unknown_releases()), (vec![(2, 2, 1)], 0));
}

#[test]
fn a_retag_does_not_affect_a_newer_block_at_the_address() {
    check(vec![acquired(8, 10, 1, 100), acquired(8, 40, 3, 50), retagged(8, 20, 2)], &[(3, 50)], 0);
}

#[test]
fn an_object_that_moves_keeps_its_site() {
    check(vec![acquired(8, 10, 2, 100), moved(8, 16, 150, 20)], &[(2, 150)], 0);
    check(vec![acquired(8, 10, 2, 100), moved(8, 16, 50, 20), released(16, 30, None)], &[], 0);
    // In place.
    check(vec![acquired(8, 10, 2, 100), moved(8, 8, 300, 20)], &[(2, 300)], 0);
}

#[test]
fn the_old_address_of_a_moved_object_may_be_reused_before_the_move_arrives() {
    check(
        vec![acquired(8, 10, 2, 100), acquired(8, 25, 1, 60), moved(8, 16, 150, 20)],
        &[(1, 60), (2, 150)],
        0,
    );
    // Neither address waits for a release of the moved object.
    check(
        vec![
            acquired(8, 10, 2, 100),
            acquired(8, 25, 1, 60),
            moved(8, 16, 150, 20),
            released(8, 30, None),
            released(16, 31, None),
        ],
        &[],
        0,
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// However drains, deliveries and reads interleave with the calls, forks and execs of targets, in the end the
    /// ledger's resources equal each target's, and it counts exactly the releases of resources that were never
    /// acquired. The resources that connections hold equal the ledger's, without copies.
    #[test]
    fn ends_equal_to_the_targets(steps in steps()) {
        let mut kernel = Kernel::default();
        kernel.processes.insert(PID, Process::default());
        let mut ledger = Ledger::default();
        let mut owners = HashMap::new();
        for (site, step) in (1_u32..).zip(steps) {
            match step {
                Step::Do { process, action } => {
                    let at = process % kernel.processes.len();
                    let pid = *kernel.processes.keys().nth(at).unwrap();
                    owners.insert(site, pid);
                    kernel.perform(pid, site, &action);
                }
                // The collector never takes a batch before the last one has reached the ledger.
                Step::Drain { part } if kernel.batch.is_empty() => kernel.drain(part),
                Step::Drain { .. } => {}
                Step::Deliver => kernel.batch.drain(..).for_each(|event| ledger.apply(event)),
                Step::Read { most } => kernel.read(most, &mut ledger),
            }
        }
        kernel.read(0, &mut ledger);
        for _ in 0..4 {
            kernel.drain(4);
            kernel.read(usize::MAX, &mut ledger);
        }
        prop_assert!(!ledger.is_waiting());
        let mut expected: Vec<(Pid, u32, u64)> = Vec::new();
        for (pid, process) in &kernel.processes {
            expected.extend(process.held.values().map(|(site, size)| (*pid, *site, *size)));
            let mut mapped: BTreeMap<u32, u64> = BTreeMap::new();
            process.mapped.values().for_each(|(site, _)| *mapped.entry(*site).or_default() += 1);
            expected.extend(mapped.into_iter().map(|(site, size)| (*pid, site, size)));
        }
        expected.sort_unstable();
        prop_assert_eq!(left(&ledger, &owners), expected);
        prop_assert_eq!(ledger.unknown_releases(), kernel.unknown);
        let mut held: BTreeMap<(u32, u32), Sum> = BTreeMap::new();
        for block in ledger.outstanding() {
            let own = ledger.resources.totals.root(block.site).0.is_none();
            prop_assert_eq!(block.connection, if own { block.site % 3 } else { 0 });
            if block.connection != 0 {
                held.entry((block.connection, block.site)).or_default().add(block.size);
            }
        }
        let held: Vec<_> = held.into_iter().map(|((of, at), sum)| (of, at, sum.count, sum.bytes)).collect();
        prop_assert_eq!(ledger.resources.totals.connections.items(), held);
        let mut acquired = 0;
        for (_, _, tally) in ledger.sites() {
            acquired += tally.acquired().count;
            let (came, went) = (tally.acquired(), tally.released());
            let inherited = tally.inherited();
            prop_assert_eq!(came.count + inherited.count, went.count + tally.outstanding().count);
            prop_assert_eq!(came.bytes + inherited.bytes, went.bytes + tally.outstanding().bytes);
        }
        prop_assert_eq!(acquired + kernel.died, kernel.acquired);
    }
}
