//! At the end of a trace, the heap itself is asked about each outstanding block.

use anyhow::{Context as _, Result};
use tests::{Report, Trace, Victim};

/// A number in the report.
fn number(report: &Report, path: &str) -> Option<u64> {
    report.at(path).ok()?.as_u64()
}

#[test]
fn every_outstanding_block_of_eight_threads_is_allocated_in_the_heap() -> Result<()> {
    let mut victim = Victim::start("heap_state", &["3000"])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "heap"])?;
    victim.go()?;
    let truth = victim.answer()?;
    let held = truth["blocks"].as_object().context("the blocks")?.len() as u64;
    let report = trace.stop()?;
    let outstanding = number(&report, "/totals/heap/outstanding_count").context("a total")?;
    assert!(outstanding >= held && outstanding < held + 20, "{outstanding}, {held} held");
    assert_eq!(number(&report, "/accounting/verified/blocks"), Some(outstanding));
    assert_eq!(number(&report, "/accounting/verified/of"), Some(outstanding));
    assert_eq!(number(&report, "/accounting/verified/missed_releases"), Some(0));
    // The memory account is the C library's own; threads' caches are kept, and count as used there.
    let used = number(&report, "/memory/heap_used_bytes").context("used")?;
    let kept = number(&report, "/memory/heap_kept_bytes").context("kept")?;
    let all = ["uordblks", "hblkhd", "fordblks"].map(|key| truth[key].as_u64().unwrap_or(0));
    let headers = all.iter().sum::<u64>() - (used + kept);
    assert!(headers < 9 * 4096, "{headers}");
    victim.exit()
}

#[test]
fn a_release_that_no_probe_saw_is_a_loss_and_no_leak() -> Result<()> {
    let mut victim = Victim::start("heap_missed", &["1000", "500"])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "heap"])?;
    victim.go()?;
    let truth = victim.answer()?;
    let report = trace.stop()?;
    assert_eq!(*report.at("/accounting/lost/missed_release")?, truth["missed"]);
    assert_eq!(*report.at("/accounting/verified/missed_releases")?, truth["missed"]);
    let of = number(&report, "/accounting/verified/of").context("verified")?;
    assert_eq!(number(&report, "/accounting/verified/blocks"), Some(of - 500));
    assert_eq!(*report.at("/totals/heap/outstanding_count")?, truth["kept"]);
    let sites = report.list("/sites")?;
    for site in sites {
        let symbols = tests::report::symbols(site);
        let outstanding = site["outstanding_count"].as_u64();
        match symbols.first() {
            Some(&"make_kept") => assert_eq!(outstanding, Some(1000)),
            Some(&"make_missed") => assert_eq!(outstanding, Some(0)),
            _ => {}
        }
    }
    victim.exit()
}

#[test]
fn blocks_that_a_busy_program_releases_meanwhile_are_not_missed() -> Result<()> {
    let mut victim = Victim::start("churn", &["2", "300000000"])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "heap"])?;
    victim.go()?;
    // It works while the heap is read.
    let report = trace.stop()?;
    assert_eq!(number(&report, "/accounting/verified/missed_releases").unwrap_or(0), 0);
    assert!(report.at("/accounting/lost/missed_release").is_err());
    victim.kill()
}
