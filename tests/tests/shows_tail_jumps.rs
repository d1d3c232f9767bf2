//! Functions that leave by a tail jump into another object are on the call path, although they are not on the stack:
//! they are the ones that leak.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{
    Trace, Victim,
    compare::Named,
    compile::{victim_by, victim_with},
};

/// Function and mark of the first frames of a call site.
fn path(site: &Value) -> Vec<(&str, bool)> {
    let frames = site["frames"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |frame: &'_ Value| frame["tail_call"].as_bool().unwrap_or(false);
    frames.iter().map(|one| (one["symbol"].as_str().unwrap_or("?"), of(one))).collect()
}

/// Traces the program; all its functions are on their call sites, with all their numbers.
fn traced(product: &str, flags: &[&str]) -> Result<()> {
    let library = victim_with(
        "tail_relay",
        "libtail_relay.so",
        &["-shared", "-fPIC", "-foptimize-sibling-calls"],
    )?;
    let flags = [&["-foptimize-sibling-calls"], flags].concat();
    let library = library.to_string_lossy();
    let program = victim_by("gcc", "tail_jumps", product, &flags, &[&library])?;
    let mut victim = Victim::start_program(&program, &[])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "heap,fd"])?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    victim.exit()?;
    truth.compare(&report, Named::ByFirstFrame, &[], true)?;
    let paths: [&[(&str, bool)]; 4] = [
        &[("make_wakeup", true), ("handle", false)],
        &[("make_request", true), ("handle", false)],
        &[("relay_request", true), ("make_session", true), ("handle", false)],
        &[("keep_request", false), ("handle", false)],
    ];
    let sites = report.list("/sites")?;
    for wanted in paths {
        let found = sites.iter().any(|site| path(site).starts_with(wanted));
        ensure!(found, "{product}: no {wanted:?}: {}", report.summary());
    }
    Ok(())
}

#[test]
fn functions_that_jumped_into_libraries_are_named() -> Result<()> {
    traced("tail_jumps", &[])
}

#[test]
fn functions_that_jumped_through_slots_are_named() -> Result<()> {
    traced("tail_jumps_no_plt", &["-fno-plt", "-fomit-frame-pointer"])
}
