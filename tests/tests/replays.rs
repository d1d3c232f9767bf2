//! Tapes: `leaktrace replay` gives the report of the recorded run, byte for byte, as an ordinary user, when the target,
//! its program and its processes are gone.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tests::{
    Report, Service, Victim,
    child::Running,
    compile,
    http::Connection,
    scratch,
    tapes::{Folder, LIMIT, record, same},
    terminal::Terminal,
    trace::{Refusal, TRACING, leaktrace},
};

/// A copy of a server that is deleted when this returns.
fn server(folder: &Folder, program: &Path, options: &[&str]) -> Result<Service> {
    let copy = folder.file("server");
    fs::copy(program, &copy)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    Service::that_says_its_port(Command::new(&copy).args(options))
}

/// Some visits, each of which leaks.
fn visit(service: &Service, visits: usize) -> Result<()> {
    for _ in 0..visits {
        let mut connection = Connection::open(service.port)?;
        for path in ["/", "/leak", "/"] {
            connection.get(path)?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A server whose connections leak, in one format.
fn of_a_server(format: &str) -> Result<Vec<u8>> {
    let folder = Folder::new(&format!("server-{format}"))?;
    let program = compile::victim("http_server")?;
    let service = server(&folder, &program, &["0", "--leak-every", "3", "--leak-fd", "7"])?;
    let pid = service.pid().to_string();
    let options = ["-p", &pid, "--kind", "heap,mmap,object,fd,socket", "-i", "200ms"];
    let open = Connection::open(service.port)?;
    let live = record(&folder, &options, format, || visit(&service, 300))?;
    drop((open, service));
    fs::remove_file(folder.file("server"))?;
    same(&live, &folder.replay(format)?)?;
    Ok(live)
}

#[test]
fn the_json_report_of_a_server_is_the_live_one() -> Result<()> {
    let report = Report::parse(&String::from_utf8(of_a_server("json")?)?)?;
    let leaked = report.sites("heap", |frames| frames.contains(&"remember_session"))?;
    ensure!(leaked.outstanding_count >= 300, "{}", report.summary());
    let closed = report.at("/connections/closed")?.as_u64();
    ensure!(closed.is_some_and(|closed| closed >= 300), "{closed:?}");
    Ok(())
}

#[test]
fn the_text_report_of_a_server_is_the_live_one() -> Result<()> {
    let text = String::from_utf8(of_a_server("text")?)?;
    ensure!(text.contains("remember_session"), "{text}");
    Ok(())
}

#[test]
fn the_report_of_children_is_the_live_one() -> Result<()> {
    let folder = Folder::new("children")?;
    let program = compile::victim("forking_server")?;
    let service = server(&folder, &program, &[])?;
    let pid = service.pid().to_string();
    let options = ["-p", &pid, "--children", "--kind", "heap,fd,socket", "-i", "200ms"];
    let live = record(&folder, &options, "json", || {
        for _ in 0..25 {
            let mut connection = std::net::TcpStream::connect(("127.0.0.1", service.port))?;
            std::io::Write::write_all(&mut connection, b"hello?")?;
            let mut answer = [0; 6];
            std::io::Read::read_exact(&mut connection, &mut answer)?;
        }
        Ok(())
    })?;
    drop(service);
    fs::remove_file(folder.file("server"))?;
    same(&live, &folder.replay("json")?)?;
    let report = Report::parse(&String::from_utf8(live)?)?;
    ensure!(report.list("/targets")?.len() > 20, "{}", report.summary());
    Ok(())
}

#[test]
fn the_report_of_a_command_and_its_exec_is_the_live_one() -> Result<()> {
    let folder = Folder::new("command")?;
    let victim = compile::victim("exits")?.to_string_lossy().into_owned();
    let live = record(&folder, &["--", "env", "A=B", &victim, "7"], "json", || Ok(()))?;
    same(&live, &folder.replay("json")?)?;
    let report = Report::parse(&String::from_utf8(live)?)?;
    ensure!(report.at("/targets/0/exited/status")?.as_i64() == Some(7), "{}", report.summary());
    Ok(())
}

#[test]
fn the_light_report_is_the_live_one() -> Result<()> {
    let folder = Folder::new("light")?;
    let victim = Victim::start("growth", &[])?;
    let pid = victim.pid().to_string();
    let live = record(&folder, &["-p", &pid, "--light", "-i", "200ms"], "json", || {
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    })?;
    drop(victim);
    same(&live, &folder.replay("json")?)
}

#[test]
fn the_report_with_a_budget_is_the_live_one() -> Result<()> {
    let folder = Folder::new("budget")?;
    let program = compile::victim("http_server")?;
    let service = server(&folder, &program, &["0", "--leak-every", "3"])?;
    let pid = service.pid().to_string();
    let options = ["-p", &pid, "--max-overhead", "2%", "-i", "200ms"];
    let live = record(&folder, &options, "json", || visit(&service, 500))?;
    drop(service);
    same(&live, &folder.replay("json")?)
}

#[test]
fn the_tape_of_a_killed_leaktrace_has_the_report_of_its_last_second() -> Result<()> {
    let folder = Folder::new("killed")?;
    let program = compile::victim("http_server")?;
    let service = server(&folder, &program, &["0", "--leak-every", "3"])?;
    let (pid, tape) = (service.pid().to_string(), folder.file("tape"));
    let options = ["-p", &pid, "-i", "100ms", "-f", "json", "--record", &tape];
    let mut running = Running::start(Command::new(leaktrace()?).args(options))?;
    running.stderr_line(TRACING, LIMIT)?;
    visit(&service, 300)?;
    tests::wait_until("the tape grows", LIMIT, || Ok(fs::metadata(&tape)?.len() > 10_000))?;
    running.signal("KILL")?;
    running.wait(LIMIT)?;
    fs::set_permissions(&tape, Permissions::from_mode(0o644))?;
    let run = folder.run(&["replay", &tape, "-f", "json"])?;
    ensure!(run.code == Some(0), "{run:?}");
    let [warning, help] = run.stderr.as_slice() else { anyhow::bail!("{:?}", run.stderr) };
    ensure!(warning.contains("ends early") && help.starts_with("help: "), "{:?}", run.stderr);
    let report = Report::parse(&run.stdout.join("\n"))?;
    let leaked = report.sites("heap", |frames| frames.contains(&"remember_session"))?;
    ensure!(leaked.outstanding_count > 0, "{}", report.summary());
    Ok(())
}

#[test]
fn a_redacted_tape_has_the_same_figures_without_names_and_addresses() -> Result<()> {
    let folder = Folder::new("secret")?;
    let program = compile::victim("http_server")?;
    let service = server(&folder, &program, &["0", "--leak-every", "3"])?;
    let pid = service.pid().to_string();
    let options = ["-p", &pid, "--redact", "--kind", "heap,object,fd,socket", "-i", "200ms"];
    // An address of this host that is not loopback's.
    let live = record(&folder, &options, "json", || visit(&service, 60))?;
    drop(service);
    let replayed = String::from_utf8(folder.replay("json")?)?;
    let live = String::from_utf8(live)?;
    for secret in ["leaktrace-secret", "--leak-every", &tests::workspace().to_string_lossy()] {
        ensure!(live.contains(secret), "`{secret}` is in the live report");
        ensure!(!replayed.contains(secret), "`{secret}` is in the replayed report");
    }
    let (live, replayed) = (Report::parse(&live)?, Report::parse(&replayed)?);
    for place in ["/totals", "/accounting", "/window", "/connections/closed", "/fds/by_type"] {
        ensure!(live.at(place)? == replayed.at(place)?, "{place}: {}", replayed.at(place)?);
    }
    let leaked = replayed.sites("heap", |frames| frames.contains(&"remember_session"))?;
    ensure!(leaked.outstanding_count >= 60, "functions keep their names: {}", replayed.summary());
    ensure!(replayed.at("/targets/0/exe")?.as_str() == Some("/redacted/server"), "its program");
    Ok(())
}

/// A small disk, gone when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"])
            .arg(&path)
            .status()
            .context("could not run `mount`")?;
        ensure!(mounted.success(), "could not mount a small disk: {mounted}");
        Ok(Self(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_ends_the_tape_with_one_warning_and_not_the_tracing() -> Result<()> {
    let folder = Folder::new("full")?;
    let disk = Disk::mount(folder.0.join("disk"))?;
    let program = compile::victim("http_server")?;
    let service = server(&folder, &program, &["0", "--leak-every", "3"])?;
    let (pid, tape, live) =
        (service.pid().to_string(), folder.file("disk/tape"), folder.file("live"));
    let options = ["-p", &pid, "-i", "100ms", "-f", "json", "-o", &live, "--record", &tape];
    let mut running = Running::start(Command::new(leaktrace()?).args(options))?;
    running.stderr_line(TRACING, LIMIT)?;
    visit(&service, 300)?;
    running.signal("INT")?;
    let status = running.wait(LIMIT)?;
    let stderr = running.rest_of_stderr();
    ensure!(status.success(), "{status}: {stderr:?}");
    let warnings: Vec<_> = stderr.iter().filter(|line| line.contains("warning")).collect();
    ensure!(warnings.len() == 1 && warnings[0].contains(&tape), "{stderr:?}");
    let report = Report::parse(&fs::read_to_string(&live)?)?;
    let leaked = report.sites("heap", |frames| frames.contains(&"remember_session"))?;
    ensure!(leaked.outstanding_count >= 300, "{}", report.summary());
    fs::set_permissions(&tape, Permissions::from_mode(0o644))?;
    let run = folder.run(&["replay", &tape, "-f", "json"])?;
    let early = run.stderr.iter().any(|line| line.contains("ends"));
    ensure!(early && run.stderr.len() == 2, "{run:?}");
    drop(disk);
    Ok(())
}

#[test]
fn files_that_are_no_tapes_are_refused_in_one_line() -> Result<()> {
    let (newer, other) = (scratch("newer.tape")?, scratch("other.tape")?);
    fs::write(&newer, b"LEAKTAPE\xff\0\0\0")?;
    fs::write(&other, b"{\"schema\": \"leaktrace/1\"}")?;
    for path in [newer.as_path(), other.as_path(), Path::new("/no/such.tape")] {
        let path = path.to_string_lossy();
        Refusal::of(&[], &["replay", &path, "-f", "json"])?.names(&path)?;
    }
    let refused = Refusal::of(&[], &["-p", "1", "--record", "/no/such/folder/tape", "-f", "json"])?;
    refused.names("/no/such/folder/tape")
}

#[test]
fn the_screen_of_a_tape_comes_at_its_times_and_stays() -> Result<()> {
    let tape = tests::workspace().join("tracer/tests/tapes/libevent.tape");
    let begun = Instant::now();
    let mut terminal = Terminal::start(&["replay", &tape.to_string_lossy()])?;
    terminal.wait_for("─ Findings")?;
    terminal.press("2")?;
    terminal.wait_for("remember_session")?;
    // The recorded run took 1.3 seconds, with a report every half second; the screen rounds.
    terminal.wait_for("traced 00:00:01")?;
    ensure!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    terminal.press("4")?;
    terminal.wait_for("127.0.0.1")?;
    terminal.press("q")?;
    let status = terminal.wait(LIMIT)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// Builds a victim whose debug information names no folder of this machine.
fn demo(folder: &Folder, name: &str, libraries: &[&str]) -> Result<PathBuf> {
    let (sources, program) = (tests::workspace().join("tests/victims"), folder.0.join(name));
    let status = Command::new("gcc")
        .args(["-std=gnu17", "-O1", "-g", "-fno-optimize-sibling-calls"])
        .arg(format!("-ffile-prefix-map={}=/usr/src/demo", sources.display()))
        .arg(format!("-fdebug-prefix-map={}=/usr/src/demo", folder.0.display()))
        .arg("-o")
        .arg(&program)
        .arg(sources.join(format!("{name}.c")))
        .args(libraries)
        .current_dir(&folder.0)
        .status()?;
    ensure!(status.success(), "could not build `{name}`: {status}");
    Ok(program)
}

/// Records one of the tapes of `tracer/tests/tapes`.
fn commit(
    folder: &Folder,
    name: &str,
    service: &Service,
    options: &[&str],
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let pid = service.pid().to_string();
    let options = [&["-p", &pid, "-i", "500ms"], options].concat();
    let live = record(folder, &options, "json", || {
        work()?;
        // Two more reports, so that there is a trend.
        std::thread::sleep(Duration::from_millis(1100));
        Ok(())
    })?;
    let tape = fs::read(folder.file("tape"))?;
    same(&live, &folder.replay("json")?)?;
    ensure!(tape.len() < 100 << 10, "a tape of {} bytes for `{name}`", tape.len());
    fs::write(tests::workspace().join(format!("tracer/tests/tapes/{name}.tape")), tape)?;
    Ok(())
}

#[test]
#[ignore = "records the committed tapes again, after a change of their format: then review the golden files"]
fn the_committed_tapes_are_recorded() -> Result<()> {
    let everything = ["--kind", "heap,mmap,object,fd,socket"];
    let folder = Folder::new("demo")?;
    demo(&folder, "http_server", &["-levent"])?;
    let mut server = Command::new("./http_server");
    server.args(["0", "--leak-every", "4", "--leak-fd", "5"]).current_dir(&folder.0);
    let service = Service::that_says_its_port(&mut server)?;
    let open = Connection::open(service.port)?;
    commit(&folder, "libevent", &service, &everything, || visit(&service, 20))?;
    drop((open, service));

    let tls = ["-levent", "-levent_openssl", "-lssl", "-lcrypto"];
    demo(&folder, "tls_server", &tls)?;
    let (key, certificate) = tests::programs::certified()?;
    fs::copy(key, folder.0.join("key.pem"))?;
    fs::copy(certificate, folder.0.join("certificate.pem"))?;
    let mut server = Command::new("./tls_server");
    server.args(["certificate.pem", "key.pem", "0", "--leak-on-handshake"]).current_dir(&folder.0);
    let service = Service::that_says_its_port(&mut server)?;
    let handshakes = |count: usize| {
        for number in 0..count {
            let mut client = std::net::TcpStream::connect(("127.0.0.1", service.port))?;
            // Every third one speaks no TLS: its handshake fails, and leaks.
            if number % 3 == 0 {
                std::io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\n\r\n")?;
                // The server answers with an alert, or resets the connection.
                drop(std::io::Read::read(&mut client, &mut [0; 64]));
            } else {
                drop(client);
                let address = format!("127.0.0.1:{}", service.port);
                let done = Command::new("openssl")
                    .args(["s_client", "-quiet", "-no_ign_eof", "-connect", &address])
                    .stdin(std::process::Stdio::null())
                    .output()?;
                ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            }
        }
        Ok(())
    };
    // OpenSSL allocates most of what it keeps at the first handshake.
    handshakes(6)?;
    commit(&folder, "tls", &service, &everything, || handshakes(9))?;
    drop(service);

    demo(&folder, "forking_server", &[])?;
    let service =
        Service::that_says_its_port(Command::new("./forking_server").current_dir(&folder.0))?;
    let children = ["--children", "--kind", "heap,fd,socket"];
    commit(&folder, "forking", &service, &children, || {
        for _ in 0..12 {
            let mut client = std::net::TcpStream::connect(("127.0.0.1", service.port))?;
            std::io::Write::write_all(&mut client, b"hello?")?;
            std::io::Read::read_exact(&mut client, &mut [0; 6])?;
        }
        Ok(())
    })
}

#[test]
fn the_tape_of_a_switch_from_light_to_full_tracing_has_both() -> Result<()> {
    let folder = Folder::new("switch")?;
    let (copy, tape) = (folder.0.join("steady_leak"), folder.file("tape"));
    fs::copy(compile::victim("steady_leak")?, &copy)?;
    let mut victim = Victim::start_program(&copy, &["1000", "1"])?;
    let pid = victim.pid().to_string();
    let mut live = Terminal::start(&["--light", "-i", "100ms", "-p", &pid, "--record", &tape])?;
    live.wait_for("light: page faults, no probe")?;
    live.press("f")?;
    live.wait_for("heap 0 B in 0")?;
    victim.go()?;
    victim.truth()?;
    live.wait_for("heap 97.7 KiB in 1,000")?;
    live.press("q")?;
    let status = live.wait(LIMIT)?;
    ensure!(status.success(), "{status}");
    victim.exit()?;
    fs::remove_file(&copy)?;

    // The last report is the one of full tracing; the screen of the tape begins with light tracing.
    fs::write(folder.file("report.json"), folder.replay("json")?)?;
    let kept = Report::read(Path::new(&folder.file("report.json")))?
        .sites("heap", |frames| frames.first() == Some(&"leak_session"))?;
    ensure!((kept.outstanding_count, kept.outstanding_bytes) == (1000, 100_000), "{kept:?}");
    let mut screen = Terminal::start(&["replay", &tape])?;
    screen.wait_for("heap 97.7 KiB in 1,000")?;
    ensure!(screen.has_shown("light: page faults, no probe"), "light tracing was not shown");
    screen.press("q")?;
    let status = screen.wait(LIMIT)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn a_tape_that_another_run_records_is_left_alone() -> Result<()> {
    let folder = Folder::new("shared")?;
    let tape = folder.file("tape");
    let mut victim = Victim::start("steady_leak", &["1000", "1"])?;
    let pid = victim.pid().to_string();
    let live = record(&folder, &["-p", &pid], "json", || {
        let second = ["-p", &pid, "--record", &tape, "-f", "json", "-d", "1s"];
        Refusal::of(&[], &second)?.names(&tape)?;
        victim.go()?;
        victim.truth()?;
        Ok(())
    })?;
    victim.exit()?;
    same(&live, &folder.replay("json")?)
}
