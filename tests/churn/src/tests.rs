//! `churn` against servers in this process.

use std::{net::TcpListener, os::unix::net::UnixListener, sync::atomic::AtomicU64};

use super::*;
use crate::{
    figures::Figures,
    words::{GREETING_BYTES, READY, greeting},
};

/// A server's handler: serves a connection until it has nothing more to send.
type Serve = fn(&mut dyn Wire);

/// A stream of either kind.
trait Wire: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> Wire for T {}

/// Serves each connection in a thread of its own, and counts them.
fn serve(
    connections: impl Iterator<Item = impl Wire + Send + 'static> + Send + 'static,
    serve: Serve,
) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let accepted = Arc::clone(&count);
    thread::spawn(move || {
        for mut connection in connections {
            accepted.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || serve(&mut connection));
        }
    });
    count
}

fn serve_tcp(address: &str, with: Serve) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let accept = std::iter::from_fn(move || Some(listener.accept().unwrap().0));
    (port, serve(accept, with))
}

/// Answers each request with a page, and closes if the request says so.
fn http(wire: &mut dyn Wire) {
    let mut heard = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = wire.read(&mut bytes) {
        heard.extend_from_slice(&bytes[..count]);
        while let Some(end) = heard.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = heard.drain(..end + 4).collect();
            if wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").is_err()
                || String::from_utf8_lossy(&head).contains("Connection: close")
            {
                return;
            }
        }
    }
}

/// Sends a greeting and `READY`, and rejects a wrong greeting.
fn zmtp(wire: &mut dyn Wire) {
    let mut theirs = [0; GREETING_BYTES];
    let hello = [greeting(), vec![4, 28], READY.to_vec()].concat();
    if wire.write_all(&hello).is_err()
        || wire.read_exact(&mut theirs).is_err()
        || theirs[..] != greeting()
    {
        return;
    }
    while matches!(wire.read(&mut [0; 64]), Ok(1..)) {}
}

fn run(words: &[&str]) -> Report {
    churn(&Order::read(words).unwrap(), &Arc::new(AtomicBool::new(false))).unwrap()
}

/// Each connection was established and ended once, and the server counted as many.
fn agree(report: &Report, accepted: &AtomicU64) {
    for (name, way) in &report.account.ways {
        let ends = [way.closed_by_us, way.closed_by_server, way.reset_by_us, way.reset_by_server];
        assert_eq!(ends.iter().sum::<u64>(), way.connected, "{name}");
        assert_eq!(way.connected, way.attempted, "{name}");
    }
    let connected = report.account.total().connected;
    let start = Instant::now();
    while accepted.load(Ordering::Relaxed) < connected && start.elapsed() < Duration::from_secs(10)
    {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(accepted.load(Ordering::Relaxed), connected);
}

#[test]
fn every_way_over_zmtp() {
    let (port, accepted) = serve_tcp("127.0.0.1", zmtp);
    let report =
        run(&["--port", &port, "--protocol", "zmtp", "--connections", "110", "--at-once", "10"]);
    agree(&report, &accepted);
    let ways = &report.account.ways;
    assert_eq!(ways.len(), 10, "{:?}", ways.keys());
    assert_eq!((ways["polite"].answered, ways["polite"].closed_by_us), (11, 11));
    let refused = &ways["bad-greeting"];
    assert_eq!(refused.closed_by_server + refused.reset_by_server, 11);
    assert!(report.account.total().unexpected.is_empty(), "{:?}", report.account.total());
}

#[test]
fn every_way_over_ipv6_and_without_a_protocol() {
    let (port, accepted) = serve_tcp("::1", http);
    let target = ["--port", &port, "--address", "[::1]"];
    let report = run(&[&target[..], &["--connections", "65"]].concat());
    agree(&report, &accepted);
    assert_eq!(report.account.ways["polite"].answered, 5);
    assert_eq!(report.account.sources.keys().collect::<Vec<_>>(), ["::1"]);
    let before = accepted.swap(0, Ordering::Relaxed);
    assert_eq!(before, 65);
    let report = run(&[&target[..], &["--protocol", "tcp", "--connections", "40"]].concat());
    agree(&report, &accepted);
    assert_eq!(report.account.ways.len(), 8, "{:?}", report.account.ways.keys());
}

#[test]
fn every_way_over_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("churn-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let accepted = serve(std::iter::from_fn(move || Some(listener.accept().unwrap().0)), http);
    let report = run(&["--unix", path.to_str().unwrap(), "--connections", "60", "--at-once", "12"]);
    std::fs::remove_file(&path).unwrap();
    agree(&report, &accepted);
    assert_eq!(report.account.ways.len(), 12);
    assert_eq!(report.account.ways["keep-alive"].answered, 15);
    assert!(!report.account.ways.contains_key("reset"));
}

#[test]
fn bytes_equal_the_servers_count() {
    static HEARD: AtomicU64 = AtomicU64::new(0);
    let (port, accepted) = serve_tcp("127.0.0.1", |wire| {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = wire.read(&mut bytes) {
            HEARD.fetch_add(count as u64, Ordering::Relaxed);
        }
    });
    let ways = "polite,slow-writer,garbage,half-close";
    let report =
        run(&["--port", &port, "--protocol", "tcp", "--ways", ways, "--connections", "100"]);
    agree(&report, &accepted);
    let sent = report.account.total().bytes_sent;
    let start = Instant::now();
    while HEARD.load(Ordering::Relaxed) < sent && start.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(HEARD.load(Ordering::Relaxed), sent);
}

#[test]
fn attempts_without_a_server_have_a_reason() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let report = run(&["--port", &port, "--connections", "30"]);
    let total = report.account.total();
    assert_eq!((total.attempted, total.connected), (30, 0));
    assert_eq!(total.could_not_connect.values().sum::<u64>(), 30);
    assert_eq!(total.could_not_connect.len(), 1, "{:?}", total.could_not_connect);
    assert_eq!(total.bytes_sent, 0);
}

#[test]
fn a_run_ends_when_its_time_is_up() {
    let (port, accepted) = serve_tcp("127.0.0.1", http);
    let start = Instant::now();
    let report = run(&["--port", &port, "--connections", "10000000", "--seconds", "1"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(report.ended, "time");
    agree(&report, &accepted);
    let mut by_source = Figures::default();
    report.account.sources.values().for_each(|figures| by_source.add(figures));
    assert_eq!(by_source, report.account.total());
}

#[test]
fn the_page_about_churn_names_every_way() {
    let page = include_str!("../../../docs/churn.md");
    for way in WAYS {
        assert!(page.contains(&format!("`{}`", way.name)), "{}", way.name);
    }
}
