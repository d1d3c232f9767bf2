//! Libraries that are loaded after the attach, and others at the same addresses: nothing is lost, and a second later
//! stacks through them are complete, with the right symbols.

use std::{process::Command, thread::sleep, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{Report, Trace, Victim, compile::victim_with, report::symbols};

/// After this time, loaded code is known: the documented limit that is under test, not a sleep in the hope of it.
const KNOWN_AFTER: Duration = Duration::from_secs(1);
/// After this time, recorded stacks are symbolized: an interval, plus the time that symbolization takes.
const NAMED_AFTER: Duration = Duration::from_secs(2);
/// The frame size is in the unwind table only.
const NO_FRAME_POINTER: &str = "-fomit-frame-pointer";

/// Compiles `guest` as a library with its own symbol prefix and frame size.
fn guest(prefix: &str, room: usize) -> Result<String> {
    let prefix_flag = format!("-DPREFIX={prefix}");
    let room = format!("-DROOM={room}");
    let flags = ["-shared", "-fPIC", NO_FRAME_POINTER, &prefix_flag, &room];
    let path = victim_with("guest", &format!("guest_{prefix}.so"), &flags)?;
    path.into_os_string().into_string().ok().context("a path in UTF-8")
}

/// Every stack that begins with `leaf`: complete, or, for early ones, truncated for the one permitted reason.
fn stacks(report: &Report, leaf: &str, work: &str, may_be_cut: bool) -> Result<()> {
    let mut seen = 0;
    for site in report.list("/sites")?.iter().filter(|site| symbols(site).first() == Some(&leaf)) {
        seen += 1;
        let names = symbols(site);
        let whole = site["truncated_why"].is_null()
            && names.get(1) == Some(&work)
            && names.contains(&"main")
            && names.last() == Some(&"_start");
        let cut = may_be_cut && site["truncated_why"] == "code that was just loaded or made";
        ensure!(whole || cut, "{leaf}: {names:?}, {}", site["truncated_why"]);
    }
    ensure!(seen > 0, "no stack of {leaf}: {}", report.summary());
    Ok(())
}

#[test]
fn a_library_and_then_another_one_at_its_addresses() -> Result<()> {
    let host = victim_with("guest_host", "guest_host", &[NO_FRAME_POINTER])?;
    let mut command = Command::new(host);
    let mut victim = Victim::start_command(command.args([guest("a", 64)?, guest("b", 1000)?]))?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let mut places = Vec::new();
    for _ in 0..2 {
        victim.send("load")?;
        places.push(victim.line()?);
        sleep(KNOWN_AFTER);
        victim.send("work")?;
        ensure!(victim.line()? == "worked");
        // leaktrace symbolizes a stack while its library is loaded, once a second; a stack of a library's last second
        // would get the symbols of its successor.
        sleep(NAMED_AFTER);
        victim.send("unload")?;
    }
    let truth = victim.truth()?;
    let report = trace.stop()?;
    ensure!(places[0] == places[1], "the second library is elsewhere: {places:?}");
    truth.equals(&report)?;
    stacks(&report, "a_early", "a_work", true)?;
    stacks(&report, "a_late", "a_work", false)?;
    // For `b_early` only the sums above are compared: until leaktrace sees the change, it uses the first library's
    // unwind table for the second one's code, so frames after the first are arbitrary.
    stacks(&report, "b_late", "b_work", false)
}
