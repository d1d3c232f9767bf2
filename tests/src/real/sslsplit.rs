//! sslsplit: one TLS connection from the client, one to nginx, and a forged certificate between; libevent and OpenSSL
//! at once, with a thread for each processor.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::{RealProgram, Started, at_once, constructors, fail_tls, get_over_tls, nginx};
use crate::{http::Connection, packages, programs::certified};

/// The proxy's port, in its own network namespace.
const PORT: u16 = 8447;
/// Connections that request a page.
const WHOLE: u64 = 32;
/// Connections that end before a handshake, and connections whose handshake fails.
const CUT: u64 = 8;

/// sslsplit in front of nginx.
pub const SSLSPLIT: RealProgram = RealProgram {
    name: "sslsplit",
    start,
    load,
    constructors: &[constructors::LIBEVENT, constructors::OPENSSL],
    // One connection per direction, with two evbuffers each.
    least: &[
        ("SSL", 2 * WHOLE),
        ("SSL_CTX", 2 * WHOLE),
        ("bufferevent", 2 * WHOLE),
        ("evbuffer", 4 * WHOLE),
    ],
    gone: &["SSL", "SSL_CTX", "bufferevent", "evbuffer", "event_assigned"],
};

fn start(folder: &Path) -> Result<Started> {
    let unpacked = packages::debian(&["sslsplit"])?;
    let (key, certificate) = certified()?;
    let mut command = Command::new(unpacked.path("usr/bin/sslsplit")?);
    command
        // In the foreground; as root, since another user may not read files in a home directory.
        .args(["-D", "-u", "root", "-k"])
        .arg(key)
        .arg("-c")
        .arg(certificate)
        .args(["ssl", "127.0.0.1", &PORT.to_string(), "127.0.0.1", &nginx::PORT.to_string()])
        .env("LD_LIBRARY_PATH", unpacked.libraries()?);
    let mut started = Started::listening(folder, &mut command, PORT)?;
    // The parent process only opens files for the worker.
    started.trace_child()?;
    started.beside(&mut nginx::command(folder)?, nginx::PORT)?;
    Ok(started)
}

fn load(_: &Path) -> Result<()> {
    at_once(WHOLE, || get_over_tls(PORT))?;
    at_once(CUT, || {
        drop(Connection::open(PORT)?);
        fail_tls(PORT)
    })
}
