//! leaktrace's stacks equal gdb's, frame by frame, for calls that both have seen.
//!
//! gdb stops a server under load at the probed instructions, 200 times. leaktrace records every call, so each of gdb's
//! stacks must be in the report.

use std::{collections::BTreeMap, fmt::Write as _, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    Load, Report, Trace,
    described::Code,
    gdb::{self, Stop},
    programs::program,
    service::no_breakpoint_remains,
};

/// Calls compared for each program.
const STOPS: usize = 200;
/// Also those of which nothing is outstanding, however many there are.
const ALL_CALL_SITES: [&str; 2] = ["--top", "1000000"];
/// Number of differences shown in full.
const SHOWN: usize = 3;

/// Stacks of the report: return addresses, innermost first, with their symbols.
type Stacks = BTreeMap<Vec<u64>, Vec<String>>;

#[expect(clippy::print_stdout, reason = "measured figures are part of the test's outcome")]
fn agrees(name: &str) -> Result<()> {
    let program = program(name)?;
    let service = (program.start)()?;
    let pid = service.pid();
    let load = Load::start(&service, program.demand, Duration::from_secs(150))?;
    let scout = Trace::attach(pid, &["-d", "1s"])?.finish()?;
    let mut places = gdb::places(pid, &scout)?;
    // A library object that realloc moves keeps the stack of its constructor call.
    let moves = !scout.list("/objects/kinds")?.is_empty();
    places.retain(|place| !moves || place.function != "realloc");
    ensure!(!places.is_empty(), "nothing was allocated in a second");
    let trace = Trace::attach(pid, &ALL_CALL_SITES)?;
    let stops = gdb::stops(pid, &places, STOPS);
    let mut code = Code::of(pid)?;
    let report = trace.stop()?;
    let ((stops, waited), answered) = (stops?, load.end()?);
    // gdb has left the process unharmed.
    let again = Load::start(&service, program.demand, Duration::from_secs(1))?.finish()?;
    ensure!(answered > 0 && again > 0, "{answered} requests answered, after gdb {again}");
    ensure!(is_free(pid)?, "gdb still holds a thread");
    no_breakpoint_remains(pid, &report)?;
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);

    let stacks = stacks(&report)?;
    let (mut equal, mut further, mut nested) = (0, 0, 0);
    let mut differences = Vec::new();
    for stop in &stops {
        let addresses: Vec<u64> = stop.frames.iter().map(|frame| frame.address).collect();
        if stop.nested {
            nested += 1;
        } else if stacks.contains_key(&addresses) {
            equal += 1;
        } else if goes_on(stop, &addresses, &stacks, &mut code)? {
            further += 1;
        } else {
            differences.push(stop);
        }
    }
    let functions: Vec<&str> = places.iter().map(|place| place.function.as_str()).collect();
    println!(
        "{name}: {equal} of {STOPS} stacks equal gdb's; {further} more equal them as far as code says \
         how to unwind it, and go on; {nested} calls from within another were left out; {} stacks \
         known; stopped at {}; {waited} times another thread stood there, too",
        stacks.len(),
        functions.join(", ")
    );
    let mut text = String::new();
    for stop in differences.iter().take(SHOWN) {
        write!(text, "\n{}", side_by_side(stop, &stacks)?)?;
    }
    ensure!(
        differences.is_empty(),
        "{} of {STOPS} stacks differ from gdb's:\n{text}",
        differences.len()
    );
    Ok(())
}

/// Every stack of the report, without inlined frames and frames recovered from tail calls.
fn stacks(report: &Report) -> Result<Stacks> {
    let mut stacks = Stacks::new();
    for site in report.list("/sites")? {
        let frames = site.get("frames").and_then(Value::as_array).context("frames")?;
        let mut addresses = Vec::new();
        let mut names = Vec::new();
        for frame in frames {
            let text = |key| frame.get(key).and_then(Value::as_str);
            let holds = |key| frame.get(key).and_then(Value::as_bool) == Some(true);
            if holds("inlined") || holds("tail_call") {
                continue;
            }
            let address = text("address").context("an address")?;
            addresses.push(u64::from_str_radix(address.trim_start_matches("0x"), 16)?);
            names.push(text("symbol").unwrap_or("?").to_owned());
        }
        if let Some(why) = site.get("truncated_why").and_then(Value::as_str) {
            names.push(format!("cut: {why}"));
        }
        stacks.insert(addresses, names);
    }
    Ok(stacks)
}

/// Whether gdb came to code without unwind information, where it only guesses, while one of our stacks is the same up
/// to there and goes on.
fn goes_on(stop: &Stop, addresses: &[u64], stacks: &Stacks, code: &mut Code) -> Result<bool> {
    for (frame, sure) in stop.frames.iter().zip(1..) {
        // After a call as the last instruction of a function, the return address belongs to the next function.
        if !code.describes(frame.address - u64::from(!frame.interrupted))? {
            let start = addresses.get(..sure).context("as many addresses as frames")?;
            return Ok(stacks.keys().any(|ours| ours.len() > sure && ours.starts_with(start)));
        }
    }
    Ok(false)
}

/// Shows a stop next to our most similar stack.
fn side_by_side(stop: &Stop, stacks: &Stacks) -> Result<String> {
    let common = |ours: &[u64]| {
        ours.iter().zip(&stop.frames).take_while(|(ours, frame)| **ours == frame.address).count()
    };
    let nearest = stacks.iter().max_by_key(|(ours, _)| common(ours));
    let (ours, names) = nearest.context("the report has no stacks")?;
    let mut text = format!("{} (gdb stopped: {})\n", stop.function, stop.end);
    for at in 0..names.len().max(stop.frames.len()) {
        let theirs = stop.frames.get(at);
        let same = ours.get(at).copied() == theirs.map(|frame| frame.address);
        writeln!(
            text,
            "{} gdb {:<16} {:<40.40} leaktrace {:<16} {:.60}",
            if same { "=" } else { "≠" },
            theirs.map_or("-".to_owned(), |frame| format!("{:#x}", frame.address)),
            theirs.map_or("", |frame| &frame.name),
            ours.get(at).map_or("-".to_owned(), |address| format!("{address:#x}")),
            names.get(at).map_or("", String::as_str),
        )?;
    }
    Ok(text)
}

/// Whether no thread is being traced by a debugger.
fn is_free(pid: u32) -> Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
        if !status.lines().any(|line| line == "TracerPid:\t0") {
            return Ok(false);
        }
    }
    Ok(true)
}

#[test]
fn libevent() -> Result<()> {
    agrees("libevent")
}

#[test]
fn uwebsockets() -> Result<()> {
    agrees("uwebsockets")
}

#[test]
fn nginx_tls() -> Result<()> {
    agrees("nginx_tls")
}

#[test]
fn memcached() -> Result<()> {
    agrees("memcached")
}

#[test]
fn redis() -> Result<()> {
    agrees("redis")
}

#[test]
fn node() -> Result<()> {
    agrees("node")
}

#[test]
fn python() -> Result<()> {
    agrees("python")
}
