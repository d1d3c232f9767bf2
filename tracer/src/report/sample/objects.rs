//! The made-up server, with objects of libraries.

use tracer_common::kind::Kind;

use super::{named, served, site, totals};
use crate::report::{
    Address, Frame, LibraryObject, LibraryObjects, ObjectState, ObjectType, Report, Resource, Site,
};

/// A server whose connections are `bufferevent`s that own two `evbuffer`s each, some of whose TLS sessions are still
/// referred to after their release was asked for, and that opens message sockets for errors and never closes them.
pub fn objects() -> Report {
    let mut report = served();
    report.sites.extend(sites());
    report.totals = totals(&report.sites);
    report.objects = Some(LibraryObjects { types: types(), table: table() });
    report
}

const EVENT: &str = "/usr/lib/x86_64-linux-gnu/libevent-2.1.so.7";

fn of(kind: &str, site: Site, frames: &[Frame]) -> Site {
    Site { kind: Resource::from(kind), frames: frames.into(), ..site }
}

fn inside(symbol: &str) -> Frame {
    Frame {
        module: Some(EVENT.into()),
        file: None,
        line: None,
        ..named(0x7f12_9d01_44d0, symbol, "", 0, false)
    }
}

fn sites() -> Vec<Site> {
    let accept = named(0x55d0_1a20_6120, "on_accept", "src/gateway.cpp", 77, false);
    let main = named(0x55d0_1a20_2244, "main", "src/gateway.cpp", 311, false);
    let error = named(0x55d0_1a20_7711, "publish_error", "src/bus.cpp", 141, false);
    let start = named(0x55d0_1a20_7402, "start_bus", "src/bus.cpp", 38, false);
    let made = inside("bufferevent_socket_new");
    let connections = site(11, Kind::Object, "bufferevent_socket_new", 592, (402, 9_522));
    vec![
        Site {
            growth_bytes_per_s: Some(237.0),
            growth_count_per_s: Some(0.4),
            ..of("bufferevent", connections, &[accept.clone(), main.clone()])
        },
        Site {
            headline: 1,
            growth_bytes_per_s: Some(128.0),
            growth_count_per_s: Some(0.8),
            ..of(
                "evbuffer",
                site(12, Kind::Object, "evbuffer_new", 160, (804, 19_044)),
                &[made, accept.clone(), main.clone()],
            )
        },
        of(
            "SSL",
            site(13, Kind::Object, "SSL_new", 6_032, (396, 9_516)),
            &[named(0x55d0_1a20_6022, "start_tls", "src/tls.cpp", 52, false), accept, main.clone()],
        ),
        Site {
            growth_bytes_per_s: Some(541.0),
            growth_count_per_s: Some(0.4),
            ..of("zmq_socket", site(14, Kind::Object, "zmq_socket", 1_352, (294, 294)), &[error])
        },
        of(
            "zmq_socket",
            site(15, Kind::Object, "zmq_socket", 1_352, (2, 2)),
            &[start.clone(), main.clone()],
        ),
        of("zmq_ctx", site(16, Kind::Object, "zmq_ctx_new", 760, (1, 1)), &[start, main.clone()]),
        Site {
            age_s: None,
            ..of(
                "evhttp_request",
                site(17, Kind::Object, "evhttp_request_new", 416, (0, 4_109)),
                &[inside("evhttp_handle_request"), main],
            )
        },
    ]
}

fn kind(name: &str, library: &str, sentence: &str, (live, created): (u64, u64)) -> ObjectType {
    ObjectType {
        name: name.to_owned(),
        library: library.to_owned(),
        sentence: sentence.to_owned(),
        live,
        release_asked: Some(0),
        created,
        destroyed: created - live,
        created_per_s: Some(created as f64 / 45.0),
        bytes: 0,
        owned_bytes: 0,
        oldest_s: Some(700.0),
        queued_bytes: None,
        pending: None,
        summed: None,
        site: None,
    }
}

fn types() -> Vec<ObjectType> {
    let bufferevent =
        kind("bufferevent", "libevent", "a connection with its buffers", (402, 9_522));
    let evbuffer = kind("evbuffer", "libevent", "a queue of bytes", (804, 19_044));
    let ssl = kind("SSL", "OpenSSL", "one end of a TLS connection", (396, 9_516));
    let socket = kind("zmq_socket", "ZeroMQ", "a socket of ZeroMQ", (296, 296));
    let context = kind("zmq_ctx", "ZeroMQ", "what sockets of ZeroMQ live in", (1, 1));
    let request = kind("evhttp_request", "libevent", "a request of HTTP", (0, 4_109));
    vec![
        ObjectType { release_asked: Some(9), bytes: 396 * 6_032, site: Some(13), ..ssl },
        ObjectType { bytes: 296 * 1_352, site: Some(14), created_per_s: Some(0.4), ..socket },
        ObjectType {
            bytes: 402 * 592,
            owned_bytes: 804 * 160,
            pending: Some(2),
            summed: Some(2),
            site: Some(11),
            ..bufferevent
        },
        ObjectType {
            bytes: 804 * 160,
            queued_bytes: Some(70_144),
            summed: Some(4),
            site: Some(12),
            ..evbuffer
        },
        ObjectType {
            bytes: 760,
            oldest_s: Some(760.0),
            created_per_s: None,
            site: Some(16),
            ..context
        },
        ObjectType { oldest_s: None, ..request },
    ]
}

fn object(type_name: &str, site: u32, address: u64, age_s: f64, bytes: u64) -> LibraryObject {
    LibraryObject {
        pid: 4121,
        type_name: type_name.to_owned(),
        address: Address(address),
        site,
        age_s,
        state: ObjectState::Live,
        release_asked_s: None,
        bytes,
        owned_bytes: 0,
        label: None,
        fd: None,
        peer: None,
        connection: None,
        owner: None,
        references: None,
        queued_bytes: None,
        pending: None,
    }
}

/// Of some connections all there is.
fn table() -> Vec<LibraryObject> {
    let connection = |address, age_s, fd, peer: &str, number| LibraryObject {
        owned_bytes: 2 * 160,
        label: Some("on_read".to_owned()),
        fd: Some(fd),
        peer: Some(peer.to_owned()),
        connection: Some(number),
        references: Some(1),
        pending: Some(true),
        ..object("bufferevent", 11, address, age_s, 592)
    };
    let buffer = |address, age_s, owner, queued, number| LibraryObject {
        connection: Some(number),
        owner: Some(Address(owner)),
        references: Some(1),
        queued_bytes: Some(queued),
        ..object("evbuffer", 12, address, age_s, 160)
    };
    let asked = |address, age_s, since_s, references, peer: Option<&str>| LibraryObject {
        state: ObjectState::ReleaseAsked,
        release_asked_s: Some(since_s),
        references,
        peer: peer.map(str::to_owned),
        ..object("SSL", 13, address, age_s, 6_032)
    };
    let session = LibraryObject {
        label: Some("api.example".to_owned()),
        fd: Some(18),
        peer: Some("10.0.0.9:41008".to_owned()),
        connection: Some(9_519),
        references: Some(1),
        ..object("SSL", 13, 0x7f12_8001_2340, 12.5, 6_032)
    };
    let bus = |site, address, age_s, endpoint: &str| LibraryObject {
        label: Some(endpoint.to_owned()),
        ..object("zmq_socket", site, address, age_s, 1_352)
    };
    vec![
        connection(0x7f12_8000_4a10, 700.0, 17, "10.0.0.7:50122", 2),
        connection(0x7f12_8000_77c0, 12.5, 18, "10.0.0.9:41008", 9_519),
        buffer(0x7f12_8000_4c70, 700.0, 0x7f12_8000_4a10, 65_536, 2),
        buffer(0x7f12_8000_4d20, 700.0, 0x7f12_8000_4a10, 0, 2),
        buffer(0x7f12_8000_7a20, 12.5, 0x7f12_8000_77c0, 4_608, 9_519),
        buffer(0x7f12_8000_7ad0, 12.5, 0x7f12_8000_77c0, 0, 9_519),
        asked(0x7f12_8001_0010, 700.0, 640.0, Some(2), None),
        asked(0x7f12_8001_1b50, 690.0, 615.0, Some(2), Some("10.0.0.7:50190")),
        asked(0x7f12_8001_5f60, 90.0, 0.4, None, None),
        session,
        bus(14, 0x55d0_1c00_9910, 611.0, "tcp://10.0.0.20:5557"),
        bus(14, 0x55d0_1c00_a020, 608.5, "tcp://10.0.0.20:5557"),
        bus(15, 0x55d0_1bff_0a00, 760.0, "inproc://log\u{1b}[31m"),
        bus(15, 0x55d0_1bff_1100, 760.0, "ipc:///run/bus.sock"),
        object("zmq_ctx", 16, 0x55d0_1bfe_0010, 760.0, 760),
    ]
}
