//! `test`: runs all tests, lane by lane; a test that did not run must not look green.
//!
//! Takes lanes and a user's filters; passes on a table of results. It must not start a lane before it is known that all
//! lanes can run.

use std::{
    collections::BTreeSet,
    env,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    check,
    kernels::NO_VM,
    lanes::{LANES, Lane},
    nextest::{self, TestResult},
    packages,
    process::{build_churn, build_leaktrace, is_root, print},
    vm,
};

/// If set to 1, tests that need root are skipped without it.
const SKIP_ROOT: &str = "LEAKTRACE_SKIP_ROOT";
const NEEDS_ROOT: &str = "needs root";
/// Variables that request a skip if set to 1, and the reason of such a skip.
const REQUESTED: [(&str, &str); 2] = [(SKIP_ROOT, NEEDS_ROOT), (NO_VM, "LEAKTRACE_NO_VM=1")];
/// The lane whose tests need no built leaktrace.
const FAST: &str = "fast";
/// Number of slowest tests in the summary.
const SLOWEST: usize = 15;

/// The selected tests of a lane.
struct Part {
    lane: &'static Lane,
    /// All tests of the lane that the user selected.
    wanted: BTreeSet<String>,
    /// Those that this user can run.
    runs: BTreeSet<String>,
    /// The filterset of these.
    filter: String,
    /// The results.
    ran: Vec<(String, TestResult)>,
    /// Time from the start of the lane, including package installation, to the end of its last test.
    time: Duration,
}

/// The tests that a user selected.
pub(crate) struct Selection<'a> {
    /// Of these lanes.
    lanes: Vec<&'static Lane>,
    /// Filtersets, one of which must match; empty for all tests.
    filtersets: Vec<&'a str>,
    /// Parts of test names and options, for nextest.
    words: Vec<&'a str>,
}

impl<'a> Selection<'a> {
    /// All tests of a lane.
    pub(crate) fn lane(name: &str) -> Result<Self> {
        Ok(Self { lanes: vec![Lane::named(name)?], filtersets: Vec::new(), words: Vec::new() })
    }

    /// Parses `[--lane NAME]… [FILTER]…`, where a filter is a part of a name, or `-E FILTERSET`.
    pub(crate) fn parse(said: &[&'a str]) -> Result<Self> {
        let mut selection = Self { lanes: Vec::new(), filtersets: Vec::new(), words: Vec::new() };
        let mut said = said.iter();
        while let Some(word) = said.next() {
            let mut next = || said.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--lane" => selection.lanes.push(Lane::named(next()?)?),
                "-E" | "--filterset" => selection.filtersets.push(next()?),
                word => selection.words.push(word),
            }
        }
        if selection.lanes.is_empty() {
            selection.lanes = LANES.iter().collect();
        }
        Ok(selection)
    }

    fn has(&self, lane: &str) -> bool {
        self.lanes.iter().any(|one| one.name == lane)
    }

    /// Whether it selects whole lanes.
    fn is_whole(&self) -> bool {
        self.filtersets.is_empty() && self.words.is_empty()
    }

    /// Restricts `filterset` to the selection.
    fn of(&self, filterset: &str) -> String {
        if self.filtersets.is_empty() {
            return filterset.to_owned();
        }
        format!("({filterset}) & (({}))", self.filtersets.join(") | ("))
    }
}

/// Runs lanes, or the tests that the user selected.
pub(crate) fn run(selection: &Selection<'_>) -> Result<()> {
    nextest::install()?;
    let start = Instant::now();
    // The check that fails most often comes first, and needs no built tests.
    if selection.is_whole() && selection.has(FAST) {
        check::source()?;
    }
    let checked = start.elapsed();
    let mut parts = chosen(selection)?;
    if parts.iter().any(|part| part.lane.name != FAST) {
        build_leaktrace()?;
        build_churn()?;
    }
    let names: Vec<&str> = parts.iter().map(|part| part.lane.name).collect();
    let host = |lane: &Lane| lane.beside.filter(|name| names.contains(name)).unwrap_or(lane.name);
    let mut passed = true;
    for name in &names {
        let together = parts.iter_mut().filter(|part| host(part.lane) == *name);
        passed &= run_together(together.collect(), &selection.words)?;
    }
    for part in parts.iter_mut().filter(|part| part.lane.name == FAST) {
        part.time += checked;
    }
    summarize(&parts);
    if selection.has("kernels") {
        vm::list_untested();
    }
    verdict(&parts, passed)
}

/// Fails unless all tests ran and passed, and skips were requested.
fn verdict(parts: &[Part], passed: bool) -> Result<()> {
    ensure!(passed && parts.iter().all(Part::passed), "tests failed");
    for part in parts {
        let (ran, runs) = (part.ran.len(), part.runs.len());
        ensure!(ran == runs, "lane {}: {ran} of {runs} tests ran", part.lane.name);
    }
    let requested = |(_, reason): &(&str, &str)| is_requested(reason);
    ensure!(skipped(parts).iter().all(requested), "skipped without a request");
    Ok(())
}

/// The tests to run in each lane; each test is in one.
fn chosen(selection: &Selection<'_>) -> Result<Vec<Part>> {
    let is_root = is_root();
    let mut parts = Vec::new();
    for lane in selection.lanes.iter().copied() {
        let filter = selection.of(&lane.tests());
        let wanted = nextest::list(&filter, &selection.words)?;
        if wanted.is_empty() {
            ensure!(!selection.is_whole(), "lane {} has no test", lane.name);
            continue;
        }
        let mut part = Part {
            lane,
            runs: wanted.clone(),
            wanted,
            filter,
            ran: Vec::new(),
            time: Duration::ZERO,
        };
        if !is_root && lane.without_root != "all()" {
            part.filter = format!("({}) & ({})", part.filter, lane.without_root);
            part.runs = nextest::list(&part.filter, &selection.words)?;
            let left = part.wanted.len() - part.runs.len();
            ensure!(
                left == 0 || is_set(SKIP_ROOT),
                "{left} tests of lane {} need root\nhelp: run as root; {SKIP_ROOT}=1 skips them",
                lane.name
            );
        }
        parts.push(part);
    }
    ensure!(!parts.is_empty(), "no test matches");
    if selection.lanes.len() == LANES.len() {
        let all = nextest::list(&selection.of("all()"), &selection.words)?;
        let sum: usize = parts.iter().map(|part| part.wanted.len()).sum();
        ensure!(all.len() == sum, "{} tests, of which lanes have {sum}", all.len());
    }
    Ok(parts)
}

/// Installs the packages of these lanes, and runs the lanes in parallel.
fn run_together(mut parts: Vec<&mut Part>, words: &[&str]) -> Result<bool> {
    let start = Instant::now();
    parts.retain(|part| !part.runs.is_empty());
    for part in &parts {
        packages::for_lane(part.lane)?;
    }
    if parts.is_empty() {
        return Ok(true);
    }
    let filters: Vec<&str> = parts.iter().map(|part| part.filter.as_str()).collect();
    let filter = format!("({})", filters.join(") | ("));
    let names: Vec<&str> = parts.iter().map(|part| part.lane.name).collect();
    print(&format!("── lane {}", names.join(", and in parallel ")));
    let prepared = start.elapsed();
    let outcome = nextest::run(&filter, words)?;
    for part in parts {
        let own = outcome.tests.iter().filter(|(name, _)| part.runs.contains(*name));
        part.ran = own.map(|(name, ran)| (name.clone(), ran.clone())).collect();
        let last = part.ran.iter().map(|(_, ran)| ran.ended).max().unwrap_or_default();
        part.time = prepared + last;
    }
    Ok(outcome.passed)
}

fn is_set(variable: &str) -> bool {
    env::var(variable).is_ok_and(|value| value == "1")
}

/// Only requested skips are expected.
fn is_requested(reason: &str) -> bool {
    REQUESTED.iter().any(|(variable, words)| is_set(variable) && reason.starts_with(words))
}

impl Part {
    fn passed(&self) -> bool {
        self.ran.iter().all(|(_, ran)| ran.passed)
    }
}

/// Skipped tests with reasons: those that reported a skip, and those that were not started.
fn skipped(parts: &[Part]) -> Vec<(&str, &str)> {
    let mut skipped = Vec::new();
    for part in parts {
        let not_started = part.wanted.difference(&part.runs);
        skipped.extend(not_started.map(|name| (name.as_str(), NEEDS_ROOT)));
        skipped.extend(part.ran.iter().filter_map(|(name, ran)| {
            let reason = ran.skipped.as_deref()?;
            Some((name.as_str(), reason))
        }));
    }
    skipped
}

/// Prints the table of lanes, the slowest tests, the skipped ones, and the sums.
fn summarize(parts: &[Part]) {
    let mut all: Vec<&(String, TestResult)> = parts.iter().flat_map(|part| &part.ran).collect();
    all.sort_by_key(|(_, ran)| std::cmp::Reverse(ran.time));
    print("\nslowest tests:");
    for (name, ran) in all.iter().take(SLOWEST) {
        print(&format!("{:>8.1} s  {name}", ran.time.as_secs_f64()));
    }
    let skipped = skipped(parts);
    if !skipped.is_empty() {
        print("\nskipped tests:");
        skipped.iter().for_each(|(name, reason)| print(&format!("  {name}: {reason}")));
    }
    print(&format!("\n{:<10}{:>8}{:>10}{:>18}", "lane", "tests", "time", "tests' time"));
    for part in parts {
        let sum: Duration = part.ran.iter().map(|(_, ran)| ran.time).sum();
        print(&format!(
            "{:<10}{:>8}{:>8.0} s{:>16.0} s",
            part.lane.name,
            part.ran.len(),
            part.time.as_secs_f64(),
            sum.as_secs_f64()
        ));
    }
    let failed = all.iter().filter(|(_, ran)| !ran.passed).count();
    let said = all.iter().filter(|(_, ran)| ran.skipped.is_some()).count();
    let passed = all.len() - failed - said;
    print(&format!("\n{passed} passed, {failed} failed, {} skipped", skipped.len()));
}
