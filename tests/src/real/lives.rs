//! Servers traced over their whole life, from before the first object is created until after the last one is freed:
//! nothing may be outstanding.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};

use super::{Counted, LIMIT, Started, check, constructors, count};
use crate::{
    bpftrace::Constructor, network, packages, programs::certified, python, uwebsockets, wait_until,
};

/// The port of each server, in its own network namespace.
const PORT: u16 = 9001;
/// Connections of a load: for pages, as `WebSocket`s, and some that disconnect in the middle of a request.
const CONNECTIONS: u64 = 300;

/// A server with HTTP and a WebSocket. It prints `ready`, starts when it reads a line from stdin, and prints `listening
/// PORT`. The next line stops it: it frees everything and prints `ended`.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Name of its folder.
    pub name: &'static str,
    /// The command that starts it.
    command: fn() -> Result<Command>,
    /// Whether clients use TLS.
    tls: bool,
    /// Constructors that the witness probes.
    constructors: &'static [&'static [Constructor]],
    /// Minimum number of objects created in a run.
    least: &'static [(&'static str, u64)],
    /// Kinds of which no object may be left.
    gone: &'static [&'static str],
}

/// socketify, from the Python Package Index: uSockets on libuv, inside a library.
pub const SOCKETIFY: Server = Server {
    name: "socketify",
    command: socketify,
    tls: false,
    constructors: &[constructors::USOCKETS],
    least: &LEAST,
    // The loop no longer runs when the server closes its listener, and belongs to the thread, which lives on.
    gone: &["us_socket", "us_socket_context"],
};

/// Our server on uWebSockets, with epoll.
pub const UWEBSOCKETS: Server = Server {
    name: "uwebsockets",
    command: || uws(&[]),
    tls: false,
    constructors: &[constructors::USOCKETS],
    least: &LEAST,
    gone: &GONE,
};

/// The same with TLS.
pub const UWEBSOCKETS_TLS: Server = Server {
    name: "uwebsockets_tls",
    command: || {
        let (key, certificate) = certified()?;
        uws(&["--tls", &certificate.to_string_lossy(), &key.to_string_lossy()])
    },
    tls: true,
    constructors: &[constructors::USOCKETS, constructors::OPENSSL],
    least: &[
        ("us_socket", CONNECTIONS),
        ("us_listen_socket", 1),
        ("us_loop", 1),
        ("us_socket_context", 2),
        ("SSL", CONNECTIONS),
        ("SSL_CTX", 1),
    ],
    gone: &[
        "us_socket",
        "us_listen_socket",
        "us_loop",
        "us_socket_context",
        "us_timer",
        "us_async",
        "SSL",
        "SSL_CTX",
    ],
};

/// A context of the application and one of its `WebSocket`s; timers of the loop.
const LEAST: [(&str, u64); 6] = [
    ("us_socket", CONNECTIONS),
    ("us_listen_socket", 1),
    ("us_loop", 1),
    ("us_socket_context", 2),
    ("us_timer", 1),
    ("us_async", 1),
];

/// All servers.
const GONE: [&str; 6] =
    ["us_socket", "us_listen_socket", "us_loop", "us_socket_context", "us_timer", "us_async"];

fn socketify() -> Result<Command> {
    let uv = packages::debian(&["libuv1"])?;
    let mut command = python::program("socketify_server", &python::packages("socketify")?);
    command.arg(PORT.to_string()).env("LD_LIBRARY_PATH", uv.libraries()?);
    Ok(command)
}

fn uws(options: &[&str]) -> Result<Command> {
    let mut command = Command::new(uwebsockets::tls_server()?);
    command.args([&PORT.to_string(), "--on-command"]).args(options);
    Ok(command)
}

impl Server {
    /// Runs the server, counts with both tools, and compares.
    pub fn matches(&self) -> Result<()> {
        let counted = super::in_folder(self.name, |folder| self.counted(folder))?;
        check(self.least, self.gone, &counted)
    }

    fn counted(&self, folder: &Path) -> Result<Counted> {
        let mut started = Started::alone(folder, &mut (self.command)()?)?;
        self.expect_line(&started, "ready")?;
        count(&mut started, &self.constructors.concat(), |started| self.life(started))
    }

    /// The server's whole life, under load.
    fn life(&self, started: &mut Started) -> Result<()> {
        started.target.send("go")?;
        self.expect_line(started, &format!("listening {PORT}"))?;
        network::inside(started.pid(), || {
            let mut clients = python::program("web_clients", Path::new(""));
            clients.args([PORT.to_string(), CONNECTIONS.to_string()]);
            if self.tls {
                clients.arg("tls");
            }
            super::run_load(&mut clients, &format!("connected {CONNECTIONS}"))
        })?;
        wait_until(
            "connections are over",
            LIMIT,
            || Ok(network::connections(started.pid())? == 0),
        )?;
        started.target.send("stop")?;
        self.expect_line(started, "ended")
    }

    fn expect_line(&self, started: &Started, expected: &str) -> Result<()> {
        let line = started.target.line(LIMIT)?;
        ensure!(line == expected, "{} said `{line}`, not `{expected}`", self.name);
        Ok(())
    }
}
