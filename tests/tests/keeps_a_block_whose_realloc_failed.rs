//! A failed acquisition is not counted as a resource, and a failed resize leaves the old block outstanding.

use anyhow::Result;
use tests::{Trace, Victim};

#[test]
fn failed_calls_change_nothing_but_their_own_counter() -> Result<()> {
    let mut victim = Victim::start("failing", &[])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.truth()?;
    truth.equals(&trace.stop()?)
}
