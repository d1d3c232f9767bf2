//! From events of connections and resources to the report's connections.

use tracer_common::{
    connection::{CLOSE_WAIT, INET, TCP},
    kind::Kind,
    record::{CONNECTED, Connected, DISCONNECTED, Disconnected},
};

use super::*;
use crate::{
    ledger::{
        Ledger,
        events::{Block, Event, Handle},
    },
    report::{Protocol, SocketState},
    snapshot::site_figures,
    target::Pid,
};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 100 * SECOND;
const GRACE: u64 = 5 * SECOND;

fn connected(number: u32, role: Role, host: u8, second: u64) -> Event {
    let mut record = Connected {
        record: CONNECTED,
        number,
        pid: 7,
        fd: number + 10,
        position: 0,
        time_ns: START + second * SECOND,
        socket: 0xffff_0000 + u64::from(number) * 64,
        inode: 5_000 + u64::from(number),
        site: 3,
        peer_pid: 0,
        family: INET,
        local_port: 80,
        peer_port: 40_000,
        protocol: TCP,
        role: role as u8,
        local: [0; 16],
        peer: [0; 16],
        path_length: 0,
        path: [0; 108],
    };
    record.local[..4].copy_from_slice(&[10, 0, 0, 1]);
    record.peer[..4].copy_from_slice(&[10, 0, 0, host]);
    Event::Connected(Box::new(record))
}

fn disconnected(number: u32, second: u64, by_peer: bool) -> Event {
    Event::Disconnected(Disconnected {
        record: DISCONNECTED,
        number,
        position: 0,
        time_ns: START + second * SECOND,
        // The peer's FIN counts as one byte.
        bytes_in: 100 + u64::from(by_peer),
        bytes_out: u64::MAX,
        ended_ns: u64::from(by_peer),
        state: CLOSE_WAIT,
        error: 0,
        present: 0,
    })
}

fn acquired(connection: u32, site: u32, size: u64) -> Event {
    Event::Acquired {
        handle: Handle {
            pid: Pid(7),
            kind: Kind::Heap,
            value: u64::from(connection) << 16 | u64::from(site) << 4,
        },
        block: Block { size, time_ns: START, position: 0, site, connection },
    }
}

fn at(ledger: &mut Ledger, second: u64) -> Snapshot {
    let at_ns = START + second * SECOND;
    let connections = Some(ledger.connections_mut().figures(at_ns, GRACE));
    let sites = site_figures(ledger, at_ns, GRACE, || {});
    Snapshot { at_ns, sites, connections, ..Snapshot::default() }
}

/// Twelve connections are accepted, three are opened by the target. Each accepted one that has closed leaves a block
/// of 64 bytes, every third one another of 1,000 bytes; two stay open.
fn scenario() -> Ledger {
    let mut ledger = Ledger::default();
    for number in 1..=15 {
        let role = if number > 12 { Role::Connected } else { Role::Accepted };
        let host = if number % 3 == 0 { 9 } else { 8 };
        ledger.apply(connected(number, role, host, number.into()));
        ledger.apply(acquired(number, 6, 10));
        if role == Role::Accepted {
            ledger.apply(acquired(number, 4, 64));
        }
        if number % 3 == 0 && number <= 9 {
            ledger.apply(acquired(number, 5, 1_000));
        }
    }
    for number in (1..=9).chain(14..=15) {
        ledger.apply(disconnected(number, 20, number % 2 == 0));
        // Resources of this call site are released with their connection.
        ledger.apply(Event::Released {
            handle: Handle {
                pid: Pid(7),
                kind: Kind::Heap,
                value: u64::from(number) << 16 | 6 << 4,
            },
            size: 0,
            position: 0,
            time_ns: 0,
            probe: 0,
            caller: 0,
            resizing: None,
        });
    }
    ledger
}

#[test]
fn orphans_are_reported_by_call_site_and_by_client() {
    let mut ledger = scenario();
    let mut history = History::default();
    let early = at(&mut ledger, 24);
    let seen = report(&early, START, &mut history).unwrap();
    assert_eq!((seen.open, seen.opened, seen.closed, seen.with_orphans), (4, 15, 11, 0));
    let snapshot = at(&mut ledger, 25);
    let seen = report(&snapshot, START, &mut history).unwrap();
    assert_eq!((seen.open, seen.opened, seen.closed, seen.with_orphans), (4, 15, 11, 9));
    let ends: Vec<_> = seen.by_end.iter().map(|(end, count)| (end.name(), *count)).collect();
    assert_eq!(ends, [("peer", 5), ("us", 6)]);
    let of = |number: u32| {
        let site = snapshot.sites.iter().find(|site| site.number == number).unwrap();
        orphans(&snapshot, &site.orphans).unwrap()
    };
    // All accepted connections that closed; those that the target opened do not count.
    let all = Orphans { count: 9, bytes: 9 * 64, connections: 9, share: Some(1.0) };
    assert_eq!(of(4), all);
    let third = Orphans { count: 3, bytes: 3_000, connections: 3, share: Some(3.0 / 9.0) };
    assert_eq!(of(5), third);
    assert_eq!(of(6), Orphans { count: 0, bytes: 0, connections: 0, share: Some(0.0) });
    let clients: Vec<_> = seen
        .clients
        .iter()
        .map(|one| {
            let Client { address, opened, open, closed, .. } = one;
            let left = (one.orphan_count, one.orphan_bytes, one.with_orphans);
            (address.as_str(), (*opened, *open, *closed), left, one.bytes_in, one.bytes_out)
        })
        .collect();
    let expected = [
        ("10.0.0.9", (5, 1, 4), (6, 3_192, 3), Some(400), None),
        ("10.0.0.8", (10, 3, 7), (6, 384, 6), Some(700), None),
    ];
    assert_eq!(clients, expected);
}

#[test]
fn a_connection_is_reported_with_times_and_held_resources() {
    let mut ledger = scenario();
    let snapshot = at(&mut ledger, 25);
    let seen = report(&snapshot, START, &mut History::default()).unwrap();
    let open: Vec<u64> = seen.table.iter().map(|one| one.id).collect();
    assert_eq!(open, [10, 11, 12, 13]);
    let expected = Connection {
        id: 10,
        pid: 7,
        fd: Some(20),
        protocol: Protocol::Tcp.into(),
        role: Some(ConnectionRole::Accepted),
        local: Some("10.0.0.1:80".to_owned()),
        peer: Some("10.0.0.8:40000".to_owned()),
        opened_s: Some(10.0),
        age_s: Some(15.0),
        closed_s: None,
        bytes_in: None,
        bytes_out: None,
        state: None,
        state_s: None,
        closed_by: None,
        held: Amount { count: 2, bytes: 74 },
        orphans: Amount::default(),
        site: Some(3),
        pre_attach: false,
    };
    assert_eq!(seen.table[0], expected);
    assert_eq!(seen.recently_closed.len(), 11);
    let last = &seen.recently_closed[0];
    assert_eq!((last.id, last.fd, last.role), (15, None, Some(ConnectionRole::Connected)));
    let third = seen.recently_closed.iter().find(|one| one.id == 3).unwrap();
    let left = Amount { count: 2, bytes: 1_064 };
    let expected = Connection {
        id: 3,
        fd: None,
        peer: Some("10.0.0.9:40000".to_owned()),
        opened_s: Some(3.0),
        age_s: Some(17.0),
        closed_s: Some(20.0),
        bytes_in: Some(100),
        closed_by: Some(ClosedBy::Us.into()),
        held: left,
        orphans: left,
        ..expected
    };
    assert_eq!(*third, expected);
}

#[test]
fn rates_are_known_after_a_while_in_total_and_by_client() {
    let mut ledger = Ledger::default();
    let mut history = History::default();
    let mut seen = None;
    for second in 0..6 {
        for one in 0..4 {
            let number = u32::try_from(second * 4 + one + 1).unwrap();
            let host = if one == 0 { 9 } else { 8 };
            ledger.apply(connected(number, Role::Accepted, host, second));
        }
        seen = report(&at(&mut ledger, second), START, &mut history);
    }
    let seen = seen.unwrap();
    let near = |rate: Option<f64>, expected: f64| (rate.unwrap() - expected).abs() < 1e-6;
    assert!(near(seen.opened_per_s, 4.0), "{:?}", seen.opened_per_s);
    assert_eq!(seen.clients[0].address, "10.0.0.8");
    assert!(near(seen.clients[0].opened_per_s, 3.0) && near(seen.clients[1].opened_per_s, 1.0));
}

#[test]
fn no_connections_in_the_report_unless_traced() {
    let snapshot = Snapshot::default();
    assert_eq!(report(&snapshot, 0, &mut History::default()), None);
    assert_eq!(orphans(&snapshot, &traced::LeftBehind::default()), None);
}

#[test]
fn every_kernel_socket_state_has_a_name() {
    // `include/net/tcp_states.h` of the kernel: `TCP_NEW_SYN_RECV` is the last that sockets show.
    for number in 1..=12 {
        let name = crate::target::sockets::tcp_state(number).unwrap();
        assert!(Word::<SocketState>::named(name).known().is_some(), "{name}");
    }
}
