//! transmission-daemon: libevent's HTTP server, for its web interface.

use std::{fs, io::Write as _, net::TcpStream, path::Path, process::Command};

use anyhow::{Result, ensure};

use super::{RealProgram, Started, at_once, constructors};
use crate::{http::Connection, packages};

/// The daemon's port, in its own network namespace.
const PORT: u16 = 9091;
/// Connections that request a page, twice.
const WHOLE: u64 = 200;
/// Connections that end before a request, and in the middle of one.
const CUT: u64 = 20;

/// The daemon without torrents.
pub const TRANSMISSION: RealProgram = RealProgram {
    name: "transmission",
    start,
    load,
    constructors: &[constructors::LIBEVENT],
    // Each connection has a bufferevent with its two evbuffers; each request has two evbuffers more.
    least: &[
        ("evhttp_connection", WHOLE + 2 * CUT),
        ("bufferevent", WHOLE + 2 * CUT),
        ("evhttp_request", 2 * WHOLE),
        ("evbuffer", 2 * (WHOLE + 2 * CUT) + 4 * WHOLE),
    ],
    gone: &["evhttp_connection", "evhttp_request", "bufferevent"],
};

/// Disables every feature that contacts other hosts.
const SETTINGS: &str = r#"{ "dht-enabled": false, "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false,
"port-forwarding-enabled": false, "blocklist-enabled": false, "rpc-authentication-required": false,
"rpc-whitelist-enabled": false, "rpc-host-whitelist-enabled": false, "rpc-bind-address": "127.0.0.1",
"rpc-port": 9091 }"#;

fn start(folder: &Path) -> Result<Started> {
    let unpacked = packages::debian(&["transmission-daemon"])?;
    fs::write(folder.join("settings.json"), SETTINGS)?;
    let mut command = Command::new(unpacked.path("usr/bin/transmission-daemon")?);
    command
        .args(["--foreground", "--config-dir"])
        .arg(folder)
        .arg("--download-dir")
        .arg(folder)
        .env("LD_LIBRARY_PATH", unpacked.libraries()?)
        .env("TRANSMISSION_WEB_HOME", unpacked.path("usr/share/transmission/web")?);
    Started::listening(folder, &mut command, PORT)
}

fn load(_: &Path) -> Result<()> {
    at_once(WHOLE, || {
        let mut connection = Connection::open(PORT)?;
        for _ in 0..2 {
            let page = connection.get("/transmission/web/index.html")?;
            ensure!(page.contains("Transmission"), "another page:\n{page}");
        }
        Ok(())
    })?;
    at_once(CUT, || {
        drop(Connection::open(PORT)?);
        let mut stream = TcpStream::connect(("127.0.0.1", PORT))?;
        Ok(stream.write_all(b"GET /transmission/web/ HTTP/1.1\r\nHost: loc")?)
    })
}
