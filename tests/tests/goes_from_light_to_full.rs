//! `--light` on the screen: one key switches to full tracing of the same targets, in the same terminal.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::{Terminal, Victim, compile::victim_with, service::changed_code, wait_until};

/// The header's text under `--light`.
const LIGHT: &str = "light: page faults, no probe";

fn light(victim: &Victim) -> Result<Terminal> {
    let terminal = Terminal::start(&["--light", "-i", "100ms", "-p", &victim.pid().to_string()])?;
    terminal.wait_for(LIGHT)?;
    terminal.wait_for("f full tracing")?;
    Ok(terminal)
}

#[test]
fn a_key_begins_full_tracing_and_the_view_stays_alive_meanwhile() -> Result<()> {
    // Linked statically: probes of other tests are not in its code.
    let program = victim_with("steady_leak", "steady_leak_static", &["-static"])?;
    let mut victim = Victim::start_program(&program, &["1000", "1"])?;
    let mut terminal = light(&victim)?;
    ensure!(changed_code(victim.pid())?.is_empty(), "nothing is put into the target");
    // The help page opens at once. If keys waited for the attach, it would open on the full screen, and stay.
    terminal.press("f?")?;
    let screen = terminal.wait_for("heap 0 B in 0")?;
    ensure!(!screen.contains("─ Help"), "{screen}");
    ensure!(terminal.has_shown("─ Help"), "a key waited");
    ensure!(terminal.has_shown("attaching for full tracing"), "no message");
    ensure!(!screen.contains(LIGHT) && !screen.contains("full tracing"), "{screen}");
    ensure!(screen.contains("traced 00:00:0"), "the clock restarted:\n{screen}");
    ensure!(!changed_code(victim.pid())?.is_empty(), "probes are on and not found");
    victim.go()?;
    let truth = victim.truth()?;
    let (kept, made) = (truth.site("leak_session")?, truth.site("make_request")?);
    ensure!((kept.outstanding_count, made.outstanding_count) == (1000, 0), "{kept:?} {made:?}");
    let screen = terminal.wait_for("heap 97.7 KiB in 1,000")?;
    ensure!(screen.contains("lost 0"), "{screen}");
    // The call sites: a program that has done its work in an instant has no finding.
    terminal.press("2")?;
    terminal.wait_for("leak_session")?;
    terminal.press("q")?;
    let status = terminal.wait(Duration::from_secs(20))?;
    ensure!(status.code() == Some(0), "{status}");
    wait_until("probes are taken out", Duration::from_secs(30), || {
        Ok(changed_code(victim.pid())?.is_empty())
    })?;
    victim.exit()
}

#[test]
fn light_continues_if_full_tracing_fails_and_shows_the_reason() -> Result<()> {
    let program = victim_with("touches", "touches_stripped", &["-static", "-s"])?;
    let mut victim = Victim::start_program(&program, &[])?;
    let mut terminal = light(&victim)?;
    terminal.press("f")?;
    let why = format!("find an allocator in process `{}`: its executable is static", victim.pid());
    let screen = terminal.wait_for(&why)?;
    ensure!(screen.contains(" stays light: could not") && screen.contains(LIGHT), "{screen}");
    ensure!(changed_code(victim.pid())?.is_empty());
    // The switch can be requested again, and light tracing continues.
    victim.go()?;
    victim.truth()?;
    terminal.wait_for("touches_stripped+0x")?;
    victim.kill()?;
    terminal.wait_for("Figures are final")?;
    terminal.press("f")?;
    let screen = terminal.wait_for(&format!("process `{}`: it ended meanwhile", victim.pid()))?;
    ensure!(screen.contains(LIGHT) && screen.contains("Figures are final"), "{screen}");
    terminal.press("q")?;
    let status = terminal.wait(Duration::from_secs(20))?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}

#[test]
fn quitting_while_it_attaches_is_immediate_and_leaves_nothing() -> Result<()> {
    let program = victim_with("steady_leak", "steady_leak_static", &["-static"])?;
    let mut victim = Victim::start_program(&program, &["1000", "1"])?;
    let mut terminal = light(&victim)?;
    terminal.press("fq")?;
    let status = terminal.wait(Duration::from_secs(20))?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(!terminal.has_shown("heap"), "{}", terminal.screen());
    wait_until("probes are taken out", Duration::from_secs(30), || {
        Ok(changed_code(victim.pid())?.is_empty())
    })?;
    victim.go()?;
    victim.truth()?;
    victim.exit()
}
