//! Libraries that come after the attach, and others in their place: nothing is lost, and a second later
//! stacks through them are whole, with the names of what is there.

use std::{process::Command, thread::sleep, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{Report, Trace, Victim, compile::victim_with, report::symbols};

/// After this time what was loaded is known: the promise under test, not a hope.
const KNOWN_AFTER: Duration = Duration::from_secs(1);
/// After this time what was seen is named: an interval, and the time that naming takes.
const NAMED_AFTER: Duration = Duration::from_secs(2);
/// Frame sizes come from the unwind table alone.
const NO_FRAME_POINTER: &str = "-fomit-frame-pointer";

/// Compiles `guest` as a library with its own prefix and frame size.
fn guest(prefix: &str, room: usize) -> Result<String> {
    let prefix_flag = format!("-DPREFIX={prefix}");
    let room = format!("-DROOM={room}");
    let flags = ["-shared", "-fPIC", NO_FRAME_POINTER, &prefix_flag, &room];
    let path = victim_with("guest", &format!("guest_{prefix}.so"), &flags)?;
    path.into_os_string().into_string().ok().context("a path in UTF-8")
}

/// Every stack that begins with `leaf`: whole, or, for the early ones, cut for the one reason there may be.
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
        victim.tell("load")?;
        places.push(victim.line()?);
        sleep(KNOWN_AFTER);
        victim.tell("work")?;
        ensure!(victim.line()? == "worked");
        // A stack is named while its library is there, once a second; one that came in a library's last
        // second would be named by what took its place.
        sleep(NAMED_AFTER);
        victim.tell("unload")?;
    }
    let truth = victim.truth()?;
    let report = trace.stop()?;
    ensure!(places[0] == places[1], "the second library is elsewhere: {places:?}");
    truth.equals(&report)?;
    stacks(&report, "a_early", "a_work", true)?;
    stacks(&report, "a_late", "a_work", false)?;
    // Of `b_early` only the sums above are compared: until the change is seen, the first library's table is
    // used in the second one's code, and what is then found behind the first frame is left to chance.
    stacks(&report, "b_late", "b_work", false)
}
