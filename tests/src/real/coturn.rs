//! coturn's turnserver: bufferevents with and without TLS, datagrams with DTLS, a thread for each relay.

use std::{path::Path, process::Command, thread};

use anyhow::{Context as _, Result, ensure};

use super::{RealProgram, Started, at_once, constructors, fail_tls};
use crate::{http::Connection, packages, programs::certified};

/// The server's port, in its own network namespace.
const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;
/// The port of the peer that echoes relayed data.
const PEER: u16 = 3480;
/// Clients of each kind.
const CLIENTS: u64 = 10;
/// Connections that end before any data is sent.
const CUT: u64 = 16;

/// A server without users.
pub const COTURN: RealProgram = RealProgram {
    name: "coturn",
    start,
    load,
    constructors: &[constructors::LIBEVENT, constructors::OPENSSL],
    least: &[("bufferevent", 2 * CLIENTS), ("SSL", 2 * CLIENTS), ("evbuffer", 4 * CLIENTS)],
    gone: &["bufferevent", "evbuffer", "event_assigned"],
};

fn start(folder: &Path) -> Result<Started> {
    let unpacked = packages::debian(&["coturn"])?;
    let (key, certificate) = certified()?;
    let mut command = Command::new(unpacked.path("usr/bin/turnserver")?);
    command
        .args(["-n", "-L", "127.0.0.1", "-p", &PORT.to_string()])
        .args(["--tls-listening-port", &TLS_PORT.to_string(), "--pkey"])
        .arg(key)
        .arg("--cert")
        .arg(certificate)
        .args(["--no-auth", "--no-cli", "--no-rfc5780", "--allow-loopback-peers", "-m", "2"])
        .args(["--simple-log", "--log-file"])
        .arg(folder.join("log"))
        .arg("--pidfile")
        .arg(folder.join("pid"))
        .arg("--db")
        .arg(folder.join("db"))
        .env("LD_LIBRARY_PATH", unpacked.libraries()?);
    let mut started = Started::listening(folder, &mut command, TLS_PORT)?;
    let mut peer = Command::new(unpacked.path("usr/bin/turnutils_peer")?);
    peer.args(["-L", "127.0.0.1", "-p", &PEER.to_string()])
        .env("LD_LIBRARY_PATH", unpacked.libraries()?);
    // The server accepts datagrams only: there is no port to wait for.
    started.beside(&mut peer, PORT)?;
    Ok(started)
}

/// How often the client may choose numbers that collide.
const ATTEMPTS: usize = 3;

/// What the server answers to a client that has chosen a channel number twice: `turnutils_uclient` draws them at random.
const COLLISION: &str = "You cannot use the same channel number with different peer";

/// Has `CLIENTS` clients relay data to the peer and back.
fn relay(options: &[&str]) -> Result<()> {
    let unpacked = packages::debian(&["coturn"])?;
    let client = || {
        Command::new(unpacked.path("usr/bin/turnutils_uclient")?)
            .args(options)
            .args(["-n", "2", "-m", &CLIENTS.to_string(), "-l", "100", "-X", "-g"])
            .args(["-e", "127.0.0.1", "-r", &PEER.to_string(), "127.0.0.1"])
            .env("LD_LIBRARY_PATH", unpacked.libraries()?)
            .output()
            .context("could not run turnutils_uclient")
    };
    let mut attempt = 1;
    loop {
        let output = client()?;
        let said = String::from_utf8_lossy(&output.stdout);
        // On a busy machine, datagrams may get lost.
        let sent = format!("tot_send_msgs={}, ", 2 * CLIENTS);
        if said.contains(&sent) && output.status.success() {
            return Ok(());
        }
        let collided = said.contains(COLLISION) && attempt < ATTEMPTS;
        ensure!(collided, "turnutils_uclient {options:?}: {}\n{said}", output.status);
        attempt += 1;
    }
}

fn load(_: &Path) -> Result<()> {
    let (port, tls) = (PORT.to_string(), TLS_PORT.to_string());
    let ways: [&[&str]; 3] = [&["-t", "-p", &port], &["-t", "-S", "-p", &tls], &["-S", "-p", &tls]];
    thread::scope(|scope| {
        let clients = ways.map(|options| scope.spawn(|| relay(options)));
        clients
            .into_iter()
            .try_for_each(|client| client.join().ok().context("a client panicked")?)
    })?;
    at_once(CUT, || {
        drop(Connection::open(PORT)?);
        fail_tls(TLS_PORT)
    })
}
