//! Real programs as targets: how to start each, and the requests of its load.
//!
//! One list with several readers: tests that servers stay unharmed, that stacks reach the bottom, and that stacks equal
//! gdb's.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{Service, http::Connection, scratch, service::free_port};

/// Handles one connection and request number of a load.
pub type Ask = fn(&mut Connection, u64) -> Result<()>;

/// How a program is loaded.
#[derive(Clone, Copy, Debug)]
pub enum Demand {
    /// The tests' own client loop: each answer is checked.
    Ask(Ask),
    /// `wrk`: checks statuses only.
    Wrk,
    /// `wrk` over TLS.
    WrkTls,
}

/// A program to trace.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in the tests.
    pub name: &'static str,
    /// Starts it on a free port.
    pub start: fn() -> Result<Service>,
    /// The load on it.
    pub demand: Demand,
}

/// Every program.
pub const ALL: [Program; 8] = [
    Program { name: "libevent", start: libevent, demand: Demand::Ask(get_root) },
    Program { name: "uwebsockets", start: uwebsockets_server, demand: Demand::Ask(chat) },
    Program { name: "nginx", start: nginx_plain, demand: Demand::Ask(get_root_reconnecting) },
    Program { name: "nginx_tls", start: nginx_tls, demand: Demand::WrkTls },
    Program { name: "memcached", start: memcached, demand: Demand::Ask(store) },
    Program { name: "redis", start: redis, demand: Demand::Ask(redis_commands) },
    Program { name: "node", start: node, demand: Demand::Ask(get_root) },
    Program { name: "python", start: python, demand: Demand::Ask(get_root) },
];

/// The program of this name.
pub fn program(name: &str) -> Result<Program> {
    ALL.iter().find(|program| program.name == name).copied().with_context(|| format!("no `{name}`"))
}

fn libevent() -> Result<Service> {
    Service::http_server(&["--leak-every", "10"])
}

fn uwebsockets_server() -> Result<Service> {
    Service::uws_server(&["--leak"])
}

fn memcached() -> Result<Service> {
    let port = free_port()?;
    let text = port.to_string();
    let mut command = Command::new("memcached");
    command.args(["-l", "127.0.0.1", "-p", &text, "-U", "0", "-u", "nobody", "-m", "1024"]);
    Service::start(&mut command, port)
}

fn redis() -> Result<Service> {
    let port = free_port()?;
    let mut command = Command::new("redis-server");
    command.args([
        "--bind",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--save",
        "",
        "--appendonly",
    ]);
    Service::start(command.arg("no"), port)
}

fn nginx_plain() -> Result<Service> {
    let port = free_port()?;
    nginx(port, &format!("listen 127.0.0.1:{port};"), "")
}

fn nginx_tls() -> Result<Service> {
    nginx_tls_beside(free_port()?, "")
}

/// nginx with TLS, and the plain-HTTP port that serves its count of accepted connections.
pub fn nginx_tls_that_counts() -> Result<(Service, u16)> {
    let status = free_port()?;
    let server = format!("server {{ listen 127.0.0.1:{status}; location / {{ stub_status; }} }}");
    Ok((nginx_tls_beside(free_port()?, &server)?, status))
}

/// A key and its certificate, for localhost.
pub fn certified() -> Result<(PathBuf, PathBuf)> {
    let (key, certificate) = (scratch("key.pem")?, scratch("certificate.pem")?);
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .context("could not run `openssl`; help: cargo xtask test installs it")?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    Ok((key, certificate))
}

fn nginx_tls_beside(port: u16, server: &str) -> Result<Service> {
    let (key, certificate) = certified()?;
    // Few requests per connection, so that there are many handshakes.
    let lines = format!(
        "listen 127.0.0.1:{port} ssl; keepalive_requests 20;\nssl_certificate {};\n\
         ssl_certificate_key {};",
        certificate.display(),
        key.display()
    );
    nginx(port, &lines, server)
}

/// `lines` are directives for the server that answers hello, `server` is an additional server block.
fn nginx(port: u16, lines: &str, server: &str) -> Result<Service> {
    let file = scratch(&format!("nginx-{port}.conf"))?;
    let folder = file.parent().context("a folder")?.display();
    fs::write(
        &file,
        format!(
            "daemon off; master_process off; pid {folder}/nginx-{port}.pid; error_log stderr;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; {server} server {{ {lines}\n\
             location / {{ return 200 'hello'; }} }} }}\n"
        ),
    )?;
    Service::start(Command::new("nginx").arg("-c").arg(&file), port)
}

fn python() -> Result<Service> {
    let port = free_port()?;
    let program = r"
import sys, http.server
class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = ('hello ' + 'x' * 2000).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Hello).serve_forever()
";
    let mut command = Command::new("/usr/bin/python3");
    Service::start(command.args(["-c", program, &port.to_string()]), port)
}

fn node() -> Result<Service> {
    let port = free_port()?;
    // Disables the limit of 5 s for idle connections: while gdb stops the process to read symbols on a busy machine,
    // the limit expires, and node closes connections with a pending request.
    let program = format!(
        "const server = require('http').createServer((request, answer) => {{\
         const body = 'hello ' + request.url;\
         answer.writeHead(200, {{'Content-Length': body.length}}); answer.end(body) }});\
         server.keepAliveTimeout = 0; server.listen({port}, '127.0.0.1')"
    );
    Service::start(Command::new("node").args(["-e", &program]), port)
}

fn get_root(connection: &mut Connection, _: u64) -> Result<()> {
    let body = connection.get("/")?;
    ensure!(body.starts_with("hello"), "the answer was `{body}`");
    Ok(())
}

/// nginx closes a connection after 1,000 requests: the load reconnects.
fn get_root_reconnecting(connection: &mut Connection, number: u64) -> Result<()> {
    if number.is_multiple_of(400) {
        connection.reopen()?;
    }
    get_root(connection, number)
}

/// Always new keys: storing to an old key would reuse its memory without an allocation.
fn store(connection: &mut Connection, number: u64) -> Result<()> {
    let value = "v".repeat(50 + usize::try_from(number % 5000)?);
    connection.store(&format!("{}-{number}", connection.name()?), &value)?;
    // memcached stores values in slabs; answers to this command are allocated.
    connection.statistics()
}

/// A page or two, then a WebSocket echo, then the next connection.
fn chat(connection: &mut Connection, number: u64) -> Result<()> {
    match number % 20 {
        0 => {
            connection.reopen()?;
            get_root(connection, number)
        }
        1 => connection.upgrade("/echo"),
        // Longer than a string that fits in place, without a block of its own.
        length => connection.echo(&"word ".repeat(usize::try_from(length)?)),
    }
}

/// Strings, a list, a hash, a sorted set, a script.
fn redis_commands(connection: &mut Connection, number: u64) -> Result<()> {
    // Each connection uses its own keys.
    let key = format!("{}-{}", connection.name()?, number % 1000);
    let value = "v".repeat(20 + usize::try_from(number % 500)?);
    for (command, answer) in [
        (format!("SET string{key} {value}"), "+OK".to_owned()),
        (format!("STRLEN string{key}"), format!(":{}", value.len())),
        (format!("DEL hash{key} list{key} set{key}"), String::new()),
        (format!("HSET hash{key} one {value} two 2"), ":2".to_owned()),
        (format!("RPUSH list{key} {value} b c d"), ":4".to_owned()),
        (format!("ZADD set{key} 1 {value} 2 b"), ":2".to_owned()),
        ("EVAL \"return #redis.call('KEYS','nothing*')\" 0".to_owned(), ":0".to_owned()),
    ] {
        let got = connection.command(&command)?;
        let right = if answer.is_empty() { got.starts_with(':') } else { got == answer };
        ensure!(right, "`{command}` was answered `{got}`");
    }
    Ok(())
}
