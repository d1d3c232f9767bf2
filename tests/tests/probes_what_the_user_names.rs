//! Functions that the user names are probed like built-in ones, by name or by address.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tests::{Report, Trace, Truth, Victim, compile::victim_with, trace::Refusal};

/// Traces a victim from `go` until it prints its truth.
fn traced(mut victim: Victim, options: &[&str]) -> Result<(Truth, Report)> {
    let trace = Trace::attach(victim.pid(), options)?;
    victim.go()?;
    let truth = victim.truth()?;
    Ok((truth, trace.stop()?))
}

#[test]
fn functions_that_the_user_names() -> Result<()> {
    let pair = ["--alloc", "pool_get:size@1", "--free", "pool!pool_put:handle@1"];
    let (truth, report) = traced(Victim::start("pool", &[])?, &pair)?;
    truth.equals(&report)
}

#[test]
fn a_stripped_static_program_is_refused_unless_addresses_are_given() -> Result<()> {
    let named = victim_with("pool", "pool_static", &["-static"])?;
    let stripped = named.with_file_name("pool_stripped");
    let done = Command::new("strip").arg("-o").arg(&stripped).arg(&named).status()?;
    ensure!(done.success(), "strip ended with {done}");
    let symbols = String::from_utf8(Command::new("nm").arg(&named).output()?.stdout)?;
    let address = |name: &str| {
        let line = symbols.lines().find(|line| line.split(' ').next_back() == Some(name));
        let digits = line.and_then(|line| line.split(' ').next()).context("a symbol of nm")?;
        anyhow::Ok(format!("0x{digits}"))
    };
    let victim = Victim::start_command(&mut Command::new(stripped))?;
    let pid = victim.pid().to_string();
    Refusal::of(&[], &["-p", &pid, "-f", "json"])?.names("stripped")?;
    let alloc = format!("{}:size@1", address("pool_get")?);
    let free = format!("{}:handle@1", address("pool_put")?);
    let (truth, report) = traced(victim, &["--alloc", &alloc, "--free", &free])?;
    assert_eq!(report.total("heap")?, truth.sum("heap"), "{}", report.summary());
    ensure!(report.lost()?.is_empty());
    Ok(())
}

#[test]
fn a_function_that_is_nowhere_is_refused() -> Result<()> {
    let victim = Victim::start("pool", &[])?;
    let pid = victim.pid().to_string();
    Refusal::of(&[], &["-p", &pid, "-f", "json", "--free", "pool_pat"])?.names("`pool_pat`")
}
