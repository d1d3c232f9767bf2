//! Real servers under load: every answer stays right, the figures are plausible, nothing stays behind.

use std::{fs, process::Command, sync::mpsc, thread};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    Report, Service, Trace,
    http::Connection,
    root_or_skip, scratch,
    service::{free_port, no_breakpoint_remains},
};

/// What a load makes of one connection and the number of the request.
type Ask = fn(&mut Connection, u64) -> Result<()>;

/// Traces `service` for two seconds of load that begins before and ends after; every answer is checked.
fn traced_under_load(service: &mut Service, ask: Ask) -> Result<Report> {
    let port = service.port;
    let (stop, stopped) = mpsc::channel::<()>();
    let load = thread::spawn(move || -> Result<u64> {
        let mut connections = (0..4).map(|_| Connection::open(port)).collect::<Result<Vec<_>>>()?;
        let mut asked = 0;
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            for connection in &mut connections {
                ask(connection, asked).with_context(|| format!("request {asked}"))?;
                asked += 1;
            }
        }
        Ok(asked)
    });
    let trace = Trace::attach(service.pid(), &["-d", "2s"])?;
    let before = service.rss_bytes()?;
    let report = trace.finish();
    let quiet =
        report.as_ref().map_or(Ok(()), |report| no_breakpoint_remains(service.pid(), report));
    drop(stop);
    let asked = load.join().ok().context("the load panicked")??;
    let report = report?;
    quiet?;
    ensure!(asked > 100, "only {asked} requests were answered");
    ensure!(service.is_running(), "the server has ended");
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let total = report.total("heap")?;
    ensure!(total.acquired_count > 0, "a server under load allocates");
    ensure!(
        total.acquired_count - total.released_count == total.outstanding_count
            && total.acquired_bytes - total.released_bytes == total.outstanding_bytes,
        "acquired - released = outstanding: {total:?}"
    );
    // Both readings lie in the time traced: the load goes on before and after.
    let after = report.number("/targets/0/rss_bytes")?;
    // Outstanding blocks may lie in memory that was resident before; resident growth beyond what is
    // outstanding is the allocator's slack: bounded here, not equal.
    let growth = after.saturating_sub(before);
    let slack = 32 << 20;
    ensure!(
        total.outstanding_bytes <= after + slack && growth <= total.outstanding_bytes + slack,
        "{} B outstanding, resident memory grew by {growth} B\n{}",
        total.outstanding_bytes,
        report.summary()
    );
    Ok(report)
}

fn get_root(connection: &mut Connection, _: u64) -> Result<()> {
    let body = connection.get("/")?;
    ensure!(body.starts_with("hello"), "the answer was `{body}`");
    Ok(())
}

#[test]
fn libevent_server_and_the_session_it_forgets() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let mut service = Service::http_server(&["--leak-every", "10"])?;
    let mut truth = Connection::open(service.port)?;
    let leaked = |connection: &mut Connection| -> Result<u64> {
        let told: Value = serde_json::from_str(&connection.get("/truth")?)?;
        told.get("leaked_count").and_then(Value::as_u64).context("a count")
    };
    let before = leaked(&mut truth)?;
    let report = traced_under_load(&mut service, get_root)?;
    let after = leaked(&mut truth)?;
    let said = report.sites("heap", |frames| {
        frames.first() == Some(&"remember_session") && frames.get(1) == Some(&"on_request")
    })?;
    ensure!(
        said.outstanding_count > 0 && said.outstanding_count <= after - before,
        "{said:?} reported, {before} to {after} leaked"
    );
    ensure!(said.outstanding_bytes == said.outstanding_count * 1000, "{said:?}");
    ensure!(said.released_count == 0, "nothing frees a session: {said:?}");
    Ok(())
}

#[test]
fn memcached() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let port = free_port()?;
    let text = port.to_string();
    let mut command = Command::new("memcached");
    command.args(["-l", "127.0.0.1", "-p", &text, "-U", "0", "-u", "nobody", "-m", "1024"]);
    let mut service = Service::start(&mut command, port)?;
    traced_under_load(&mut service, |connection, number| {
        let value = "v".repeat(50 + usize::try_from(number % 5000)?);
        // New keys all the time: stored anew, a key would reuse its memory, and nothing be allocated.
        connection.store(&format!("key{number}"), &value)
    })?;
    Ok(())
}

#[test]
fn nginx() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let port = free_port()?;
    let file = scratch("nginx.conf")?;
    let folder = file.parent().context("a folder")?.display();
    fs::write(
        &file,
        format!(
            "daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; server {{ listen 127.0.0.1:{port};\n\
             location / {{ return 200 'hello'; }} }} }}\n"
        ),
    )?;
    let mut service = Service::start(Command::new("nginx").arg("-c").arg(&file), port)?;
    // A connection is closed by nginx after 1,000 requests: the load opens its own each time.
    let ask: Ask = |connection, number| {
        if number % 400 < 4 {
            let port = connection.port()?;
            *connection = Connection::open(port)?;
        }
        get_root(connection, number)
    };
    traced_under_load(&mut service, ask)?;
    Ok(())
}

#[test]
fn python() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
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
    let mut service = Service::start(command.args(["-c", program, &port.to_string()]), port)?;
    traced_under_load(&mut service, get_root)?;
    Ok(())
}

#[test]
fn node() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let port = free_port()?;
    let program = format!(
        "require('http').createServer((request, answer) => {{ const body = 'hello ' + request.url;\
         answer.writeHead(200, {{'Content-Length': body.length}}); answer.end(body) }})\
         .listen({port}, '127.0.0.1')"
    );
    let mut service = Service::start(Command::new("node").args(["-e", &program]), port)?;
    traced_under_load(&mut service, get_root)?;
    Ok(())
}
