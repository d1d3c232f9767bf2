//! A target may be in other namespaces and have a different root: `-p` takes its id in leaktrace's namespace, and
//! leaktrace opens its files relative to the target's root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tests::{Trace, Truth, child::Running, compile, scratch, trace::Refusal, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

/// Traces `pid`, whose streams are those of `running`, and compares.
fn equals(running: &mut Running, pid: u32, options: &[&str]) -> Result<()> {
    let trace = Trace::attach(pid, options)?;
    running.send("go")?;
    let truth = Truth::parse(&running.line(LIMIT)?)?;
    truth.equals(&trace.stop()?)?;
    running.send("exit")
}

/// The only child of a process.
fn child_of(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let mut child = None;
    wait_until("a child", LIMIT, || {
        child = fs::read_to_string(&path)?.split_whitespace().next().map(str::to_owned);
        Ok(child.is_some())
    })?;
    Ok(child.context("a child")?.parse()?)
}

#[test]
fn namespaces_of_users_processes_and_mounts() -> Result<()> {
    let victim = compile::victim("ground_truth")?;
    let mut running = Running::start(
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"])
            .arg(victim)
            .args(["2", "50000", "3"]),
    )?;
    ensure!(running.line(LIMIT)? == "ready", "a victim says `ready` first");
    let pid = child_of(running.pid())?;
    equals(&mut running, pid, &[])
}

/// Copies a file to the same path under another root.
fn copy_under(root: &Path, path: &Path) -> Result<()> {
    let place = root.join(path.strip_prefix("/")?);
    fs::create_dir_all(place.parent().context("a folder")?)?;
    fs::copy(path, &place).with_context(|| format!("could not copy `{}`", path.display()))?;
    Ok(())
}

#[test]
fn a_root_of_its_own_with_a_library_of_its_own() -> Result<()> {
    let root = scratch("root")?;
    let victim = compile::victim("ground_truth")?;
    fs::create_dir_all(&root)?;
    fs::copy(&victim, root.join("victim"))?;
    // The loader lists its dependencies: absolute paths among the words.
    let needs = Command::new("ldd").arg(&victim).output().context("could not run `ldd`")?;
    let text = String::from_utf8(needs.stdout)?;
    for path in text.split_whitespace().filter(|word| word.starts_with('/')) {
        copy_under(&root, &PathBuf::from(path))?;
    }
    let outcome = (|| {
        let mut running =
            Running::start(Command::new("chroot").arg(&root).args(["/victim", "2", "50000", "4"]))?;
        ensure!(running.line(LIMIT)? == "ready", "a victim says `ready` first");
        let pid = running.pid();
        equals(&mut running, pid, &[])
    })();
    fs::remove_dir_all(&root)?;
    outcome
}

#[test]
fn leaktrace_in_a_pid_namespace_of_its_own_says_that_it_cannot() -> Result<()> {
    let wrapper = ["unshare", "--pid", "--fork", "--mount-proc"];
    Refusal::of(&wrapper, &["-p", "1", "-f", "json", "-d", "1s"])?.names("pid namespace")
}
