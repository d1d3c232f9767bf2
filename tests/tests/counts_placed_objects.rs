//! Objects in the program's own memory that library functions initialize and destroy: the counts are exact, whichever
//! thread calls them, and also if an object is initialized over another one.

use std::fs;

use anyhow::{Result, ensure};
use tests::{Trace, Victim, compile, scratch};

/// A user's pack for such a library.
const PACK: &str = r#"
name = "slots"
title = "slots"
marks = ["slot_init", "slot_done"]

[[kind]]
name = "slot"
sentence = "a slot"
initialized_by = [{ function = "slot_init", owner = 0, handle = 1 }]
destroyed_by = ["slot_done"]
"#;

fn placed(threads: &str, rounds: &str) -> Result<()> {
    let pack = scratch(&format!("slots-{threads}.toml"))?;
    fs::write(&pack, PACK)?;
    let path = pack.display().to_string();
    let mut victim = Victim::start_program(&compile::victim("slots")?, &[threads, rounds])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "object", "--no-packs", "--pack", &path])?;
    victim.go()?;
    let truth = victim.answer()?;
    let report = trace.stop()?;
    victim.exit()?;
    fs::remove_file(pack)?;
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let number = |key: &str| truth.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let (created, destroyed) = (number("created"), number("destroyed"));
    let total = report.total("slot")?;
    let found = (total.acquired_count, total.released_count, total.outstanding_count);
    ensure!(
        found == (created, destroyed, created - destroyed),
        "{found:?} reported, {truth} is true\n{}",
        report.summary()
    );
    Ok(())
}

#[test]
fn by_one_thread() -> Result<()> {
    placed("1", "100000")
}

#[test]
fn by_four_threads() -> Result<()> {
    placed("4", "100000")
}
