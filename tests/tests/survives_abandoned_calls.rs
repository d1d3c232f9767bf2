//! Calls that never return, and threads that come and go, do not distort later figures.

use anyhow::Result;
use tests::{Trace, Victim};

#[test]
fn blocks_after_an_abandoned_call_are_counted_at_their_own_site() -> Result<()> {
    let mut victim = Victim::start("abandoned", &[])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.truth()?;
    truth.equals(&trace.stop()?)
}
