//! Blocks from before the attach: their release is counted as unknown and ends no traced block.

use anyhow::Result;
use tests::{Trace, Victim};

#[test]
fn each_release_of_an_older_block_is_counted_as_unknown() -> Result<()> {
    let mut victim = Victim::start("pre_attach", &["5000", "3000"])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.truth()?;
    truth.equals(&trace.stop()?)
}

#[test]
fn what_a_threads_end_frees_of_its_cache_is_no_older_block() -> Result<()> {
    let mut victim = Victim::start("exiting_threads", &[])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "heap"])?;
    victim.go()?;
    let truth = victim.truth()?;
    truth.equals(&trace.stop()?)
}
