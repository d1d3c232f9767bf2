//! The servers: how each is started, and its load.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{Tree, WARM_UP_S};
use crate::{
    child::Running,
    compile::victim_with,
    healthy::{databases, prepare, web},
    packages,
    real::Started,
};

/// Each server's port, in its own network namespace.
const PORT: u16 = 8080;
/// The user `nobody` and its group.
const NOBODY: u32 = 65534;
/// Time limit for a login.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);
/// The packages of sshd and of its client.
const OPENSSH: &[&str] = &["openssh-server", "openssh-client"];
/// Logins that stay.
const LOGINS: usize = 50;

/// postgres under `pgbench -C`: a connection, and a process, per transaction.
pub const POSTGRES: Tree = Tree {
    name: "postgres",
    packages: databases::POSTGRES.packages,
    start: |folder| {
        let started = databases::start_postgres(folder)?;
        crate::network::inside(started.pid(), databases::fill)?;
        Ok(started)
    },
    load: |_, seconds| {
        let mut bench = databases::pgbench()?;
        bench.args(["-C", "-n", "-c", "4", "-j", "1", "-T", &seconds.to_string(), "postgres"]);
        prepare(&mut bench)?;
        Ok(Vec::new())
    },
    // Closes its connections and ends.
    stop_by: "INT",
    // The postmaster, checkpointer, background writer, WAL writer, autovacuum launcher, replication launcher.
    processes: 6,
};

/// Apache with the MPM `prefork`: a process per connection.
pub const APACHE_PREFORK: Tree = Tree {
    name: "apache-prefork",
    packages: web::APACHE.packages,
    start: |folder| {
        let lines = "StartServers 4\nServerLimit 16\nMaxRequestWorkers 16\nMinSpareServers 4\n\
                     MaxSpareServers 8\nMaxConnectionsPerChild 200\n";
        web::apache_with(folder, "prefork", lines)
    },
    load: closing,
    stop_by: "TERM",
    processes: 5,
};

/// Apache with the MPM `event`: two processes of 25 threads.
pub const APACHE_EVENT: Tree = Tree {
    name: "apache-event",
    packages: web::APACHE.packages,
    start: web::start_apache,
    load: closing,
    stop_by: "TERM",
    processes: 3,
};

/// gunicorn with two workers of two threads.
pub const GUNICORN: Tree = Tree {
    name: "gunicorn",
    packages: web::GUNICORN.packages,
    start: web::start_gunicorn,
    load: closing,
    stop_by: "TERM",
    processes: 3,
};

/// nginx with four workers.
pub const NGINX: Tree = Tree {
    name: "nginx",
    packages: web::NGINX.packages,
    start: |folder| {
        let lines = format!("listen 127.0.0.1:{PORT};");
        Started::listening(folder, &mut web::nginx_with(folder, 4, &lines)?, PORT)
    },
    load: closing,
    stop_by: "TERM",
    processes: 5,
};

/// PHP's process manager, with nginx before it. Its workers end after 200 requests.
pub const PHP_FPM: Tree = Tree {
    name: "php-fpm",
    packages: &[&["php8.2-fpm"], &["nginx"], &["wrk"]],
    start: start_php,
    load: closing,
    stop_by: "TERM",
    processes: 3,
};

/// sshd with fifty logins that stay: a process of its own and a shell for each.
pub const SSHD: Tree = Tree {
    name: "sshd",
    packages: &[OPENSSH],
    start: start_sshd,
    load: logins,
    stop_by: "TERM",
    processes: 1 + 2 * LOGINS,
};

/// `wrk` with connections of one request each.
fn closing(folder: &Path, seconds: u64) -> Result<Vec<Running>> {
    let unpacked = packages::debian(&["wrk"])?;
    let script = folder.join("closing.lua");
    fs::write(&script, "wrk.headers['Connection'] = 'close'\n")?;
    let mut command = Command::new("nice");
    command
        .args(["-n", "10"])
        .arg(unpacked.path("usr/bin/wrk")?)
        .args(["-t", "1", "-c", "8", "--timeout", "20s", "-d", &format!("{seconds}s"), "-s"])
        .arg(&script)
        .arg(format!("http://127.0.0.1:{PORT}/index.html"))
        .env("LD_LIBRARY_PATH", unpacked.libraries()?);
    let output = command.output().context("could not run `wrk`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && !text.contains("Non-2xx"), "wrk: {text}");
    Ok(Vec::new())
}

const PHP_PROGRAM: &str = r#"<?php
$rows = [];
for ($i = 0; $i < 200; $i++) { $rows[] = ["id" => $i, "name" => str_repeat("n", $i)]; }
header("Content-Type: application/json");
echo json_encode($rows);
"#;

/// The port of PHP's process manager.
const FASTCGI: u16 = 9000;

fn start_php(folder: &Path) -> Result<Started> {
    let unpacked = packages::debian(&["php8.2-fpm"])?;
    let program = folder.join("page.php");
    fs::write(&program, PHP_PROGRAM)?;
    let (file, shown) = (folder.join("fpm.conf"), folder.display());
    fs::write(
        &file,
        format!(
            "[global]\nerror_log = {shown}/fpm.log\ndaemonize = no\n\
             [www]\nlisten = 127.0.0.1:{FASTCGI}\nuser = nobody\ngroup = nogroup\npm = dynamic\n\
             pm.max_children = 4\npm.start_servers = 2\npm.min_spare_servers = 2\n\
             pm.max_spare_servers = 4\npm.max_requests = 200\n"
        ),
    )?;
    let mut command = Command::new(unpacked.path("usr/sbin/php-fpm8.2")?);
    // Without a configuration of the machine's own.
    command.args(["-n", "-F", "-R", "-y"]).arg(&file).env("LD_LIBRARY_PATH", unpacked.libraries()?);
    let mut started = Started::listening(folder, &mut command, FASTCGI)?;
    let lines = format!(
        "listen 127.0.0.1:{PORT}; location / {{ fastcgi_pass 127.0.0.1:{FASTCGI};\n\
         fastcgi_param SCRIPT_FILENAME {}; fastcgi_param REQUEST_METHOD $request_method; }}",
        program.display()
    );
    let mut front = web::nginx_with(folder, 1, &lines)?;
    // One process, which ends with its handle.
    front.args(["-g", "master_process off;"]);
    started.beside(&mut front, PORT)?;
    Ok(started)
}

/// sshd for root, who logs in with a key. In a mount namespace of its own, where the user and the folder exist that it
/// insists on. Root's shell is a static program there: with `--children`, probes on the machine's C library would slow down
/// every program of the machine.
fn start_sshd(folder: &Path) -> Result<Started> {
    let unpacked = packages::debian(OPENSSH)?;
    // sshd refuses keys that others could write, and enters this folder as another user.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    chown(folder, Some(0), Some(0))?;
    for name in ["host", "user"] {
        let mut command = Command::new(unpacked.path("usr/bin/ssh-keygen")?);
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(name));
        prepare(&mut command)?;
    }
    fs::copy(folder.join("user.pub"), folder.join("keys"))?;
    let (file, shown) = (folder.join("sshd.conf"), folder.display());
    fs::write(
        &file,
        format!(
            "Port {PORT}\nListenAddress 127.0.0.1\nHostKey {shown}/host\nPidFile none\n\
             AuthorizedKeysFile {shown}/keys\nStrictModes no\nUsePAM no\nUseDNS no\n\
             PermitRootLogin prohibit-password\nMaxStartups 200\nLogLevel ERROR\n"
        ),
    )?;
    let shell = victim_with("login_shell", "login_shell", &["-static"])?;
    let own = folder.join("passwd");
    fs::write(
        &own,
        format!(
            "root:x:0:0:root:/root:{}\nnobody:x:{NOBODY}:{NOBODY}:nobody:/:/usr/sbin/nologin\n\
             sshd:x:{NOBODY}:{NOBODY}::/run/sshd:/usr/sbin/nologin\n",
            fs::canonicalize(shell)?.display()
        ),
    )?;
    let script = format!(
        "mount --bind '{}' /etc/passwd && mount -t tmpfs none /run && mkdir -m 755 /run/sshd \
         && exec '{}' -D -e -f '{}'",
        own.display(),
        fs::canonicalize(unpacked.path("usr/sbin/sshd")?)?.display(),
        file.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).env("LD_LIBRARY_PATH", unpacked.libraries()?);
    Started::listening(folder, &mut command, PORT)
}

/// Fifty clients that log in, one after the other, and stay; a few to warm up.
fn logins(folder: &Path, seconds: u64) -> Result<Vec<Running>> {
    let number = if seconds == WARM_UP_S { 3 } else { LOGINS };
    let unpacked = packages::debian(OPENSSH)?;
    let mut clients = Vec::new();
    for _ in 0..number {
        let mut command = Command::new(unpacked.path("usr/bin/ssh")?);
        command
            .args(["-F", "none", "-T", "-p", &PORT.to_string(), "-i"])
            .arg(folder.join("user"))
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "root@127.0.0.1"])
            // What the shell ignores. It ends with the connection.
            .arg("stay");
        let mut client = Running::start(&mut command)?;
        let said = client.line(LOGIN_LIMIT);
        ensure!(said.as_deref().ok() == Some("here"), "{said:?}: {:?}", client.rest_of_stderr());
        clients.push(client);
    }
    Ok(clients)
}
