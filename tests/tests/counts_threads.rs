//! Threads are counted where they were started, with their states, until they are joined, or detached and ended. So are
//! children that have ended, until their parent waits for them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{Report, Trace, Victim, report::symbols};

/// What is known of the threads of one call site: started, alive, ended.
type States = [u64; 3];

/// The threads of a report by the function that started them, without those that have none.
fn reported(report: &Report) -> Result<BTreeMap<String, States>> {
    let mut all: BTreeMap<String, States> = BTreeMap::new();
    for site in report.list("/sites")?.iter().filter(|site| site["kind"] == "thread") {
        let name = symbols(site).into_iter().find(|name| name.starts_with("start_"));
        let name = name.with_context(|| format!("an unknown call site: {site}"))?;
        let number = |pointer: &str| site.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let (alive, ended) = (number("/threads/alive"), number("/threads/ended"));
        assert_eq!(alive + ended, number("/outstanding_count"), "{site}");
        let sum = all.entry(name.to_owned()).or_default();
        for (sum, more) in sum.iter_mut().zip([number("/acquired_count"), alive, ended]) {
            *sum += more;
        }
    }
    all.retain(|_, states| *states != [0; 3]);
    Ok(all)
}

/// The same from the victim's own account.
fn expected(truth: &Value) -> Result<BTreeMap<String, States>> {
    let sites = truth["threads"].as_object().context("the threads")?.iter();
    let states = |site: &Value| {
        ["started", "alive", "ended"].map(|key| site[key].as_u64().unwrap_or(u64::MAX))
    };
    let all = sites.map(|(name, site)| (name.clone(), states(site)));
    Ok(all.filter(|(_, states)| *states != [0; 3]).collect())
}

/// Compares the report with the truth. Returns both.
fn equals(rounds: &str, creators: &str, options: &[&str]) -> Result<(Report, Value)> {
    let mut victim = Victim::start("threads", &[rounds, creators])?;
    let trace = Trace::attach(victim.pid(), options)?;
    victim.go()?;
    let truth = victim.answer()?;
    let report = trace.stop()?;
    assert_eq!(report.lost_by_target()?, "");
    assert_eq!(reported(&report)?, expected(&truth)?, "{}", report.summary());
    victim.exit()?;
    Ok((report, truth))
}

#[test]
fn threads_that_are_started_and_released_in_every_way() -> Result<()> {
    let (report, truth) = equals("50", "1", &[])?;
    // The stacks and the thread-local storage of threads belong to nobody else.
    for site in report.list("/sites")?.iter().filter(|site| site["kind"] != "thread") {
        assert!(!symbols(site).iter().any(|name| name.starts_with("start_")), "{site}");
    }
    let touched = truth["touched_bytes"].as_u64().context("what each has touched")?;
    // Each has a stack of 256 KiB. Beside what it touches on purpose, some pages at its top are resident. The C library
    // gives most of the memory back when a thread ends.
    for (name, touched) in [("start_waiting", touched), ("start_forgotten", 4096)] {
        let mut sums = [0; 3];
        for site in report.list("/sites")?.iter().filter(|site| symbols(site).contains(&name)) {
            let keys = ["/outstanding_count", "/resident_bytes", "/threads/stack_bytes"];
            for (sum, key) in sums.iter_mut().zip(keys) {
                *sum += site.pointer(key).and_then(Value::as_u64).context("a number")?;
            }
        }
        let [count, resident, space] = sums;
        assert!(space >= count * (256 << 10) && space <= count * (272 << 10), "{name}: {sums:?}");
        assert!(resident >= count * touched, "{name}: {sums:?}");
        assert!(resident <= count * (touched + (48 << 10)), "{name}: {sums:?}");
    }
    Ok(())
}

#[test]
fn threads_that_are_started_at_full_speed_by_several() -> Result<()> {
    equals("500", "4", &[]).map(drop)
}

#[test]
fn outcomes_of_joins_are_seen_without_return_probes() -> Result<()> {
    equals("50", "2", &["--no-return-probes", "--kind", "thread"]).map(drop)
}

#[test]
fn threads_of_the_process_that_has_exited_are_shown_as_they_were() -> Result<()> {
    let mut victim = Victim::start("threads", &["10", "2"])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.answer()?;
    victim.exit()?;
    let report = trace.finish()?;
    assert_eq!(reported(&report)?, expected(&truth)?, "{}", report.summary());
    Ok(())
}

#[test]
fn children_that_nobody_waits_for_are_counted_by_name() -> Result<()> {
    let mut victim = Victim::start("zombies", &[])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "thread"])?;
    victim.go()?;
    let truth = victim.answer()?;
    let report = trace.stop()?;
    assert_eq!(report.at("/targets/0/zombies")?, &truth["zombies"]);
    victim.exit()
}
