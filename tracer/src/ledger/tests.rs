//! The ledger: examples, and a comparison with a model of the BPF side that delivers in every allowed order.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use tracer_common::kind::PAGE_BYTES;

use super::*;

const PID: Pid = Pid(1);
/// The probe of the model's releases.
const RELEASES: ProbeNumber = 9;

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
    Event::Released {
        handle: heap(value),
        size: 0,
        position,
        time_ns: 0,
        probe: 0,
        caller: 0,
        resizing,
    }
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
        probe: 0,
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
    forked: u32,
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
    End,
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
                probe: RELEASES,
                caller: 0,
                resizing,
            });
        } else if resizing.is_none() {
            self.died += 1;
        }
        young
    }

    fn map(&mut self, pid: Pid, site: u32, address: u64, size: u64) {
        let process = self.processes.entry(pid).or_default();
        process.mapped.retain(|at, _| !(address..address + size).contains(at));
        process.mapped.extend((address..address + size).map(|at| (at, (site, 1))));
        self.acquired += 1;
        let (connection, position) = (site % 3, self.sent);
        let block = Block { size: size * PAGE_BYTES, time_ns: 0, position, site, connection };
        let handle = Handle { pid, kind: Kind::Mmap, value: address * PAGE_BYTES };
        self.send(Event::Acquired { handle, block });
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
                self.map(pid, site, address, size);
            }
            Action::Unmap { address, size } => {
                let before = process.mapped.len();
                process.mapped.retain(|at, _| !(address..address + size).contains(at));
                self.unknown += u64::from(process.mapped.len() == before);
                let handle = Handle { pid, kind: Kind::Mmap, value: address * PAGE_BYTES };
                let position = self.sent;
                self.send(Event::Released {
                    handle,
                    size: size * PAGE_BYTES,
                    position,
                    time_ns: 0,
                    probe: RELEASES,
                    caller: 0,
                    resizing: None,
                });
            }
            Action::Fork => {
                if self.processes.len() > 6 {
                    return;
                }
                self.forked += 1;
                let child = Pid(100 + self.forked);
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
            // What it had acquired last is drained later. The figures of the last one would be final.
            Action::End if self.processes.len() > 1 => {
                self.processes.remove(&pid);
                let position = self.sent;
                self.send(Event::Ended { pid, position, time_ns: 0 });
            }
            Action::End => {}
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
        1 => Just(Action::End),
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
    /// However drains, deliveries and reads interleave with the calls, forks, execs and ends of targets, in the end the
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
        ledger.copy_due(0, true);
        prop_assert!(!ledger.is_waiting());
        let mut expected: Vec<(Pid, u32, u64)> = Vec::new();
        for (pid, process) in &kernel.processes {
            expected.extend(process.held.values().map(|(site, size)| (*pid, *site, *size)));
            let mut mapped: BTreeMap<u32, u64> = BTreeMap::new();
            for (site, pages) in process.mapped.values() {
                *mapped.entry(*site).or_default() += pages * PAGE_BYTES;
            }
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
        for (_, site, tally) in ledger.sites() {
            if site.is_some_and(|site| site.probe == RELEASES) {
                // Second releases are some of the unknown ones.
                prop_assert!(tally.acquired().count <= kernel.unknown);
                continue;
            }
            acquired += tally.acquired().count;
            let (came, went) = (tally.acquired(), tally.released());
            let inherited = tally.inherited();
            prop_assert_eq!(came.count + inherited.count, went.count + tally.outstanding().count);
            prop_assert_eq!(came.bytes + inherited.bytes, went.bytes + tally.outstanding().bytes);
        }
        prop_assert_eq!(acquired + kernel.died, kernel.acquired);
    }
}

fn stack(number: u32, pid: Pid, frames: &[u64]) -> Event {
    Event::Site(Site {
        number,
        pid,
        probe: 3,
        fd_type: FdType::Unknown,
        detail: 0,
        frames: Arc::from(frames),
        unwound: Arc::from(frames),
        end: tracer_common::stack::StackEnd::Bottom,
        former: false,
        origin: None,
        image: 0,
    })
}

/// Acquires a block of 100 bytes in a process.
fn acquired_in(pid: Pid, value: u64, position: u64, site: u32) -> Event {
    let block = Block { size: 100, time_ns: 1, position, site, connection: 0 };
    Event::Acquired { handle: Handle { pid, ..heap(value) }, block }
}

fn forked(parent: Pid, child: Pid, position: u64) -> Event {
    Event::Forked { parent, child, files: false, position, time_ns: 1 }
}

fn ended(pid: Pid, position: u64) -> Event {
    Event::Ended { pid, position, time_ns: 1 }
}

/// Full cycles until the numbers of ended processes are free, which it returns.
fn retire(ledger: &mut Ledger) -> Vec<u32> {
    (0..3).for_each(|_| ledger.cycled());
    ledger.unlink_stacks();
    (0..3).for_each(|_| ledger.cycled());
    let mut free: Vec<u32> = ledger.retire().into_iter().collect();
    free.sort_unstable();
    free
}

#[test]
fn a_child_that_ends_gives_back_what_it_held_and_the_last_process_does_not() {
    let mut ledger = Ledger::default();
    let child = Pid(2);
    ledger.begin(PID);
    for event in [
        acquired(8, 10, 1, 50),
        forked(PID, child, 20),
        acquired_in(child, 16, 30, 2),
        acquired_in(child, 24, 40, 2),
        ended(child, 50),
        // Drained after the end.
        acquired_in(child, 32, 45, 2),
    ] {
        ledger.apply(event);
    }
    let left: Vec<u32> = ledger.outstanding().map(|block| block.site).collect();
    assert_eq!(left, [1]);
    let (_, _, tally) = ledger.sites().find(|(site, ..)| *site == 2).unwrap();
    assert_eq!((tally.acquired().count, tally.released().count), (3, 3));
    ledger.apply(ended(PID, 60));
    assert_eq!(ledger.outstanding().count(), 1);
}

#[test]
fn a_parent_that_ends_before_its_child_leaves_the_child_its_copies() {
    let mut ledger = Ledger::default();
    let child = Pid(2);
    ledger.begin(PID);
    for event in [acquired(8, 10, 1, 50), acquired(16, 11, 1, 50), forked(PID, child, 20)] {
        ledger.apply(event);
    }
    // A release between fork and end is the parent's alone.
    ledger.apply(released(8, 30, None));
    ledger.apply(ended(PID, 40));
    let copies = ledger.outstanding().filter(|block| block.site != 1).count();
    assert_eq!((copies, ledger.outstanding().count()), (2, 2));
}

#[test]
fn a_short_lived_child_costs_no_copies_and_a_release_of_one_costs_one() {
    let mut ledger = Ledger::default();
    ledger.begin(PID);
    (1..=1000).for_each(|value| ledger.apply(acquired(value * 8, value, 1, 10)));
    ledger.apply(forked(PID, Pid(2), 2000));
    ledger.apply(released(8, 2100, None));
    let of_child = |value, position| Event::Released {
        handle: Handle { pid: Pid(2), ..heap(value) },
        size: 0,
        position,
        time_ns: 0,
        probe: 0,
        caller: 0,
        resizing: None,
    };
    ledger.apply(of_child(8, 2200));
    ledger.apply(of_child(16, 2300));
    assert_eq!(ledger.outstanding().count(), 999);
    assert_eq!(ledger.unknown_releases(), 0);
    // It has not lived for five seconds.
    ledger.copy_due(4_000_000_000, false);
    assert_eq!(ledger.outstanding().count(), 999);
    ledger.copy_due(6_000_000_000, false);
    assert_eq!(ledger.outstanding().count(), 999 + 998);
    ledger.apply(ended(Pid(2), 3000));
    assert_eq!((ledger.outstanding().count(), ledger.resources.deferred.len()), (999, (0, 0)));
}

#[test]
fn a_copy_that_arrives_after_its_childs_exec_is_of_the_former_program() {
    let (mut ledger, child) = (Ledger::default(), Pid(2));
    ledger.begin(PID);
    ledger.apply(stack(1, PID, &[1, 2]));
    ledger.apply(forked(PID, child, 10));
    ledger.apply(Event::Executed { pid: child, parent: None, position: 20, time_ns: 1 });
    // Drained late.
    ledger.apply(acquired(8, 5, 1, 100));
    let of_child: Vec<(bool, u64, u64)> = ledger
        .sites()
        .filter_map(|(_, site, tally)| Some((site?, tally)))
        .filter(|(site, _)| site.pid == child)
        .map(|(site, tally)| (site.former, tally.inherited().count, tally.outstanding().count))
        .collect();
    assert_eq!(of_child, [(true, 1, 0)]);
}

#[test]
fn numbers_of_ended_processes_are_free_unless_their_process_id_is_used_again() {
    let mut ledger = Ledger::default();
    ledger.begin(PID);
    for child in [2, 3] {
        ledger.apply(forked(PID, Pid(child), 10));
        ledger.apply(stack(child, Pid(child), &[1, 2]));
        ledger.apply(acquired_in(Pid(child), 8, 20, child));
        ledger.apply(ended(Pid(child), 30));
    }
    (0..3).for_each(|_| ledger.cycled());
    assert_eq!((ledger.stacks_to_unlink(), ledger.unlink_stacks().len()), (2, 2));
    assert_eq!((ledger.stacks_to_unlink(), ledger.may_retire()), (0, false));
    // The programs may have found the stack for this process before they forgot it.
    ledger.apply(forked(PID, Pid(3), 40));
    (0..3).for_each(|_| ledger.cycled());
    assert!(ledger.may_retire());
    assert_eq!(ledger.retire().into_iter().collect::<Vec<_>>(), [2]);
    // Its call site's totals stay, as those of the program in memory, and one more process adds to them.
    let sums = |ledger: &Ledger| {
        let all = ledger.sites().filter(|(_, site, _)| {
            site.as_ref().is_some_and(|site| site.pid == PID && *site.frames == [1, 2])
        });
        all.map(|(_, _, tally)| (tally.acquired().count, tally.outstanding().count))
            .collect::<Vec<_>>()
    };
    assert_eq!(sums(&ledger), [(1, 0)]);
    ledger.apply(ended(Pid(3), 50));
    assert_eq!(retire(&mut ledger), [3]);
    assert_eq!(sums(&ledger), [(2, 0)]);
    assert_eq!(ledger.past().count(), 0);
}

#[test]
fn what_died_young_before_a_number_was_used_again_does_not_count_again() {
    let mut ledger = Ledger::default();
    ledger.begin(PID);
    ledger.apply(forked(PID, Pid(2), 10));
    ledger.apply(stack(7, Pid(2), &[1]));
    ledger.set_died(7, Died { count: 5, bytes: 50 });
    ledger.apply(ended(Pid(2), 20));
    assert_eq!(retire(&mut ledger), [7]);
    ledger.apply(stack(7, PID, &[9]));
    ledger.set_died(7, Died { count: 6, bytes: 60 });
    let (_, _, tally) = ledger.sites().find(|(site, ..)| *site == 7).unwrap();
    assert_eq!(tally.acquired(), Sum { count: 1, bytes: 10 });
}

#[test]
fn a_copy_survives_the_call_site_that_it_was_copied_from() {
    let mut ledger = Ledger::default();
    ledger.begin(PID);
    ledger.apply(stack(5, PID, &[1, 2]));
    ledger.apply(acquired(8, 10, 5, 50));
    ledger.apply(forked(PID, Pid(2), 20));
    ledger.apply(ended(PID, 30));
    assert_eq!(retire(&mut ledger), [5]);
    ledger.apply(stack(5, Pid(2), &[7]));
    let block = ledger.outstanding().next().unwrap();
    let (_, site, _) = ledger.sites().find(|(site, ..)| *site == block.site).unwrap();
    let site = site.unwrap();
    assert_eq!((site.pid, &*site.frames), (Pid(2), &[1, 2][..]));
}

/// Lives in the next test.
const LIVES: u64 = 1_000_000;

/// A server whose children call exec half of the time: nothing is left of a million of them.
#[test]
fn nothing_is_left_of_a_million_processes() {
    let (mut ledger, mut free) = (Ledger::default(), (2_u32..3000).collect::<VecDeque<_>>());
    ledger.begin(PID);
    ledger.apply(stack(1, PID, &[1]));
    (1..=20).for_each(|value| ledger.apply(acquired(value * 8, value, 1, 10)));
    let mut most = (0, 0);
    for life in 0..LIVES {
        let pid = Pid(u32::try_from(life % 5000).unwrap() + 2);
        let position = 1000 + life * 1000;
        let number = free.pop_front().unwrap();
        ledger.apply(forked(PID, pid, position));
        if life % 2 == 0 {
            let (parent, position) = (None, position + 10);
            ledger.apply(Event::Executed { pid, parent, position, time_ns: 1 });
        }
        ledger.apply(stack(number, pid, &[3, 4 + life % 2]));
        ledger.apply(acquired_in(pid, 8, position + 20, number));
        ledger.apply(acquired_in(pid, 4096, position + 30, number));
        ledger.apply(ended(pid, position + 40));
        if life % 20 == 19 {
            ledger.cycled();
            ledger.unlink_stacks();
            free.extend(ledger.retire());
        }
        if life % 10_000 == 0 {
            let size = (ledger.site_numbers(), ledger.sites().count());
            most = (most.0.max(size.0), most.1.max(size.1));
        }
    }
    assert!(most.0 <= 3000 && most.1 <= 6000, "{most:?}");
    (0..2).for_each(|_| drop(retire(&mut ledger)));
    assert_eq!(ledger.outstanding().count(), 20);
    let acquired: u64 = ledger.sites().map(|(_, _, tally)| tally.acquired().count).sum();
    let past: u64 = ledger.past().map(|(_, sum)| sum.count).sum();
    assert_eq!((acquired + past, past), (2 * LIVES + 20, LIVES));
    assert_eq!(ledger.resources.deferred.len(), (0, 0));
    assert!(ledger.resources.owed.is_empty() && ledger.pending.is_empty());
}

#[test]
fn blocks_of_another_generation_of_code_have_a_call_site_of_their_own() {
    let mut ledger = Ledger::default();
    let child = Pid(2);
    ledger.begin(PID);
    ledger.apply(forked(PID, child, 1));
    ledger.apply(stack(1, child, &[0x8010, 0x1010]));
    assert_eq!(ledger.unwound(1).map(|unwound| unwound.to_vec()), Some(vec![0x8010, 0x1010]));
    assert_eq!(ledger.generation(1, Arc::from([0x8010, 0x1010])), 1);
    let later = ledger.generation(1, Arc::from([0x1_0000_0000_8010, 0x1010]));
    assert_eq!(ledger.generation(1, Arc::from([0x1_0000_0000_8010, 0x1010])), later);
    for event in [
        acquired_in(child, 8, 10, 1),
        acquired_in(child, 16, 11, later),
        acquired_in(child, 24, 12, later),
    ] {
        ledger.apply(event);
    }
    let outstanding = |ledger: &Ledger, number: u32| {
        let found = ledger.sites().find(|(site, ..)| *site == number);
        found.map(|(_, site, tally)| (site.unwrap().frames, tally.outstanding().count))
    };
    assert_eq!(outstanding(&ledger, 1), Some((Arc::from([0x8010, 0x1010]), 1)));
    let frames = Arc::from([0x1_0000_0000_8010, 0x1010]);
    assert_eq!(outstanding(&ledger, later), Some((frames, 2)));
    // With the process, both go.
    ledger.apply(ended(child, 20));
    assert_eq!(retire(&mut ledger), [1]);
    assert_eq!((ledger.outstanding().count(), outstanding(&ledger, later)), (0, None));
}

#[test]
fn what_an_allocator_releases_of_a_threads_cache_is_no_unknown_release() {
    let by = |caller| {
        let mut ledger = Ledger::default();
        ledger.set_internal(PID, vec![(0x1000, 0x2000)]);
        ledger.apply(Event::Released {
            handle: heap(8),
            size: 0,
            position: 0,
            time_ns: 0,
            probe: 0,
            caller,
            resizing: None,
        });
        (ledger.unknown_releases(), ledger.unknown_blocks())
    };
    assert_eq!(by(0x1800), (0, 0));
    assert_eq!(by(0x2000), (1, 1));
}

#[test]
fn a_second_release_counts_at_its_call_site_until_the_address_is_in_use_again() {
    let mut ledger = Ledger::default();
    let by = |caller, position| Event::Released {
        handle: heap(8),
        size: 0,
        position,
        time_ns: 0,
        probe: 5,
        caller,
        resizing: None,
    };
    let again = |ledger: &Ledger| -> Vec<(u64, u64)> {
        let sites = ledger.sites().filter_map(|(_, site, tally)| Some((site?, tally)));
        sites
            .filter(|(site, _)| site.probe == 5)
            .map(|(site, tally)| (site.frames[0], tally.acquired().count))
            .collect()
    };
    // A block from before the attach.
    ledger.apply(by(0x10, 0));
    assert_eq!(again(&ledger), []);
    ledger.apply(acquired(8, 1, 1, 100));
    ledger.apply(by(0x10, 2));
    assert_eq!(again(&ledger), []);
    ledger.apply(by(0x20, 3));
    ledger.apply(by(0x20, 4));
    assert_eq!(again(&ledger), [(0x20, 2)]);
    ledger.apply(acquired(8, 5, 1, 100));
    ledger.apply(by(0x30, 6));
    assert_eq!(again(&ledger), [(0x20, 2)]);
    // After a pause nobody knows.
    ledger.resumed(7);
    ledger.apply(by(0x30, 8));
    assert_eq!((again(&ledger), ledger.unknown_releases()), (vec![(0x20, 2)], 4));
}

#[test]
fn cohorts_have_what_is_outstanding() {
    let mut ledger = Ledger::default();
    let time_ns = |value: u64| 1_000_000_000 + value * 999_983;
    for value in 0..60_000 {
        let block = Block { size: 8, time_ns: time_ns(value), position: 0, site: 1, connection: 0 };
        ledger.apply(Event::Acquired { handle: heap(8 * value), block });
    }
    // Blocks are stored with less exact times; each must leave the cohort that it came to.
    for value in (0..60_000).filter(|value| value % 7 > 0) {
        ledger.apply(released(8 * value, 0, None));
    }
    let lives = ledger.lives(1).unwrap();
    let held: u32 = lives.cohorts().iter().map(|one| one.outstanding).sum();
    assert_eq!(u64::from(held), ledger.outstanding().count() as u64);
}
