//! tor as a relay that is not published: libevent's events, and tor's own TLS layer on OpenSSL.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};

use super::{RealProgram, Started, at_once, constructors, fail_tls, over_tls};
use crate::{http::Connection, packages};

/// Ports in its own network namespace: for programs, for the controller, for other relays.
const SOCKS: u16 = 9050;
const CONTROL: u16 = 9051;
const RELAY: u16 = 9001;
/// Connections of programs that begin a SOCKS handshake, and of the controller.
const WHOLE: u64 = 200;
/// Connections of relays.
const HANDSHAKES: u64 = 48;
/// Connections to each port that end before any data is sent.
const CUT: u64 = 16;

/// A relay that publishes nothing and fetches nothing.
pub const TOR: RealProgram = RealProgram {
    name: "tor",
    start,
    load,
    constructors: &[constructors::LIBEVENT, constructors::OPENSSL],
    // A connection has an event for reading and one for writing.
    least: &[("event", 2 * (2 * WHOLE + HANDSHAKES)), ("SSL", HANDSHAKES)],
    gone: &["event", "SSL"],
};

fn start(folder: &Path) -> Result<Started> {
    let unpacked = packages::debian(&["tor"])?;
    let file = folder.join("torrc");
    fs::write(
        &file,
        format!(
            "SocksPort 127.0.0.1:{SOCKS}\nControlPort 127.0.0.1:{CONTROL}\nCookieAuthentication 1\n\
             ORPort 127.0.0.1:{RELAY}\nAddress 127.0.0.1\nAssumeReachable 1\nExitRelay 0\n\
             PublishServerDescriptor 0\nFetchServerDescriptors 0\nFetchHidServDescriptors 0\n\
             DataDirectory {}/data\nAvoidDiskWrites 1\nLog warn stdout\n",
            folder.display()
        ),
    )?;
    let mut command = Command::new(unpacked.path("usr/bin/tor")?);
    command
        .arg("--defaults-torrc")
        .arg(folder.join("none"))
        .arg("-f")
        .arg(&file)
        .env("LD_LIBRARY_PATH", unpacked.libraries()?);
    // tor opens this listener last.
    Started::listening(folder, &mut command, RELAY)
}

fn load(_: &Path) -> Result<()> {
    at_once(WHOLE, || {
        let mut program = TcpStream::connect(("127.0.0.1", SOCKS))?;
        // SOCKS 5, one method, none: RFC 1928.
        program.write_all(&[5, 1, 0])?;
        let mut chosen = [0; 2];
        program.read_exact(&mut chosen)?;
        ensure!(chosen == [5, 0], "SOCKS was answered {chosen:?}");
        let mut owner = TcpStream::connect(("127.0.0.1", CONTROL))?;
        owner.write_all(b"PROTOCOLINFO 1\r\nQUIT\r\n")?;
        let mut answer = String::new();
        owner.read_to_string(&mut answer)?;
        ensure!(answer.contains("250 closing connection"), "tor answered:\n{answer}");
        Ok(())
    })?;
    at_once(HANDSHAKES, || {
        let (said, printed) = over_tls(RELAY, b"", &[])?;
        ensure!(said.contains("Cipher is TLS_"), "no handshake:\n{said}\n{printed}");
        Ok(())
    })?;
    at_once(CUT, || {
        for port in [SOCKS, CONTROL, RELAY] {
            drop(Connection::open(port)?);
        }
        fail_tls(RELAY)
    })
}
