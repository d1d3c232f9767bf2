//! The ledger of file descriptors, compared with the kernel's tables.

use tracer_common::{
    descriptor::{FdOrigin, FdType},
    kind::Kind,
};

use super::*;
use crate::ledger::{Ledger, events::Event};

const PID: Pid = Pid(7);
const CHILD: Pid = Pid(8);

fn handle(pid: Pid, fd: u64) -> Handle {
    Handle { pid, kind: Kind::Descriptor, value: fd }
}

fn opened(ledger: &mut Ledger, pid: Pid, fd: u64, position: u64) {
    let block = Block { size: 0, time_ns: position, position, site: 3, connection: 0 };
    ledger.apply(Event::Acquired { handle: handle(pid, fd), block });
}

fn closed(ledger: &mut Ledger, pid: Pid, fd: u32, position: u64) {
    ledger.apply(Event::Closed { pid, fd, position, time_ns: 0, may_be_closed: false });
}

fn closed_perhaps(ledger: &mut Ledger, pid: Pid, fd: u32, position: u64) {
    ledger.apply(Event::Closed { pid, fd, position, time_ns: 0, may_be_closed: true });
}

fn range_closed(ledger: &mut Ledger, pid: Pid, first: u32, last: u32, position: u64) {
    ledger.apply(Event::RangeClosed { pid, first, last, position });
}

fn forked(ledger: &mut Ledger, files: bool, position: u64) {
    let (parent, child) = (PID, CHILD);
    ledger.apply(Event::Forked { parent, child, files, position, time_ns: position });
}

fn open(ledger: &Ledger, pid: Pid) -> Vec<u32> {
    ledger.open_descriptors().iter().filter(|one| one.pid == pid).map(|one| one.fd).collect()
}

/// Totals over all call sites: opened, closed, open. Descriptors from before the attach or from a fork do not count as
/// opened.
fn sums(ledger: &Ledger) -> (u64, u64, u64) {
    ledger.sites().fold((0, 0, 0), |(opened, closed, open), (_, _, tally)| {
        (
            opened + tally.acquired().count,
            closed + tally.released().count,
            open + tally.outstanding().count,
        )
    })
}

#[test]
fn a_close_ends_the_earlier_descriptor_and_not_the_one_that_has_its_number_now() {
    let mut ledger = Ledger::default();
    opened(&mut ledger, PID, 5, 10);
    // Closed at 20 and opened again at 30: the second one is drained first.
    opened(&mut ledger, PID, 5, 30);
    closed(&mut ledger, PID, 5, 20);
    assert_eq!((open(&ledger, PID), sums(&ledger)), (vec![5], (2, 1, 1)));
    assert_eq!(ledger.open_descriptor(PID, 5), Some(30));
    assert_eq!(ledger.unknown_releases(), 0);
}

#[test]
fn closing_a_number_that_may_not_be_open_is_no_unknown_release() {
    let mut ledger = Ledger::default();
    closed_perhaps(&mut ledger, PID, 5, 10);
    assert_eq!(ledger.unknown_releases(), 0);
    closed(&mut ledger, PID, 5, 20);
    assert_eq!(ledger.unknown_releases(), 1);
    opened(&mut ledger, PID, 5, 30);
    closed_perhaps(&mut ledger, PID, 5, 40);
    assert_eq!((open(&ledger, PID), sums(&ledger)), (vec![], (1, 1, 0)));
}

#[test]
fn a_range_closes_the_descriptors_it_covers_even_if_they_arrive_later() {
    let mut ledger = Ledger::default();
    for fd in 3..10 {
        opened(&mut ledger, PID, fd, fd);
    }
    range_closed(&mut ledger, PID, 4, 6, 100);
    assert_eq!(open(&ledger, PID), [3, 7, 8, 9]);
    // Young when the range was closed, drained afterwards; and reopened later.
    opened(&mut ledger, PID, 6, 50);
    opened(&mut ledger, PID, 5, 150);
    opened(&mut ledger, CHILD, 6, 50);
    assert_eq!((open(&ledger, PID), open(&ledger, CHILD)), (vec![3, 5, 7, 8, 9], vec![6]));
    (0..CYCLES).for_each(|_| ledger.cycled());
    opened(&mut ledger, PID, 6, 60);
    assert_eq!(open(&ledger, PID), [3, 5, 6, 7, 8, 9], "the range is no longer waited for");
    // Up to the highest number.
    range_closed(&mut ledger, PID, 3, u32::MAX, 200);
    assert!(open(&ledger, PID).is_empty());
}

#[test]
fn a_fork_copies_descriptors_and_memory_separately() {
    let mut ledger = Ledger::default();
    opened(&mut ledger, PID, 3, 10);
    opened(&mut ledger, PID, 4, 11);
    let block = Block { size: 100, time_ns: 12, position: 12, site: 2, connection: 0 };
    let heap = Handle { pid: PID, kind: Kind::Heap, value: 0x1000 };
    ledger.apply(Event::Acquired { handle: heap, block });
    forked(&mut ledger, true, 20);
    assert_eq!((open(&ledger, CHILD), ledger.outstanding().count()), (vec![3, 4], 5));
    forked(&mut ledger, false, 21);
    ledger.copy_due(0, true);
    assert_eq!((open(&ledger, CHILD), ledger.outstanding().count()), (vec![3, 4], 6));
    closed(&mut ledger, CHILD, 3, 30);
    assert_eq!((open(&ledger, PID), open(&ledger, CHILD)), (vec![3, 4], vec![4]));
    // Young at the fork, drained after it.
    opened(&mut ledger, PID, 9, 15);
    assert_eq!(open(&ledger, CHILD), [4, 9]);
    ledger.apply(Event::FilesEnded { pid: CHILD, position: 40 });
    assert_eq!((open(&ledger, PID), open(&ledger, CHILD)), (vec![3, 4, 9], vec![]));
}

#[test]
fn descriptors_that_a_range_closed_before_a_fork_are_not_copied() {
    let mut ledger = Ledger::default();
    range_closed(&mut ledger, PID, 3, 102, 20);
    forked(&mut ledger, true, 30);
    opened(&mut ledger, PID, 5, 10);
    opened(&mut ledger, PID, 6, 25);
    assert_eq!((open(&ledger, PID), open(&ledger, CHILD)), (vec![6], vec![6]));
}

#[test]
fn exec_keeps_descriptors_and_no_memory() {
    let mut ledger = Ledger::default();
    opened(&mut ledger, PID, 3, 10);
    let block = Block { size: 100, time_ns: 12, position: 12, site: 2, connection: 0 };
    let heap = Handle { pid: PID, kind: Kind::Heap, value: 0x1000 };
    ledger.apply(Event::Acquired { handle: heap, block });
    ledger.apply(Event::Executed { pid: PID, parent: None, position: 20, time_ns: 20 });
    // Young at the exec.
    opened(&mut ledger, PID, 4, 15);
    assert_eq!((open(&ledger, PID), ledger.outstanding().count()), (vec![3, 4], 2));
    assert_eq!(ledger.settle_descriptors(PID, |fd, _| fd == 3), 1);
    assert_eq!(open(&ledger, PID), [4]);
}

#[test]
fn a_descriptor_found_open_is_closed_like_any_other() {
    let mut ledger = Ledger::default();
    ledger.found_open(PID, 0, FdType::Device, FdOrigin::Before, 5);
    ledger.found_open(PID, 1, FdType::Pipe, FdOrigin::Unseen, 6);
    assert_eq!(sums(&ledger), (1, 0, 2), "what was open before was not opened");
    let sites: Vec<_> = ledger.sites().filter_map(|(_, site, _)| site).collect();
    let whose = |origin: FdOrigin| sites.iter().find(|site| site.probe == origin.probe()).unwrap();
    assert_eq!(whose(FdOrigin::Before).fd_type, FdType::Device);
    assert_eq!((whose(FdOrigin::Unseen).fd_type, whose(FdOrigin::Unseen).pid), (FdType::Pipe, PID));
    forked(&mut ledger, true, 10);
    closed(&mut ledger, PID, 0, 20);
    assert_eq!((open(&ledger, PID), open(&ledger, CHILD)), (vec![1], vec![0, 1]));
    // A probe sees the number being opened again: the found descriptor is gone.
    opened(&mut ledger, PID, 1, 30);
    ledger.forget_owed_descriptors();
    closed(&mut ledger, PID, 1, 40);
    assert_eq!((open(&ledger, PID), ledger.unknown_releases()), (vec![], 0));
}

#[test]
fn descriptors_are_inherited_at_once_also_those_that_arrive_late() {
    let mut ledger = Ledger::default();
    opened(&mut ledger, PID, 3, 10);
    forked(&mut ledger, true, 20);
    forked(&mut ledger, false, 21);
    // Young at the fork, drained after it.
    opened(&mut ledger, PID, 4, 15);
    assert_eq!(open(&ledger, CHILD), [3, 4]);
    closed(&mut ledger, CHILD, 3, 30);
    opened(&mut ledger, CHILD, 3, 31);
    closed(&mut ledger, CHILD, 4, 32);
    closed(&mut ledger, CHILD, 3, 33);
    assert_eq!((open(&ledger, PID), open(&ledger, CHILD)), (vec![3, 4], vec![]));
    assert_eq!(ledger.unknown_releases(), 0);
}
