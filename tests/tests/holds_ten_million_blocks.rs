//! Ten million outstanding blocks of 50,000 call sites: counted exactly, in less than 1 GiB.

use anyhow::Result;
use tests::{Trace, Victim};

/// Upper bound of leaktrace's total memory.
const MOST_BYTES: u64 = 1 << 30;

#[test]
fn ten_million_blocks_from_fifty_thousand_call_sites() -> Result<()> {
    let mut victim = Victim::start("hoard", &[])?;
    // All call sites as JSON would be hundreds of megabytes; the sums cover all of them.
    let trace = Trace::attach(victim.pid(), &["--top", "100"])?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    assert_eq!(report.lost()?, "");
    let held = truth.sum("heap");
    assert_eq!((held.outstanding_count, held.outstanding_bytes), (10_000_000, 160_000_000));
    assert_eq!(report.total("heap")?, held);
    let sites = report.list("/sites")?;
    let equal = |site: &serde_json::Value| site["outstanding_count"].as_u64() == Some(200);
    assert!(sites.len() == 100 && sites.iter().all(equal), "{}", report.summary());
    for site in sites {
        let age = |which: &str| site["age_s"][which].as_f64().unwrap_or(-1.0);
        let (min, median, max) = (age("min"), age("median"), age("max"));
        assert!(0.0 <= min && min <= median && median <= max, "{site:#}");
    }
    let peak = report.number("/accounting/collector/peak_rss_bytes")?;
    println!("leaktrace took {} MiB at most", peak >> 20);
    assert!(peak < MOST_BYTES, "{} MiB", peak >> 20);
    Ok(())
}

#[test]
fn released_blocks_of_two_million_are_gone_and_the_rest_is_exact() -> Result<()> {
    let mut victim = Victim::start("hoard", &["1000", "2000000", "most"])?;
    let trace = Trace::attach(victim.pid(), &["--top", "10"])?;
    victim.go()?;
    assert_eq!(victim.truth()?.sum("heap").outstanding_count, 2_000_000);
    victim.send("most")?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    assert_eq!(report.lost()?, "");
    assert_eq!(truth.sum("heap").outstanding_count, 20_000);
    assert_eq!(report.total("heap")?, truth.sum("heap"));
    Ok(())
}
