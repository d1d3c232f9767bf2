//! The table of connections: examples, and a comparison with a model that keeps everything.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use tracer_common::{
    connection::{CLOSE_WAIT, INET, PATH, TCP},
    kind::Kind,
    record::{CONNECTED, DISCONNECTED},
};

use super::*;
use crate::ledger::{
    Ledger,
    events::{Event, Handle},
};

const SECOND: u64 = 1_000_000_000;
const PID: Pid = Pid(1);

/// An accepted connection.
pub(super) fn record(number: u32) -> Connected {
    Connected {
        record: CONNECTED,
        number,
        pid: PID.0,
        fd: 100 + number,
        position: 0,
        time_ns: u64::from(number) * SECOND,
        socket: 0x1000 + u64::from(number),
        inode: 7_000 + u64::from(number),
        site: 1,
        peer_pid: 0,
        family: INET,
        local_port: 80,
        peer_port: 5_000,
        protocol: TCP,
        role: Role::Accepted as u8,
        local: [127; 16],
        peer: [10; 16],
        path_length: 0,
        path: [0; PATH],
    }
}

fn end(number: u32, at_ns: u64) -> Disconnected {
    Disconnected {
        record: DISCONNECTED,
        number,
        position: 0,
        time_ns: at_ns,
        bytes_in: 10,
        bytes_out: 20,
        ended_ns: 0,
        state: CLOSE_WAIT,
        error: 0,
        present: 0,
    }
}

fn begun(record: Connected) -> Event {
    Event::Connected(Box::new(record))
}

fn ended(number: u32, at_ns: u64) -> Event {
    Event::Disconnected(end(number, at_ns))
}

fn handle(value: u64) -> Handle {
    Handle { pid: PID, kind: Kind::Heap, value }
}

fn acquired(value: u64, connection: u32, site: u32, size: u64) -> Event {
    let block = Block { size, time_ns: 0, position: 0, site, connection };
    Event::Acquired { handle: handle(value), block }
}

fn released(value: u64) -> Event {
    Event::Released {
        handle: handle(value),
        size: 0,
        position: 0,
        time_ns: 0,
        probe: 0,
        caller: 0,
        resizing: None,
    }
}

fn ledger(events: Vec<Event>) -> Ledger {
    let mut ledger = Ledger::default();
    events.into_iter().for_each(|event| ledger.apply(event));
    ledger
}

fn sums(figures: &Figures) -> (u64, u64, u64, u64) {
    (figures.open, figures.opened, figures.closed, figures.with_orphans)
}

#[test]
fn resources_that_arrive_before_the_connection_or_after_its_end_belong_to_it() {
    let mut ledger = ledger(vec![
        acquired(8, 1, 5, 100),
        begun(record(1)),
        ended(1, 10 * SECOND),
        acquired(16, 1, 5, 50),
    ]);
    assert_eq!(ledger.connections_mut().figures(14 * SECOND, 5 * SECOND).with_orphans, 0);
    assert_eq!(
        ledger.connections().left_behind(5),
        LeftBehind { share: None, ..LeftBehind::default() }
    );
    let seen = ledger.connections_mut().figures(15 * SECOND, 5 * SECOND);
    assert_eq!(sums(&seen), (0, 1, 1, 1));
    assert_eq!(seen.clients[0].orphans, Sum { count: 2, bytes: 150 });
    let left = ledger.connections().left_behind(5);
    assert_eq!((left.sum.count, left.connections, left.share), (2, 1, Some(1.0)));
    // Resources released late were not left behind.
    ledger.apply(released(8));
    assert_eq!(ledger.connections().left_behind(5).sum, Sum { count: 1, bytes: 50 });
    ledger.apply(released(16));
    let seen = ledger.connections_mut().figures(16 * SECOND, 5 * SECOND);
    assert_eq!((sums(&seen), seen.clients[0].with_orphans), ((0, 1, 1, 0), 0));
    assert_eq!(ledger.connections().left_behind(5).share, Some(0.0));
    assert!(!ledger.connections().is_in_use(1));
}

#[test]
fn closed_connections_without_resources_are_dropped_except_the_last_ones() {
    let mut ledger = Ledger::default();
    for number in 1..=2_000 {
        ledger.apply(begun(record(number)));
        if number % 10 == 0 {
            ledger.apply(acquired(number.into(), number, 5, 8));
        }
        ledger.apply(ended(number, u64::from(number) * SECOND));
    }
    let seen = ledger.connections_mut().figures(3_000 * SECOND, SECOND);
    assert_eq!(sums(&seen), (0, 2_000, 2_000, 200));
    assert_eq!((seen.recent.len(), seen.recent[0].connection.id), (RECENT, 2_000));
    let table = &ledger.resources.totals.connections;
    assert_eq!((table.holdings.kept(), table.recent.len(), table.open.len()), (200, RECENT, 0));
    assert!(table.by_socket.is_empty() && table.settling.is_empty() && table.leaving.is_empty());
    (1..=2_000).for_each(|number| ledger.apply(released(number)));
    assert_eq!(ledger.resources.totals.connections.holdings.kept(), 0);
    assert_eq!(ledger.connections().left_behind(5).sum, Sum::default());
}

#[test]
fn a_reused_socket_address_ends_the_earlier_connection() {
    let second = Connected { socket: record(1).socket, ..record(2) };
    let mut ledger = ledger(vec![begun(record(1)), begun(second), begun(second)]);
    let seen = ledger.connections_mut().figures(9 * SECOND, SECOND);
    assert_eq!(sums(&seen), (1, 2, 1, 0));
    let closed = seen.recent[0].connection.closed.unwrap();
    assert_eq!((closed.by, closed.at_ns, closed.bytes_in), (None, second.time_ns, None));
    assert_eq!(seen.by_end, BTreeMap::from([(None, 1)]));
    assert_eq!(ledger.connections().begun(), 3);
    assert!(ledger.connections_mut().take_ended_unseen().is_empty());
}

#[test]
fn copies_in_a_child_belong_to_no_connection() {
    let (parent, child, position, time_ns) = (PID, Pid(2), 10, 0);
    let mut ledger = ledger(vec![
        begun(record(1)),
        acquired(8, 1, 5, 100),
        Event::Forked { parent, child, files: false, position, time_ns },
        ended(1, 10 * SECOND),
    ]);
    ledger.copy_due(0, true);
    ledger.apply(released(8));
    assert_eq!(ledger.connections_mut().figures(20 * SECOND, SECOND).with_orphans, 0);
    assert_eq!(ledger.outstanding().map(|one| one.connection).collect::<Vec<_>>(), [0]);
}

#[test]
fn parts_of_a_range_are_one_resource() {
    let range =
        |start: u64, pages: u64| (Handle { value: start, kind: Kind::Mmap, pid: PID }, pages << 12);
    let unmap = |(handle, size): (Handle, u64), resizing| Event::Released {
        handle,
        size,
        position: 0,
        time_ns: 0,
        probe: 0,
        caller: 0,
        resizing,
    };
    let (whole, size) = range(0x10_000, 4);
    let block = Block { size, time_ns: 0, position: 0, site: 5, connection: 1 };
    let hole = unmap(range(0x11_000, 1), None);
    let mut ledger = ledger(vec![
        begun(record(1)),
        Event::Acquired { handle: whole, block },
        hole,
        ended(1, SECOND),
    ]);
    ledger.connections_mut().settle_until(9 * SECOND, SECOND);
    assert_eq!(ledger.connections().left_behind(5).sum, Sum { count: 1, bytes: 0x3000 });
    // A resize that fails.
    ledger.apply(unmap(range(0x12_000, 2), Some(4)));
    assert_eq!(ledger.connections().left_behind(5).sum, Sum { count: 1, bytes: 0x1000 });
    ledger.apply(Event::Restored { handle: range(0x12_000, 2).0, thread: 4 });
    assert_eq!(ledger.connections().left_behind(5).sum, Sum { count: 1, bytes: 0x3000 });
    ledger.apply(unmap(range(0x10_000, 1), None));
    assert_eq!(ledger.connections().left_behind(5).sum, Sum { count: 1, bytes: 0x2000 });
    ledger.forget(PID);
    assert_eq!(
        (ledger.connections().left_behind(5).sum, ledger.connections().left_behind(5).connections),
        (Sum::default(), 0)
    );
}

fn seed(inode: u64) -> Seed {
    let text = |text: &str| Some(text.to_owned());
    let (local, peer) = (text("10.0.0.1:80"), text("[2001:db8::7]:9"));
    Seed { pid: PID, fd: 4, inode, connected: false, protocol: "tcp", local, peer }
}

#[test]
fn connections_from_before_the_attach_count_once_and_not_as_opened() {
    let mut ledger = Ledger::default();
    (1..=3).for_each(|inode| ledger.connections_mut().seed(seed(inode)));
    ledger.connections_mut().seed(Seed { fd: 5, ..seed(1) });
    assert_eq!(sums(&ledger.connections_mut().figures(SECOND, SECOND)), (3, 0, 0, 0));
    let met = Connected { inode: 1, role: Role::Before as u8, ..record(9) };
    ledger.apply(begun(met));
    ledger.apply(acquired(8, 9, 5, 10));
    let seen = ledger.connections_mut().figures(SECOND, SECOND);
    assert_eq!(sums(&seen), (3, 0, 0, 0));
    let one = seen.table.iter().find(|one| one.connection.number == Some(9)).unwrap();
    assert_eq!((one.connection.id, one.connection.opened_ns), (FIRST_SEED, None));
    assert_eq!(
        (one.held, &one.connection.peer),
        (Sum { count: 1, bytes: 10 }, &seen.table[1].connection.peer)
    );
    ledger.apply(ended(9, 20 * SECOND));
    let seen = ledger.connections_mut().figures(30 * SECOND, SECOND);
    assert_eq!(sums(&seen), (2, 0, 1, 1));
    let client = &seen.clients[0];
    assert_eq!(client.peer, Peer::Host("2001:db8::7".parse().unwrap()));
    assert_eq!((client.open, client.opened, client.closed, client.with_orphans), (2, 0, 1, 1));
    // One that was not found at the attach still counts as opened before.
    ledger.apply(begun(Connected { role: Role::Before as u8, ..record(10) }));
    assert_eq!(sums(&ledger.connections_mut().figures(30 * SECOND, SECOND)), (3, 0, 1, 1));
}

#[test]
fn the_byte_that_opens_a_connection_from_before_the_attach_is_not_counted() {
    let sent = |connected| {
        let mut ledger = Ledger::default();
        ledger.connections_mut().seed(Seed { connected, ..seed(1) });
        ledger.apply(begun(Connected { inode: 1, role: Role::Before as u8, ..record(9) }));
        ledger.apply(ended(9, 20 * SECOND));
        ledger.connections_mut().figures(30 * SECOND, SECOND).clients[0].bytes_out
    };
    assert_eq!((sent(false), sent(true)), (Some(20), Some(19)));
}

#[test]
fn a_connection_that_three_scans_in_a_row_miss_ended_at_the_first_of_them() {
    let mut ledger = ledger(vec![begun(record(1)), begun(record(2))]);
    ledger.connections_mut().seed(seed(1));
    let mut scan = |inodes: &[u64], second: u64, pid: Pid| {
        let found: HashSet<u64> = inodes.iter().copied().collect();
        ledger.connections_mut().scanned(&found, |one| one == pid, second * SECOND);
        ledger.connections_mut().figures(second * SECOND, SECOND).open
    };
    assert_eq!(scan(&[7_002], 10, PID), 3);
    assert_eq!(scan(&[7_002], 11, PID), 3);
    // Then it was there again; and then another process was scanned.
    assert_eq!(scan(&[7_001, 7_002, 1], 12, PID), 3);
    assert_eq!(scan(&[], 13, Pid(2)), 3);
    assert_eq!(scan(&[7_002], 14, PID), 3);
    assert_eq!(scan(&[7_002], 15, PID), 3);
    assert_eq!(scan(&[7_002], 16, PID), 1);
    let seen = ledger.connections_mut().figures(17 * SECOND, SECOND);
    let ends: Vec<_> = seen.recent.iter().map(|one| one.connection.closed.unwrap()).collect();
    let unseen = Closed { at_ns: 14 * SECOND, ..Closed::default() };
    assert_eq!(ends, [unseen, unseen]);
    assert_eq!(ledger.connections_mut().take_ended_unseen(), [(record(1).socket, 1)]);
    assert!(ledger.connections_mut().take_ended_unseen().is_empty());
}

#[test]
fn connections_end_with_their_process_unless_another_has_the_socket() {
    let mut ledger = ledger(vec![begun(record(1)), begun(record(2))]);
    ledger.connections_mut().seed(seed(1));
    let heir = |inode: u64| (inode == 7_002).then_some((Pid(2), 9));
    ledger.connections_mut().exited(PID, 9 * SECOND, heir);
    let seen = ledger.connections_mut().figures(9 * SECOND, SECOND);
    assert_eq!(sums(&seen), (1, 2, 2, 0));
    assert_eq!((seen.table[0].connection.pid, seen.table[0].connection.fd), (Pid(2), 9));
    assert_eq!(seen.by_end, BTreeMap::from([(Some(End::Exit), 2)]));
    // An end event that arrives afterwards is no second end.
    ledger.apply(ended(1, 9 * SECOND));
    assert_eq!(sums(&ledger.connections_mut().figures(9 * SECOND, SECOND)), (1, 2, 2, 0));
}

#[test]
fn the_log_has_opens_closes_and_orphans() {
    let mut ledger = Ledger::default();
    ledger.apply(begun(record(1)));
    assert!(ledger.connections_mut().take_log().is_empty());
    ledger.connections_mut().keep_log();
    ledger.apply(begun(record(2)));
    ledger.apply(begun(Connected { role: 0, ..record(3) }));
    ledger.apply(acquired(8, 2, 5, 100));
    ledger.apply(ended(2, 9 * SECOND));
    ledger.apply(ended(3, 9 * SECOND));
    ledger.connections_mut().settle_until(20 * SECOND, SECOND);
    let entries: Vec<_> = ledger
        .connections_mut()
        .take_log()
        .into_iter()
        .map(|one| match one {
            Occurrence::Opened(one) => ("opened", one.id, Sum::default()),
            Occurrence::Closed(one, held) => ("closed", one.id, held),
            Occurrence::Orphans { id, left, closed_ns, at_ns, .. } => {
                assert_eq!((closed_ns, at_ns), (9 * SECOND, 20 * SECOND));
                ("orphans", id, left)
            }
        })
        .collect();
    let held = Sum { count: 1, bytes: 100 };
    let none = Sum::default();
    let expected =
        [("opened", 2, none), ("closed", 2, held), ("closed", 3, none), ("orphans", 2, held)];
    assert_eq!(entries, expected);
    assert!(ledger.connections_mut().take_log().is_empty());
}

#[test]
fn only_the_connections_that_hold_most_are_listed() {
    let mut ledger = Ledger::default();
    for number in 1..=1_500 {
        ledger.apply(begun(record(number)));
        ledger.apply(acquired(number.into(), number, 5, number.into()));
    }
    let seen = ledger.connections_mut().figures(0, 0);
    let ids: Vec<u64> = seen.table.iter().map(|one| one.connection.id).collect();
    assert_eq!((seen.open, ids), (1_500, (501..=1_500).collect()));
}

/// One connection of the model.
#[derive(Clone, Debug)]
struct Model {
    role: Role,
    closed_ns: Option<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Open {
        role: u8,
    },
    /// For one of the existing connections, or a future one.
    Acquire {
        connection: u32,
        site: u32,
        size: u64,
    },
    Release {
        which: usize,
    },
    Close {
        which: usize,
    },
    Wait {
        ms: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u8..3).prop_map(|role| Step::Open { role }),
        8 => (0_u32..6, 1_u32..4, 0_u64..50)
            .prop_map(|(connection, site, size)| Step::Acquire { connection, site, size }),
        5 => any::<usize>().prop_map(|which| Step::Release { which }),
        3 => any::<usize>().prop_map(|which| Step::Close { which }),
        4 => (0_u64..3_000).prop_map(|ms| Step::Wait { ms }),
    ];
    proptest::collection::vec(step, 1..120)
}

type Blocks = BTreeMap<u64, (u32, u32, u64)>;

fn client_of(number: u32) -> u8 {
    u8::try_from(number % 3).unwrap()
}

/// Compares all figures with those recomputed from the model.
fn compare(ledger: &mut Ledger, all: &BTreeMap<u32, Model>, blocks: &Blocks, now: u64, grace: u64) {
    let seen = ledger.connections_mut().figures(now, grace);
    let past = |number: &u32| {
        all.get(number).is_some_and(|one| one.closed_ns.is_some_and(|at| now - at >= grace))
    };
    let left: Vec<_> = blocks.values().filter(|(number, ..)| past(number)).collect();
    let leaving: BTreeSet<u32> = left.iter().map(|(number, ..)| *number).collect();
    let closed = all.values().filter(|one| one.closed_ns.is_some()).count();
    let expected =
        ((all.len() - closed) as u64, all.len() as u64, closed as u64, leaving.len() as u64);
    assert_eq!(sums(&seen), expected);
    for site in 1..4 {
        let here: Vec<_> = left.iter().filter(|(_, at, _)| *at == site).collect();
        let from: BTreeSet<u32> = here.iter().map(|(number, ..)| *number).collect();
        let roles: BTreeSet<Role> = from.iter().map(|number| all[number].role).collect();
        let compared = all
            .iter()
            .filter(|(number, one)| past(number) && (from.is_empty() || roles.contains(&one.role)))
            .count();
        let share = (compared > 0).then(|| from.len() as f64 / compared as f64);
        let bytes = here.iter().map(|(_, _, size)| size).sum();
        let sum = Sum { count: here.len() as u64, bytes };
        let connections = from.len() as u64;
        assert_eq!(ledger.connections().left_behind(site), LeftBehind { sum, connections, share });
    }
    for client in &seen.clients {
        let Peer::Host(std::net::IpAddr::V4(host)) = client.peer else { panic!("no host") };
        let [.., last] = host.octets();
        let own: Vec<_> = all.iter().filter(|(number, _)| client_of(**number) == last).collect();
        let closed = own.iter().filter(|(_, one)| one.closed_ns.is_some()).count() as u64;
        let mine: Vec<_> = left.iter().filter(|(number, ..)| client_of(*number) == last).collect();
        let orphans =
            Sum { count: mine.len() as u64, bytes: mine.iter().map(|(_, _, size)| size).sum() };
        let with = leaving.iter().filter(|number| client_of(**number) == last).count() as u64;
        assert_eq!((client.opened, client.closed), (own.len() as u64, closed));
        assert_eq!(client.open, client.opened - client.closed);
        assert_eq!((client.orphans, client.with_orphans), (orphans, with));
    }
    let mut held: BTreeMap<(u32, u32), Sum> = BTreeMap::new();
    blocks
        .values()
        .for_each(|(number, site, size)| held.entry((*number, *site)).or_default().add(*size));
    let held: Vec<_> = held
        .into_iter()
        .map(|((number, site), sum)| (number, site, sum.count, sum.bytes))
        .collect();
    assert_eq!(ledger.resources.totals.connections.items(), held);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    /// Whenever blocks are acquired and released, before their connection is known or after its end, the resources left
    /// behind are those of connections that closed long enough ago.
    #[test]
    fn agrees_with_a_model_that_keeps_everything(steps in steps(), grace_ms in 0_u64..6_000) {
        let grace = grace_ms * 1_000_000;
        let mut ledger = Ledger::default();
        let (mut all, mut blocks) = (BTreeMap::<u32, Model>::new(), Blocks::new());
        let (mut now, mut next, mut address) = (SECOND, 1_u32, 0_u64);
        for step in steps {
            match step {
                Step::Open { role } => {
                    let mut one = Connected { role, ..record(next) };
                    one.peer[3] = client_of(next);
                    ledger.apply(begun(one));
                    all.insert(next, Model { role: Role::from_number(role), closed_ns: None });
                    next += 1;
                }
                Step::Acquire { connection, site, size } => {
                    let number = (next + 2).saturating_sub(connection).max(1);
                    let closed = all.get(&number).and_then(|one| one.closed_ns);
                    if closed.is_none_or(|at| now - at < IN_FLIGHT_NS) {
                        address += 16;
                        ledger.apply(acquired(address, number, site, size));
                        blocks.insert(address, (number, site, size));
                    }
                }
                Step::Release { which } => {
                    let Some(address) = blocks.keys().nth(which % blocks.len().max(1)).copied() else { continue };
                    ledger.apply(released(address));
                    blocks.remove(&address);
                }
                Step::Close { which } => {
                    let mut open = all.iter_mut().filter(|(_, one)| one.closed_ns.is_none());
                    let Some((number, one)) = open.nth(which % 4) else { continue };
                    one.closed_ns = Some(now);
                    ledger.apply(ended(*number, now));
                }
                Step::Wait { ms } => now += ms * 1_000_000,
            }
            compare(&mut ledger, &all, &blocks, now, grace);
        }
        // In the end only needed entries are kept.
        now += 3_600 * SECOND;
        compare(&mut ledger, &all, &blocks, now, grace);
        let open = all.iter().filter(|(_, one)| one.closed_ns.is_none()).map(|(number, _)| *number);
        let needed: BTreeSet<u32> = open.chain(blocks.values().map(|(number, ..)| *number)).collect();
        prop_assert_eq!(ledger.resources.totals.connections.holdings.kept(), needed.len());
    }
}
