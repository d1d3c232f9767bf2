//! HTTP servers and a proxy: nginx with TLS, Apache with threads, `HAProxy` before nginx, node and gunicorn; loaded by `wrk`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{HealthyServer, USUAL, traffic::Traffic, version_of};
use crate::{
    packages::{self, Unpacked},
    programs::certified,
    real::Started,
};

/// Each server's port, in its own network namespace.
const PORT: u16 = 8080;
/// The port of the server behind the proxy.
const BACKEND: u16 = 8081;

/// nginx with two workers, TLS and a file.
pub(crate) const NGINX: HealthyServer = HealthyServer {
    name: "nginx",
    packages: &[&["nginx"], &["wrk"]],
    version: || version_of(nginx()?.arg("-v")),
    start: |folder| {
        let (key, certificate) = certified()?;
        let tls = format!(
            "listen 127.0.0.1:{PORT} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
             ssl_session_cache shared:tls:1m;",
            certificate.display(),
            key.display()
        );
        Started::listening(folder, &mut nginx_with(folder, 2, &tls)?, PORT)
    },
    load: |folder| wrk(folder, "https"),
    ..USUAL
};

/// Apache with the MPM `event`: two processes of 25 threads.
pub(crate) const APACHE: HealthyServer = HealthyServer {
    name: "apache",
    packages: &[&["apache2-bin"], &["wrk"]],
    version: || version_of(apache()?.0.arg("-v")),
    start: start_apache,
    load: |folder| wrk(folder, "http"),
    ..USUAL
};

/// `HAProxy` before nginx.
pub(super) const HAPROXY: HealthyServer = HealthyServer {
    name: "haproxy",
    packages: &[&["haproxy"], &["nginx"], &["wrk"]],
    version: || version_of(haproxy()?.arg("-v")),
    start: start_haproxy,
    load: |folder| wrk(folder, "http"),
    ..USUAL
};

/// node's HTTP server, which parses and prints JSON.
pub(super) const NODE: HealthyServer = HealthyServer {
    name: "node",
    packages: &[&["wrk"]],
    version: || version_of(node().arg("--version")),
    start: |folder| {
        let program = folder.join("server.js");
        fs::write(&program, NODE_PROGRAM)?;
        Started::listening(folder, node().arg(&program).arg(PORT.to_string()), PORT)
    },
    load: |folder| wrk(folder, "http"),
    ..USUAL
};

/// gunicorn with two workers of two threads.
pub(crate) const GUNICORN: HealthyServer = HealthyServer {
    name: "gunicorn",
    packages: &[&["gunicorn", "python3-gunicorn"], &["wrk"]],
    version: || version_of(gunicorn()?.arg("--version")),
    start: start_gunicorn,
    load: |folder| wrk(folder, "http"),
    ..USUAL
};

/// Keeps the last 1,000 requests, as a server with a bounded history does.
const NODE_PROGRAM: &str = r"
const recent = [];
const server = require('http').createServer((request, answer) => {
  recent.push({ url: request.url, at: Date.now(), agent: request.headers['user-agent'] });
  if (recent.length > 1000) recent.shift();
  const status = request.url == '/missing' ? 404 : 200;
  const body = JSON.stringify({ path: request.url, recent: recent.slice(-5), pad: 'x'.repeat(1000) });
  answer.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': body.length });
  answer.end(body);
});
server.listen(Number(process.argv[2]), '127.0.0.1');
";

const PYTHON_PROGRAM: &str = r"
import collections, json, time

recent = collections.deque(maxlen=1000)

def application(environ, start_response):
    recent.append({'path': environ['PATH_INFO'], 'at': time.time()})
    found = environ['PATH_INFO'] != '/missing'
    body = json.dumps({'recent': list(recent)[-5:], 'pad': 'x' * 1000}).encode()
    start_response('200 OK' if found else '404 Not Found', [
        ('Content-Type', 'application/json'), ('Content-Length', str(len(body)))])
    return [body]
";

/// Requests per connection: one per 10 ms, of a page, of one with a query, of one that is missing. `Connection: close`
/// comes now and then, so that connections come and go.
const WRK_SCRIPT: &str = r"
local number = 0
local paths = { '/', '/page.html', '/page.html?a=1&b=2', '/missing' }
function delay() return 10 end
function request()
  number = number + 1
  local headers = { ['User-Agent'] = 'wrk', ['Accept-Encoding'] = 'gzip', ['Cookie'] = 'session=' .. number }
  if number % 97 == 0 then headers['Connection'] = 'close' end
  return wrk.format('GET', paths[number % 4 + 1], headers)
end
";

/// `wrk` with 8 connections.
fn wrk(folder: &Path, scheme: &str) -> Result<Traffic> {
    let unpacked = packages::debian(&["wrk"])?;
    let (program, libraries) = (unpacked.path("usr/bin/wrk")?, unpacked.libraries()?);
    let script = folder.join("load.lua");
    fs::write(&script, WRK_SCRIPT)?;
    let url = format!("{scheme}://127.0.0.1:{PORT}/");
    let command = move |seconds| {
        let mut command = Command::new(&program);
        command
            .args(["-t", "1", "-c", "8", "--timeout", "20s", "-d", &format!("{seconds}s"), "-s"])
            .arg(&script)
            .arg(&url)
            .env("LD_LIBRARY_PATH", &libraries);
        command
    };
    Ok(Traffic::tool(command, requests))
}

/// `N requests in …` in the output of `wrk`; none if it could not connect.
fn requests(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    line.and_then(|(count, _)| count.parse().ok()).filter(|count| *count > 0)
}

/// A folder with a page for the servers of files. Workers run as another user.
fn pages(folder: &Path) -> Result<PathBuf> {
    let pages = folder.join("pages");
    fs::create_dir_all(&pages)?;
    let page = format!("<html>{}</html>\n", "hello ".repeat(700));
    fs::write(pages.join("index.html"), &page)?;
    fs::write(pages.join("page.html"), &page)?;
    Ok(pages)
}

fn nginx() -> Result<Command> {
    let unpacked = packages::debian(&["nginx"])?;
    let mut command = Command::new(unpacked.path("usr/sbin/nginx")?);
    command.env("LD_LIBRARY_PATH", unpacked.libraries()?);
    Ok(command)
}

/// nginx with this many workers, and these lines for its only server.
pub(crate) fn nginx_with(folder: &Path, workers: u32, lines: &str) -> Result<Command> {
    let pages = pages(folder)?;
    let file = folder.join("nginx.conf");
    let folder = folder.display();
    fs::write(
        &file,
        format!(
            "daemon off; worker_processes {workers}; user nobody nogroup; pid {folder}/nginx.pid;\n\
             error_log {folder}/error.log crit; events {{ worker_connections 256; }}\n\
             http {{ access_log {folder}/access.log; keepalive_requests 200;\n\
             client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
             fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
             scgi_temp_path {folder}/scgi;\n\
             server {{ {lines}\n root {}; gzip on; }} }}\n",
            pages.display()
        ),
    )?;
    let mut command = nginx()?;
    command.arg("-c").arg(&file);
    Ok(command)
}

fn haproxy() -> Result<Command> {
    let unpacked = packages::debian(&["haproxy"])?;
    let mut command = Command::new(unpacked.path("usr/sbin/haproxy")?);
    command.env("LD_LIBRARY_PATH", unpacked.libraries()?);
    Ok(command)
}

fn start_haproxy(folder: &Path) -> Result<Started> {
    let file = folder.join("haproxy.cfg");
    fs::write(
        &file,
        format!(
            "global\n nbthread 2\n maxconn 256\n\
             defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             frontend web\n bind 127.0.0.1:{PORT}\n option forwardfor\n default_backend pages\n\
             backend pages\n server one 127.0.0.1:{BACKEND} check\n"
        ),
    )?;
    let mut command = haproxy()?;
    let mut started = Started::listening(folder, command.arg("-db").arg("-f").arg(&file), PORT)?;
    let mut backend = nginx_with(folder, 1, &format!("listen 127.0.0.1:{BACKEND};"))?;
    // One process, which ends with its handle.
    backend.args(["-g", "master_process off;"]);
    started.beside(&mut backend, BACKEND)?;
    Ok(started)
}

fn apache() -> Result<(Command, Unpacked)> {
    let unpacked = packages::debian(&["apache2-bin"])?;
    let mut command = Command::new(unpacked.path("usr/sbin/apache2")?);
    command.env("LD_LIBRARY_PATH", unpacked.libraries()?);
    Ok((command, unpacked))
}

/// Two processes of 25 threads.
pub(crate) fn start_apache(folder: &Path) -> Result<Started> {
    let lines = "StartServers 2\nServerLimit 2\nThreadsPerChild 25\nMaxRequestWorkers 50\n\
                 MinSpareThreads 25\nMaxSpareThreads 50\n";
    apache_with(folder, "event", lines)
}

/// Apache with this MPM, and its lines.
pub(crate) fn apache_with(folder: &Path, mpm: &str, lines: &str) -> Result<Started> {
    let pages = pages(folder)?;
    let (apache, unpacked) = apache()?;
    // At its end, it sends a signal to its process group, which would be ours.
    let mut command = Command::new("setsid");
    command.arg(apache.get_program());
    for (name, value) in apache.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    let modules = unpacked.path("usr/lib/apache2/modules")?;
    let load = ["authz_core", "dir", "mime", "filter", "deflate", "status"]
        .map(|name| format!("LoadModule {name}_module {}/mod_{name}.so\n", modules.display()))
        .concat();
    let file = folder.join("apache.conf");
    fs::write(folder.join("mime.types"), "text/html html\n")?;
    let shown = folder.display();
    fs::write(
        &file,
        format!(
            "LoadModule mpm_{mpm}_module {}/mod_mpm_{mpm}.so\n\
             {load}ServerRoot {shown}\nServerName localhost\nListen 127.0.0.1:{PORT}\n\
             User nobody\nGroup nogroup\nPidFile {shown}/apache.pid\nDefaultRuntimeDir {shown}\n\
             ErrorLog {shown}/error.log\nLogFormat \"%h %r %s\" short\nTypesConfig mime.types\n\
             {lines}MaxKeepAliveRequests 200\n\
             DocumentRoot {}\nAddOutputFilterByType DEFLATE text/html\nDirectoryIndex index.html\n",
            modules.display(),
            pages.display()
        ),
    )?;
    Started::listening(folder, command.args(["-D", "FOREGROUND", "-f"]).arg(&file), PORT)
}

/// The machine's node: it may be another one than Debian's.
fn node() -> Command {
    Command::new("node")
}

/// gunicorn with two workers of two threads.
pub(crate) fn start_gunicorn(folder: &Path) -> Result<Started> {
    fs::write(folder.join("hello.py"), PYTHON_PROGRAM)?;
    let bind = format!("127.0.0.1:{PORT}");
    let mut command = gunicorn()?;
    command
        .args(["--workers", "2", "--threads", "2", "--log-level", "critical"])
        .args(["--bind", &bind, "--worker-tmp-dir"])
        .arg(folder)
        .arg("--chdir")
        .arg(folder)
        .arg("hello:application");
    Started::listening(folder, &mut command, PORT)
}

fn gunicorn() -> Result<Command> {
    let unpacked = packages::debian(&["gunicorn", "python3-gunicorn"])?;
    let mut command = crate::python::interpreter(&unpacked.path("usr/lib/python3/dist-packages")?);
    command.args(["-m", "gunicorn"]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_without_an_answer_has_no_count() {
        assert_eq!(requests("  2 threads\n  812 requests in 10.01s, 3MB read\n"), Some(812));
        assert_eq!(requests("  0 requests in 10.01s, 0B read\n"), None);
        assert_eq!(requests("unable to connect\n"), None);
    }
}
