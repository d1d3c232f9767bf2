//! Plugins that are unloaded before anybody asks for names, each at the addresses of the one before: their blocks keep the
//! generation of code that acquired them, with all their numbers and the right names.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tests::{
    Trace, Victim,
    compare::Named,
    compile::{victim, victim_with},
    report::symbols,
};

/// Compiles a plugin whose function has this name and acquires so many bytes.
fn plugin(name: &str, bytes: &str) -> Result<String> {
    let flags = ["-shared", "-fPIC", "-fomit-frame-pointer"];
    let options = [format!("-DNAME={name}"), format!("-DBYTES={bytes}")];
    let options: Vec<&str> = flags.into_iter().chain(options.iter().map(String::as_str)).collect();
    let path = victim_with("plugin_leaks", &format!("plugin_{name}.so"), &options)?;
    path.into_os_string().into_string().ok().context("a path in UTF-8")
}

/// The plugins' blocks are at their call sites, when each plugin is mapped for so many microseconds; returns of how many
/// blocks the whole path is known.
fn traced(stays_us: &str) -> Result<u64> {
    let plugins = [plugin("alpha_init", "100")?, plugin("bravo_init", "300")?];
    let mut command = Command::new(victim("plugins")?);
    let mut victim = Victim::start_command(command.args(plugins).arg(stays_us))?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    victim.exit()?;
    truth.compare(&report, Named::ByFirstFrame, &[], true)?;
    let mut whole = 0;
    for site in report.list("/sites")? {
        let names = symbols(site);
        if !["alpha_init", "bravo_init"].contains(&names.first().copied().unwrap_or_default()) {
            continue;
        }
        let path = ["plugin_entry", "use", "main"];
        let is_whole = site["truncated_why"].is_null()
            && names.iter().skip(1).zip(path).all(|(name, wanted)| *name == wanted);
        let early = ["code that was just loaded or made", "unwind table still being loaded"];
        let is_cut = early.iter().any(|why| site["truncated_why"] == *why);
        ensure!(is_whole || is_cut, "{names:?}, {}", site["truncated_why"]);
        whole += if is_whole { site["acquired_count"].as_u64().unwrap_or(0) } else { 0 };
    }
    Ok(whole)
}

#[test]
fn plugins_that_are_closed_at_once() -> Result<()> {
    traced("0").map(drop)
}

#[test]
fn plugins_that_stay_for_a_second() -> Result<()> {
    let whole = traced("1000000")?;
    ensure!(whole > 400, "only {whole} of 600 blocks have their whole path");
    Ok(())
}
