//! Lists and runs the tests with nextest.
//!
//! Takes filtersets; passes on the list of tests and, for each that ran, its time and result. Shows nextest's output as
//! it comes. It must not know lanes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process::{cargo, churn, exists, note, output, run as run_command, workspace};

/// Prefix of a skipped test's message; the reason follows.
const SKIPPED: &str = "skipped: ";

/// Minimum number of tests in parallel, on a machine with few processors: most of them wait for the kernel.
/// `.config/nextest.toml` says which may run in parallel.
const LEAST_THREADS: usize = 4;

/// The result of a test.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TestResult {
    /// Its duration.
    pub(crate) time: Duration,
    /// Time from the start of the run to its end.
    pub(crate) ended: Duration,
    /// Whether it passed.
    pub(crate) passed: bool,
    /// The reason in its message if it was skipped.
    pub(crate) skipped: Option<String>,
}

/// The results by name.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Each test once.
    pub(crate) tests: BTreeMap<String, TestResult>,
    /// Whether nextest reported success.
    pub(crate) passed: bool,
}

/// Installs nextest if it is missing.
pub(crate) fn install() -> Result<()> {
    if exists("cargo-nextest") {
        return Ok(());
    }
    run_command(cargo().args(["install", "cargo-nextest", "--locked"]))
}

/// `cargo nextest COMMAND` on the workspace, with a filterset and the user's options.
fn nextest(command: &str, filter: &str, options: &[&str]) -> Command {
    let mut nextest = cargo();
    nextest
        .args(["nextest", command, "--workspace", "--exclude", "tracer-ebpf", "-E", filter])
        .args(options)
        // A failed comparison explains itself; a panic keeps its backtrace.
        .env("RUST_LIB_BACKTRACE", "0")
        .current_dir(workspace());
    nextest
}

/// Lists the tests that a filterset and options select, after building them if needed.
pub(crate) fn list(filter: &str, options: &[&str]) -> Result<BTreeSet<String>> {
    let text = output(nextest("list", filter, options).args(["--message-format", "json"]))?;
    chosen(&serde_json::from_str(&text).context("could not read nextest's list")?)
}

/// Names as nextest prints them: binary, space, test.
fn chosen(listed: &Value) -> Result<BTreeSet<String>> {
    let object = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_object).cloned().with_context(|| format!("no `{key}`"))
    };
    let mut names = BTreeSet::new();
    for (binary, suite) in object(listed, "rust-suites")? {
        for (test, about) in object(&suite, "testcases")? {
            if about.pointer("/filter-match/status").and_then(Value::as_str) == Some("matches") {
                names.insert(format!("{binary} {test}"));
            }
        }
    }
    Ok(names)
}

/// Runs the tests that a filterset and options select.
pub(crate) fn run(filter: &str, options: &[&str]) -> Result<Outcome> {
    let start = Instant::now();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut child = nextest("run", filter, options)
        // Tests that need `churn` use this program, and do not build it again.
        .env("LEAKTRACE_CHURN", churn())
        .args(["--test-threads", &processors.max(LEAST_THREADS).to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .context("could not run `cargo nextest`")?;
    // nextest writes everything to stderr, including the tests' own output.
    let stream = child.stderr.take().context("stderr is piped")?;
    let mut outcome = Outcome::default();
    let mut current = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let words = line.trim();
        if let Some((name, mut ran)) = ended(words) {
            ran.ended = start.elapsed();
            name.clone_into(&mut current);
            // At the end nextest repeats the failed tests.
            outcome.tests.entry(current.clone()).or_insert(ran);
        }
        if let Some(reason) = words.strip_prefix(SKIPPED) {
            if let Some(ran) = outcome.tests.get_mut(&current) {
                ran.skipped = Some(reason.to_owned());
            }
        } else if !is_chatter(words) {
            note(&line);
        }
    }
    outcome.passed = child.wait()?.success();
    if outcome.tests.is_empty() && outcome.passed {
        bail!("nextest ran no test for `{filter}`");
    }
    Ok(outcome)
}

/// The name in a line such as `PASS [   0.006s] ( 1/10) tests::binary name`. A slow test that is still running has a
/// `>` before its time.
fn ended(line: &str) -> Option<(&str, TestResult)> {
    let (status, rest) = line.split_once(" [")?;
    let (time, rest) = rest.split_once("s] (")?;
    let (_, name) = rest.split_once(") ")?;
    let time = Duration::try_from_secs_f64(time.trim().parse().ok()?).ok()?;
    // A test that leaks a process or descriptor has passed, and nextest reports that.
    let passed = matches!(status.trim(), "PASS" | "LEAK");
    Some((name, TestResult { time, ended: Duration::ZERO, passed, skipped: None }))
}

/// Lines that libtest prints around a passed test.
fn is_chatter(line: &str) -> bool {
    line.is_empty()
        || line == "running 1 test"
        || line == "stdout ───"
        || line.starts_with("test result: ok")
        || (line.starts_with("test ") && line.ends_with(" ok"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_test_is_read_and_its_slowness_is_not() {
        let (name, ran) = ended("PASS [   0.006s] ( 1/10) tests::binary a::name").unwrap();
        assert_eq!((name, ran.passed), ("tests::binary a::name", true));
        assert_eq!(ran.time, Duration::from_millis(6));
        assert!(!ended("TIMEOUT [ 360.012s] (10/10) tests::binary name").unwrap().1.passed);
        assert_eq!(ended("SLOW [> 60.000s] (─────) tests::binary name"), None);
        assert_eq!(ended("Summary [ 12.3s] 10 tests run: 10 passed, 3 skipped"), None);
    }

    #[test]
    fn a_list_has_what_the_filter_chooses() {
        let listed = serde_json::json!({"rust-suites": {"tests::b": {"testcases": {
            "one": {"ignored": false, "filter-match": {"status": "matches"}},
            "two": {"ignored": true, "filter-match": {"status": "mismatch", "reason": "ignored"}},
        }}}});
        assert_eq!(chosen(&listed).unwrap().into_iter().collect::<Vec<_>>(), ["tests::b one"]);
    }
}
