//! Tests of threads in the ledger.

use std::sync::Arc;

use tracer_common::{descriptor::FdType, kind::Kind, stack::StackEnd};

use crate::{
    ledger::{
        Ledger,
        events::{Block, Event, Handle, Site, ThreadChange},
    },
    target::Pid,
};

const PID: Pid = Pid(7);
const SITE: u32 = 3;

fn handle(value: u64) -> Handle {
    Handle { pid: PID, kind: Kind::Thread, value }
}

fn started(value: u64, position: u64) -> Event {
    let block = Block { size: 0, time_ns: 0, position, site: SITE, connection: 0 };
    Event::Acquired { handle: handle(value), block }
}

fn joined(value: u64, position: u64) -> Event {
    let (handle, resizing) = (handle(value), None);
    Event::Released { handle, size: 0, position, time_ns: 0, probe: 0, caller: 0, resizing }
}

fn detached(value: u64, position: u64) -> Event {
    Event::Thread { handle: handle(value), change: ThreadChange::Detached(position), time_ns: 0 }
}

fn ended(value: u64, started: u64) -> Event {
    Event::Thread { handle: handle(value), change: ThreadChange::Ended(started), time_ns: 0 }
}

/// Alive, ended, released and unknown ones after these events.
#[track_caller]
fn check(events: impl IntoIterator<Item = Event>, expected: (usize, usize, u64, u64)) {
    let mut ledger = Ledger::default();
    events.into_iter().for_each(|event| ledger.apply(event));
    let (gone, alive): (Vec<_>, Vec<_>) =
        ledger.outstanding_threads().into_iter().partition(|thread| thread.ended);
    let released = ledger.sites().map(|(_, _, tally)| tally.released().count).sum();
    let found = (alive.len(), gone.len(), released, ledger.unknown_releases());
    assert_eq!(found, expected);
}

#[test]
fn a_thread_is_outstanding_until_it_is_joined() {
    check([started(1, 10)], (1, 0, 0, 0));
    check([started(1, 10), ended(1, 10)], (0, 1, 0, 0));
    check([started(1, 10), ended(1, 10), joined(1, 20)], (0, 0, 1, 0));
    // The kernel says last that a thread has ended.
    check([started(1, 10), joined(1, 20), ended(1, 10)], (0, 0, 1, 0));
}

#[test]
fn a_detached_thread_is_released_by_its_end() {
    check([started(1, 10), detached(1, 20)], (1, 0, 0, 0));
    check([started(1, 10), detached(1, 20), ended(1, 10)], (0, 0, 1, 0));
    check([started(1, 10), ended(1, 10), detached(1, 20)], (0, 0, 1, 0));
}

#[test]
fn a_handle_that_another_thread_has_proves_a_release() {
    // The join of the first one returns after the second one was started.
    check([started(1, 10), started(1, 30), joined(1, 20), ended(1, 10)], (1, 0, 1, 0));
    check([started(1, 10), started(1, 30), joined(1, 20), joined(1, 40)], (0, 0, 2, 0));
    // A detached one ends after the second one was started.
    check([started(1, 10), detached(1, 20), started(1, 30), ended(1, 10)], (1, 0, 1, 0));
    let late = [started(1, 10), detached(1, 20), started(1, 30), ended(1, 10), joined(1, 40)];
    check(late, (0, 0, 2, 0));
}

#[test]
fn events_of_threads_from_before_the_attach_change_nothing() {
    check([ended(1, 10), detached(1, 20)], (0, 0, 0, 0));
    check([joined(1, 20)], (0, 0, 0, 0));
}

#[test]
fn a_child_has_none_of_its_parents_threads() {
    let fork = Event::Forked { parent: PID, child: Pid(8), files: false, position: 20, time_ns: 0 };
    let mut ledger = Ledger::default();
    let events = [started(1, 10), fork, started(2, 15), joined(1, 30), ended(2, 15)];
    events.into_iter().for_each(|event| ledger.apply(event));
    ledger.copy_due(u64::MAX, true);
    let threads = ledger.outstanding_threads();
    assert_eq!(threads.len(), 1, "{threads:?}");
    assert_eq!((threads[0].handle, threads[0].ended), (handle(2), true));
    // Its memory has gone with an exec, and so have its threads.
    ledger.apply(Event::Executed { pid: PID, parent: None, position: 40, time_ns: 0 });
    assert_eq!(ledger.outstanding_threads(), []);
}

#[test]
fn what_is_allocated_by_the_start_of_a_thread_is_no_call_site_of_its_own() {
    let mut ledger = Ledger::default();
    ledger.set_thread_starts(PID, vec![(0x1000, 0x2000)]);
    for (number, frames) in
        [(1, vec![0x1800, 0x5000]), (2, vec![0x3000, 0x1800, 0x5000]), (3, vec![0x2000, 0x5000])]
    {
        let unwound: Arc<[u64]> = frames.into();
        ledger.apply(Event::Site(Site {
            number,
            pid: PID,
            probe: 0,
            fd_type: FdType::Unknown,
            detail: 0,
            frames: Arc::clone(&unwound),
            unwound,
            end: StackEnd::Bottom,
            former: false,
            origin: None,
            image: 0,
        }));
        let handle = Handle { pid: PID, kind: Kind::Heap, value: u64::from(number) };
        let block = Block { size: 288, time_ns: 0, position: 1, site: number, connection: 0 };
        ledger.apply(Event::Acquired { handle, block });
    }
    let shown: Vec<u32> = ledger
        .sites()
        .filter(|(_, _, tally)| tally.acquired().count > 0)
        .map(|(number, ..)| number)
        .collect();
    assert_eq!(shown, [3]);
}
