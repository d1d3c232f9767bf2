//! The made-up server, with its file descriptors and connections.

use std::collections::BTreeMap;

use tracer_common::kind::Kind;

use super::{bare, buffers, named, plugin, sample, sessions, site, totals};
use crate::report::{
    Amount, Client, ClosedBy, Connection, ConnectionRole, Connections, Fd, FdBackend, FdType, Fds,
    LeftBehind, Orphans, Protocol, Report, Site, SocketState, Turnover, Word,
};

/// A server that forgets sessions of closed connections, and connections that peers have closed.
pub fn served() -> Report {
    let mut report = sample();
    report.sites = vec![forgotten(), buffers(), plugin(), accepting(), events()];
    report.totals = totals(&report.sites);
    report.host.fd_backend = Some(FdBackend::Tracepoint.into());
    report.fds = Some(fds());
    report.connections = Some(connections());
    report
}

/// Connections that left their session behind when they were closed.
const FORGETFUL: u64 = 5_231;
/// All that were closed.
const CLOSED: u64 = 9_120;
/// What is acquired for each.
const SESSION: Amount = Amount { count: 3, bytes: 12_288 };

/// What they left behind.
fn orphans() -> Orphans {
    Orphans {
        count: FORGETFUL * SESSION.count,
        bytes: FORGETFUL * SESSION.bytes,
        connections: FORGETFUL,
        share: Some(FORGETFUL as f64 / CLOSED as f64),
    }
}

/// Three blocks for each connection, of which many connections leave theirs behind.
fn forgotten() -> Site {
    let template = sessions();
    let figures = site(1, Kind::Heap, "", 4096, (3 * (FORGETFUL + 400), 3 * (CLOSED + 400)));
    Site {
        orphans: Some(orphans()),
        growth_bytes_per_s: template.growth_bytes_per_s,
        growth_count_per_s: template.growth_count_per_s,
        verdict: template.verdict,
        headline: template.headline,
        frames: template.frames,
        acquired_by: template.acquired_by,
        ..figures
    }
}

fn descriptors(site: Site, fd_type: FdType) -> Site {
    Site { fd_type: Some(fd_type.into()), growth_bytes_per_s: Some(0.0), ..site }
}

/// Where connections are accepted.
fn accepting() -> Site {
    let frames = [
        bare(0x7f12_9c02_2f31, "/usr/lib/libuSockets.so", 0x2f31, "the object has no symbols"),
        named(0x55d0_1a20_2244, "main", "src/gateway.cpp", 311, false),
    ];
    Site {
        growth_count_per_s: Some(0.4),
        frames: frames.into(),
        headline: 1,
        ..descriptors(site(5, Kind::Socket, "accept4", 0, (400, CLOSED + 400)), FdType::Socket)
    }
}

/// What no connection has to do with.
fn events() -> Site {
    let frames = [named(0x55d0_1a20_7711, "publish_error", "src/bus.cpp", 141, false)];
    Site {
        growth_count_per_s: Some(0.4),
        frames: frames.into(),
        ..descriptors(site(6, Kind::Fd, "eventfd2", 0, (294, 294)), FdType::Eventfd)
    }
}

fn turned(
    fd_type: FdType,
    open: u64,
    closed: u64,
    growth_per_s: Option<f64>,
) -> (Word<FdType>, Turnover) {
    (fd_type.into(), Turnover { open, opened: open + closed, closed, growth_per_s })
}

fn fds() -> Fds {
    let turnover = [
        turned(FdType::Device, 3, 0, Some(0.0)),
        turned(FdType::Epoll, 2, 0, Some(0.0)),
        turned(FdType::Eventfd, 294, 0, Some(0.4)),
        turned(FdType::File, 11, 4_109, None),
        turned(FdType::Socket, 403, 9_120, Some(-0.02)),
    ];
    Fds {
        open: 713,
        opened: Some(13_942),
        closed: Some(13_229),
        opened_per_s: Some(215.2),
        growth_per_s: Some(0.4),
        limit: Some(1024),
        seconds_to_limit: Some(777.5),
        seconds_to_limit_between: Some((540.0, Some(1_320.0))),
        by_type: turnover.iter().map(|(fd_type, one)| (fd_type.clone(), one.open)).collect(),
        turnover_by_type: turnover.into(),
        opened_unseen: Some(2),
        closed_unseen: Some(0),
        table: table(),
    }
}

fn fd(number: u32, fd_type: FdType, what: &str) -> Fd {
    Fd {
        pid: 4121,
        fd: number,
        fd_type: fd_type.into(),
        what: Some(what.to_owned()),
        acquired_by: None,
        site: None,
        age_s: None,
        pre_attach: true,
        state: None,
        state_s: None,
        peer: None,
        local: None,
    }
}

fn socket(number: u32, age_s: f64, state: SocketState, state_s: Option<f64>, peer: &str) -> Fd {
    Fd {
        acquired_by: Some(Word::named("accept4")),
        site: Some(5),
        age_s: Some(age_s),
        pre_attach: false,
        state: Some(state.into()),
        state_s,
        peer: Some(peer.to_owned()),
        local: Some("10.0.0.1:8443".to_owned()),
        ..fd(number, FdType::Socket, &format!("socket:[{}]", 88_000 + number))
    }
}

/// Not all 713: a report may be asked for fewer rows than there are.
fn table() -> Vec<Fd> {
    let early = [
        fd(0, FdType::Device, "/dev/null"),
        fd(1, FdType::Device, "/dev/pts/3"),
        fd(3, FdType::File, "/var/log/gateway\u{1b}[31m.log"),
        fd(4, FdType::Epoll, "anon_inode:[eventpoll]"),
        Fd {
            state: Some(SocketState::Listen.into()),
            local: Some("0.0.0.0:8443".to_owned()),
            ..fd(5, FdType::Socket, "socket:[81205]")
        },
    ];
    let event = Fd {
        acquired_by: Some(Word::named("eventfd2")),
        site: Some(6),
        age_s: Some(611.0),
        pre_attach: false,
        ..fd(16, FdType::Eventfd, "anon_inode:[eventfd]")
    };
    let sockets = [
        socket(17, 700.0, SocketState::CloseWait, Some(640.0), "10.0.0.7:50122"),
        socket(18, 12.5, SocketState::Established, Some(12.5), "10.0.0.9:41008"),
        socket(21, 690.0, SocketState::CloseWait, Some(615.0), "10.0.0.7:50190"),
        socket(24, 640.0, SocketState::CloseWait, None, "[2001:db8::7]:50301"),
        socket(25, 90.0, SocketState::CloseWait, Some(31.0), "10.0.0.7:51733"),
    ];
    let fresh = Fd {
        what: None,
        age_s: Some(0.1),
        acquired_by: Some(Word::named("openat")),
        pre_attach: false,
        ..fd(26, FdType::File, "")
    };
    early.into_iter().chain([event]).chain(sockets).chain([fresh]).collect()
}

fn connection(id: u64, fd: u32, opened_s: f64, peer: &str) -> Connection {
    Connection {
        id,
        pid: 4121,
        fd: Some(fd),
        protocol: Protocol::Tcp.into(),
        role: Some(ConnectionRole::Accepted),
        local: Some("10.0.0.1:8443".to_owned()),
        peer: Some(peer.to_owned()),
        opened_s: Some(opened_s),
        age_s: Some(761.0 - opened_s),
        closed_s: None,
        bytes_in: Some(1_840),
        bytes_out: Some(96_256),
        state: Some(SocketState::Established.into()),
        state_s: Some(761.0 - opened_s),
        closed_by: None,
        held: SESSION,
        orphans: Amount::default(),
        site: Some(5),
        pre_attach: false,
    }
}

/// One that has ended after `age_s` seconds.
fn ended(begun: Connection, age_s: f64, by: ClosedBy, orphans: Amount) -> Connection {
    Connection {
        fd: None,
        age_s: Some(age_s),
        closed_s: begun.opened_s.map(|opened| opened + age_s),
        state: None,
        state_s: None,
        closed_by: Some(by.into()),
        held: orphans,
        orphans,
        ..begun
    }
}

fn connections() -> Connections {
    let half_closed = |id, fd, opened_s, state_s, peer| Connection {
        state: Some(SocketState::CloseWait.into()),
        state_s,
        ..connection(id, fd, opened_s, peer)
    };
    let table = vec![
        Connection {
            role: None,
            opened_s: None,
            age_s: None,
            state_s: None,
            bytes_in: None,
            bytes_out: None,
            held: Amount::default(),
            site: None,
            pre_attach: true,
            ..connection(1, 9, 0.0, "10.0.0.3:33060")
        },
        half_closed(2, 17, 61.0, Some(640.0), "10.0.0.7:50122"),
        half_closed(4, 21, 71.0, Some(615.0), "10.0.0.7:50190"),
        half_closed(7, 24, 121.0, None, "[2001:db8::7]:50301"),
        half_closed(9_001, 25, 671.0, Some(31.0), "10.0.0.7:51733"),
        connection(9_519, 18, 748.5, "10.0.0.9:41008"),
        Connection {
            protocol: Protocol::Unix.into(),
            role: Some(ConnectionRole::Connected),
            local: None,
            state: None,
            state_s: None,
            peer: Some("/run/bus\u{1b}[31m.sock".to_owned()),
            ..connection(9_520, 30, 750.0, "")
        },
    ];
    let recently_closed = vec![
        ended(connection(9_522, 31, 759.0, "10.0.0.7:51790"), 1.5, ClosedBy::Peer, SESSION),
        ended(connection(9_521, 27, 758.0, "10.0.0.9:41011"), 0.8, ClosedBy::Us, Amount::default()),
        ended(connection(9_518, 27, 741.0, "10.0.0.7:51744"), 16.0, ClosedBy::Reset, SESSION),
    ];
    Connections {
        open: 402,
        opened: 9_521,
        closed: CLOSED,
        opened_per_s: Some(210.0),
        with_orphans: FORGETFUL,
        left_behind: vec![LeftBehind { site: 1, orphans: orphans() }],
        by_end: BTreeMap::from([
            (ClosedBy::Peer.into(), 7_310),
            (ClosedBy::Reset.into(), 12),
            (ClosedBy::Us.into(), 1_798),
        ]),
        clients: clients(),
        table,
        recently_closed,
    }
}

fn clients() -> Vec<Client> {
    let client = |address: &str, opened, open, with_orphans| Client {
        address: address.to_owned(),
        opened,
        open,
        closed: opened - open,
        opened_per_s: Some(opened as f64 / 45.0),
        bytes_in: Some(opened * 1_840),
        bytes_out: Some(opened * 96_256),
        orphan_count: with_orphans * SESSION.count,
        orphan_bytes: with_orphans * SESSION.bytes,
        with_orphans,
    };
    vec![
        client("10.0.0.7", 5_610, 379, FORGETFUL - 2),
        client("2001:db8::7", 4, 2, 2),
        client("10.0.0.9", 3_906, 19, 0),
        // From before the attach.
        Client { address: "10.0.0.3".to_owned(), open: 1, ..Client::default() },
    ]
}
