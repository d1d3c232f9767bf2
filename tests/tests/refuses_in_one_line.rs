//! Each refusal is one line with one `help:` line, and exit status 2.

use std::{
    os::unix::fs::PermissionsExt as _,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tests::{
    Trace, Victim,
    child::Running,
    compile, scratch,
    trace::{AS_NOBODY, Refusal},
};

/// Above the largest possible process id.
const NOBODY: &str = "4194305";

#[test]
fn a_process_that_does_not_exist() -> Result<()> {
    Refusal::of(&[], &["-p", NOBODY, "-f", "json", "-d", "1s"])?.names(NOBODY)
}

#[test]
fn a_zombie_names_its_parent() -> Result<()> {
    let mut child = Command::new("true").spawn()?;
    let pid = child.id().to_string();
    let path = format!("/proc/{pid}/stat");
    tests::wait_until("the child is a zombie", Duration::from_secs(10), || {
        Ok(std::fs::read_to_string(&path)?.contains(") Z "))
    })?;
    let refusal = Refusal::of(&[], &["-p", &pid, "-f", "json", "-d", "1s"]);
    child.wait()?;
    let refusal = refusal?;
    refusal.names(&pid)?;
    let parent = format!("-p {}", std::process::id());
    ensure!(refusal.stderr.iter().any(|line| line.contains(&parent)), "{refusal:#?}");
    Ok(())
}

#[test]
fn leaktrace_itself() -> Result<()> {
    // The shell's id becomes that of leaktrace.
    let line = r#"exec "$0" -p $$ "$@""#;
    Refusal::of(&["sh", "-c", line], &["-f", "json", "-d", "1s"])?.names("leaktrace itself")
}

#[test]
fn a_thread_of_the_kernel() -> Result<()> {
    let is_kernel = std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n");
    ensure!(is_kernel, "the test runs where process 2 is the kernel's");
    Refusal::of(&[], &["-p", "2", "-f", "json", "-d", "1s"])?.names("`2`")
}

#[test]
fn a_name_that_no_process_has() -> Result<()> {
    Refusal::of(&[], &["-n", "no_such_name", "-f", "json", "-d", "1s"])?.names("no_such_name")
}

#[test]
fn a_name_that_two_processes_have_lists_both() -> Result<()> {
    let victims = [Victim::start("steady_leak", &[])?, Victim::start("steady_leak", &[])?];
    let refusal = Refusal::of(&[], &["-n", "steady_leak", "-f", "json", "-d", "1s"])?;
    ensure!(refusal.code == Some(2), "{refusal:#?}");
    let text = refusal.stderr.join("\n");
    for victim in &victims {
        ensure!(text.contains(&victim.pid().to_string()), "{} is not in:\n{text}", victim.pid());
    }
    Ok(())
}

#[test]
fn an_output_that_cannot_be_written() -> Result<()> {
    let victim = Victim::start("steady_leak", &[])?;
    let pid = victim.pid().to_string();
    let path = "/proc/no_such_folder/report.json";
    Refusal::of(&[], &["-p", &pid, "-f", "json", "-d", "1s", "-o", path])?.names(path)
}

#[test]
fn a_command_that_cannot_be_started() -> Result<()> {
    Refusal::of(&[], &["-f", "json", "--", "/no/such/program"])?.names("/no/such/program")
}

#[test]
fn a_user_without_the_right_to_trace() -> Result<()> {
    let victim = Victim::start("steady_leak", &[])?;
    let pid = victim.pid().to_string();
    // A copy that the user may reach and run, wherever build products are.
    let copy = std::env::temp_dir().join(format!("leaktrace-{}", std::process::id()));
    std::fs::copy(tests::trace::leaktrace()?, &copy)?;
    // Built with a restrictive umask, the file system would refuse to execute it.
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))?;
    let path = copy.to_string_lossy().into_owned();
    let refusal = Refusal::of_program(&AS_NOBODY, &path, &["-p", &pid, "-f", "json", "-d", "1s"]);
    std::fs::remove_file(&copy)?;
    refusal?.names("CAP_BPF")
}

#[test]
fn a_target_that_ends_while_probes_are_attached() -> Result<()> {
    // Ends at some moment between the first look at the process and the last probe, a different one each time.
    for delay_ms in [0, 5, 10, 20, 40, 80, 160, 320] {
        let mut victim = Victim::start("steady_leak", &[])?;
        let mut trace = Trace::start(&["-p", &victim.pid().to_string(), "-d", "1s"])?;
        let moment = Instant::now() + Duration::from_millis(delay_ms);
        thread::sleep(moment.saturating_duration_since(Instant::now()));
        victim.kill()?;
        let status = trace.wait()?.code();
        // leaktrace either came too late and says so, or saw the end and reports it.
        match status {
            Some(0) => {
                let report = trace.report()?;
                ensure!(!report.at("/targets/0/exited")?.is_null(), "the target has ended");
            }
            Some(2) => trace.refusal().names(&victim.pid().to_string())?,
            other => anyhow::bail!("status {other:?} after {delay_ms} ms: {:#?}", trace.refusal()),
        }
    }
    Ok(())
}

#[test]
fn descriptors_that_cannot_be_traced_are_left_out_unless_they_are_named() -> Result<()> {
    const KPROBES: [&str; 2] = ["--fd-backend", "kprobe"];
    let mut victim = Victim::start("ground_truth", &["2", "1000", "5"])?;
    let pid = victim.pid().to_string();
    let mut trace = Trace::start(&[&["-p", &pid][..], &KPROBES].concat())?;
    trace.wait_until_attached()?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    ensure!(report.total("heap")? == truth.sum("heap"), "{}", report.summary());
    let named =
        [&["-p", &pid, "--kind", "heap,fd", "-f", "json", "-d", "1s"][..], &KPROBES].concat();
    let refusal = Refusal::of(&[], &named)?;
    let warned = report.list("/warnings")?.iter().filter_map(|one| one.as_str());
    let warned =
        warned.filter(|one| one.starts_with("file descriptors and connections are not traced: "));
    if report.at("/host/fd_backend")?.as_str() == Some("kprobe") {
        ensure!(warned.count() == 0 && refusal.code == Some(0), "{refusal:#?}");
        return Ok(());
    }
    // This kernel has no kprobes.
    ensure!(warned.count() == 1 && report.at("/fds")?.is_null(), "{}", report.summary());
    let [failure] = refusal.stderr.as_slice() else { anyhow::bail!("one line, not {refusal:#?}") };
    ensure!(refusal.code == Some(2) && failure.contains("kprobes"), "{refusal:#?}");
    Ok(())
}

#[test]
fn a_report_on_stdout_is_never_mixed_with_messages() -> Result<()> {
    let mut running = Running::start(
        Command::new(tests::trace::leaktrace()?)
            .args(["-f", "json", "--"])
            .arg(compile::victim("exits")?)
            .arg("0"),
    )?;
    running.wait(Duration::from_secs(60))?;
    tests::Report::parse(&running.rest_of_stdout().join("\n")).map(drop)
}

#[test]
fn unknown_words() -> Result<()> {
    let file = scratch("never")?;
    let path = file.to_string_lossy().into_owned();
    let refusal = Refusal::of(&[], &["-p", "1", "--no-such-flag", "-o", &path])?;
    ensure!(refusal.code == Some(2) && !file.exists(), "{refusal:#?}");
    Ok(())
}

/// A copy of the victim `steady_leak` whose bytes `change` has modified.
fn changed(name: &str, change: impl FnOnce(&std::path::Path) -> Result<()>) -> Result<Refusal> {
    let copy = scratch(name)?;
    std::fs::copy(compile::victim("steady_leak")?, &copy)?;
    change(&copy)?;
    let running = Running::start(&mut Command::new(&copy))?;
    ensure!(running.line(Duration::from_secs(10))? == "ready", "a victim says `ready` first");
    let pid = running.pid().to_string();
    let refusal = Refusal::of(&[], &["-p", &pid, "-f", "json", "-d", "1s"]);
    std::fs::remove_file(&copy)?;
    refusal
}

#[test]
fn a_program_with_the_go_runtime() -> Result<()> {
    // The section that Go's linker writes, in an otherwise normal program.
    let refusal = changed("go_program", |path| {
        let note = scratch("go_section")?;
        std::fs::write(&note, "\u{ff} Go buildinf:")?;
        let section = format!(".go.buildinfo={}", note.display());
        let done = Command::new("objcopy").args(["--add-section", &section]).arg(path).status()?;
        std::fs::remove_file(&note)?;
        ensure!(done.success(), "objcopy failed");
        Ok(())
    })?;
    refusal.names("Go runtime")
}

#[test]
fn a_32_bit_program() -> Result<()> {
    // Without a 32-bit C library: a program that calls pause(2) in a loop.
    let program = scratch("thirty_two_bit")?;
    let mut compiler = Running::start(
        Command::new("gcc")
            .args(["-m32", "-static", "-nostdlib", "-x", "assembler", "-o"])
            .arg(&program)
            .arg("-"),
    )?;
    compiler.send(".globl _start\n_start: mov $29, %eax\nint $0x80\njmp _start")?;
    compiler.end_input();
    ensure!(compiler.wait(Duration::from_secs(20))?.success(), "{:?}", compiler.rest_of_stderr());
    let running = Running::start(&mut Command::new(&program))?;
    let pid = running.pid().to_string();
    let refusal = Refusal::of(&[], &["-p", &pid, "-f", "json", "-d", "1s"]);
    std::fs::remove_file(&program)?;
    refusal?.names("32-bit")
}
