//! `test`: every test there is, through nextest; a test that did not run must not look green.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    kernels::NO_VM,
    packages,
    process::{build_leaktrace, cargo, note, print, workspace},
    vm,
};

/// What a skipped test prints; the reason follows.
const SKIPPED: &str = "skipped: ";

/// Variables that ask for a skip when they are 1, and the reason that the test gives.
const ASKED: [(&str, &str); 2] =
    [("LEAKTRACE_SKIP_ROOT", ": needs root"), (NO_VM, ": LEAKTRACE_NO_VM=1")];

/// [`run`], and what it leaves to others.
pub(crate) fn run_and_tell(filters: &[&str]) -> Result<()> {
    let outcome = run(filters);
    vm::tell_untried();
    outcome
}

/// Installs, builds and runs; `filters` are passed on to nextest.
pub(crate) fn run(filters: &[&str]) -> Result<()> {
    packages::for_tests()?;
    build_leaktrace()?;
    let mut child = cargo()
        .args(["nextest", "run", "--workspace", "--exclude", "tracer-ebpf"])
        .args(filters)
        // A failed comparison is its own explanation; a panic keeps its backtrace.
        .env("RUST_LIB_BACKTRACE", "0")
        .current_dir(workspace())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not run `cargo nextest`")?;
    // nextest writes everything, the tests' own output too, to stderr.
    let stream = child.stderr.take().context("stderr is piped")?;
    let mut skipped = Vec::new();
    let mut test = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let words = line.trim();
        if words.starts_with("PASS") || words.starts_with("FAIL") {
            // `PASS [ 0.006s] ( 1/10) tests::binary name`
            words.rsplit(") ").next().unwrap_or(words).clone_into(&mut test);
        }
        match words.strip_prefix(SKIPPED) {
            Some(reason) => skipped.push(format!("{test}: {reason}")),
            None if is_chatter(words) => {}
            None => note(&line),
        }
    }
    let status = child.wait()?;
    report(&skipped)?;
    if !status.success() {
        bail!("tests failed");
    }
    Ok(())
}

/// What libtest prints around a passed test, which nobody needs to see.
fn is_chatter(line: &str) -> bool {
    line.is_empty()
        || line == "running 1 test"
        || line == "stdout ───"
        || line.starts_with("test result: ok")
        || (line.starts_with("test ") && line.ends_with(" ok"))
}

/// A skip is a result. The only ones that are expected are those that were asked for.
fn report(skipped: &[String]) -> Result<()> {
    if skipped.is_empty() {
        return Ok(());
    }
    print(&format!("{} tests were skipped:", skipped.len()));
    for line in skipped {
        print(&format!("  {line}"));
    }
    let asked = |line: &String| {
        ASKED.iter().any(|(variable, words)| {
            env::var(variable).is_ok_and(|value| value == "1") && line.contains(words)
        })
    };
    if !skipped.iter().all(asked) {
        bail!("skipped without being asked to");
    }
    Ok(())
}
