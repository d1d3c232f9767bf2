//! `demo`: a server that leaks one session per ten requests, a load on it, and leaktrace on the server.

use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    compile, packages,
    process::{Background, build_leaktrace, exists, is_root, leaktrace, note},
};

/// Runs it; the load is bounded by `seconds`, on loopback.
pub(crate) fn run(seconds: u32) -> Result<()> {
    packages::for_demo()?;
    build_leaktrace()?;
    let server = compile::victim("http_server")?;
    let mut server = Background::start(Command::new(server).args(["0", "--leak-every", "10"]))?;
    let mut lines = server.lines()?;
    let line = lines.next().context("the server says where it listens")??;
    let port =
        line.strip_prefix("listening ").context("the server says where it listens")?.to_owned();
    let url = format!("http://127.0.0.1:{port}/");
    let _load = Background::start(
        Command::new("wrk")
            .args(["-t1", "-c2", &format!("-d{seconds}s"), &url])
            .stderr(Stdio::null()),
    )?;
    note(&format!(
        "a server that leaks one session in ten requests: pid {}, {url}; load for {seconds} s",
        server.pid()
    ));
    let mut command = tracer()?;
    command.arg("-p").arg(server.pid().to_string());
    if !std::io::stdout().is_terminal() {
        // The first verdicts take about a minute.
        command.args(["-f", "text", "-d", &format!("{}s", seconds.min(75))]);
    }
    note(&format!("$ leaktrace -p {}", server.pid()));
    let status = command.status().context("could not run leaktrace")?;
    if let Ok(truth) = truth(&port) {
        note(&format!("the server's own account since its start: {truth}"));
    }
    if !status.success() {
        bail!("leaktrace ended with {status}");
    }
    Ok(())
}

/// The server's own account.
fn truth(port: &str) -> Result<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /truth HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().last().context("an answer")?.to_owned())
}

/// leaktrace, through sudo unless this is root: nothing else needs root.
fn tracer() -> Result<Command> {
    if is_root() {
        return Ok(Command::new(leaktrace()));
    }
    if !exists("sudo") {
        bail!("leaktrace needs root\nhelp: run `cargo xtask demo` as root");
    }
    let mut command = Command::new("sudo");
    command.arg(leaktrace());
    Ok(command)
}
