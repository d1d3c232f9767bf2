//! A collector that is stopped for ten seconds under full load recovers with exact figures, or reports its losses; it
//! never reports released blocks as outstanding.

use std::{thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use tests::{Trace, Victim};

/// Duration of the load, seconds.
const LOAD: &str = "16";
/// The collector is stopped two seconds after the start.
const BEFORE: Duration = Duration::from_secs(2);
/// Duration of the stop.
const STALL: Duration = Duration::from_secs(10);

/// Four threads with a belt of `length` blocks each.
#[expect(clippy::print_stdout, reason = "measured figures are part of the test's outcome")]
fn survives(length: &str, must_be_exact: bool) -> Result<()> {
    let mut victim = Victim::start("belt", &["4", length, LOAD])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "heap"])?;
    victim.go()?;
    sleep(BEFORE);
    trace.signal("STOP")?;
    sleep(STALL);
    trace.signal("CONT")?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    let (held, made) = (truth.sum("heap"), report.total("heap")?);
    let lost = report.lost()?;
    println!(
        "{} blocks made, {} held at the end, {} said to be; lost {lost}",
        held.acquired_count, held.outstanding_count, made.outstanding_count
    );
    if lost.is_empty() {
        return truth.equals(&report);
    }
    ensure!(!must_be_exact, "lost {lost}");
    ensure!(
        made.outstanding_count <= held.outstanding_count
            && made.outstanding_bytes <= held.outstanding_bytes
            && made.acquired_count <= held.acquired_count,
        "more than the truth: {made:?} for {held:?}"
    );
    // Losses are counted: an acquisition was lost, or a release may have been. A skipped run of a program is one call
    // that was not traced.
    let counted = report.lost_for(&["acquire_dropped", "doubtful", "program_skipped"])?;
    for (what, truth, said) in [
        ("outstanding", held.outstanding_count, made.outstanding_count),
        ("acquired", held.acquired_count, made.acquired_count),
    ] {
        ensure!(said > 0, "nothing {what} of {truth}");
        ensure!(truth - said <= counted, "{what}: {said} of {truth}, {counted} counted as lost");
    }
    Ok(())
}

#[test]
fn blocks_that_die_young() -> Result<()> {
    survives("256", true)
}

#[test]
fn blocks_that_all_grow_old() -> Result<()> {
    survives("200000", false)
}
