//! gdb as a second opinion: the stacks of a live process as gdb unwinds them.
//!
//! `tests/gdb/stops.py` runs inside gdb; this starts it and reads its output.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    Report,
    child::Running,
    scratch,
    service::{address_of, offset_of},
    workspace,
};

/// Time limit for gdb to load symbols and make its stops: under 10 s on an idle machine, over 40 s when a dozen threads
/// compete for two processors.
const LIMIT: Duration = Duration::from_secs(100);
/// Hardware breakpoint registers of the processor.
const REGISTERS: usize = 4;

/// A location to stop at.
#[derive(Clone, Debug)]
pub struct Place {
    /// The acquiring function.
    pub function: String,
    /// Address of the probed instruction in the target.
    pub address: u64,
}

/// A frame as gdb sees it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Return address; for code that a signal interrupted, the address of the next instruction.
    pub address: u64,
    /// Function name, or a placeholder.
    pub name: String,
    /// Whether a signal interrupted this frame.
    pub interrupted: bool,
}

/// One stop.
#[derive(Clone, Debug)]
pub struct Stop {
    /// The function that was called.
    pub function: String,
    /// Its callers, innermost first.
    pub frames: Vec<Frame>,
    /// Whether another traced function made the call: leaktrace records that outer call.
    pub nested: bool,
    /// Why gdb stopped unwinding.
    pub end: String,
}

/// The probed instructions of the acquiring functions that `report` has seen most.
pub fn places(pid: u32, report: &Report) -> Result<Vec<Place>> {
    let mut found = Vec::new();
    for probe in report.list("/probes")? {
        let text = |key| probe.get(key).and_then(Value::as_str);
        let (Some(function), Some(object)) = (text("function"), text("object")) else { continue };
        let acquired: u64 = report
            .list("/sites")?
            .iter()
            .filter(|site| site.get("acquired_by").and_then(Value::as_str) == Some(function))
            .filter_map(|site| site.get("acquired_count").and_then(Value::as_u64))
            .sum();
        let Some(offset) = offset_of(probe)? else { continue };
        if acquired == 0 {
            continue;
        }
        let address = address_of(pid, object, offset)?.context("a probe is in mapped memory")?;
        found.push((acquired, Place { function: function.to_owned(), address }));
    }
    found.sort_by_key(|(acquired, _)| std::cmp::Reverse(*acquired));
    Ok(found.into_iter().map(|(_, place)| place).take(REGISTERS).collect())
}

/// Has gdb stop the process `count` times at `places`, in calls that no other traced function made. Also returns how
/// many times gdb had to wait for another thread to leave a location before it could continue.
pub fn stops(pid: u32, places: &[Place], count: usize) -> Result<(Vec<Stop>, u64)> {
    let file = scratch(&format!("stacks-{pid}.json"))?;
    let listed: Vec<String> =
        places.iter().map(|place| format!("{}={:#x}", place.function, place.address)).collect();
    let mut gdb = Running::start(
        Command::new("gdb")
            .args(["-nx", "-batch", "-iex", "set debuginfod enabled off"])
            // No scripts or pretty printers of the objects.
            .args(["-iex", "set auto-load off", "-iex", "set confirm off"])
            .args(["-ex", "set backtrace past-main on", "-ex", "set backtrace past-entry on"])
            .args(["-p", &pid.to_string(), "-x"])
            .arg(workspace().join("tests/gdb/stops.py"))
            .env("LEAKTRACE_PLACES", listed.join(" "))
            .env("LEAKTRACE_STOPS", count.to_string())
            .env("LEAKTRACE_STACKS", &file)
            .env_remove("DEBUGINFOD_URLS"),
    )
    .context("help: cargo xtask test installs gdb")?;
    let status = gdb.wait(LIMIT)?;
    let lines = gdb.rest_of_stdout();
    if !status.success() || lines.last().is_none_or(|line| line != &format!("stops {count}")) {
        let errors = gdb.rest_of_stderr().join("\n");
        bail!("gdb ended with {status}:\n{}\n{errors}", lines.join("\n"));
    }
    let text = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    let stops = text.lines().map(stop).collect::<Result<Vec<_>>>()?;
    ensure!(stops.iter().filter(|stop| !stop.nested).count() == count, "{count} stops were asked");
    let waited = lines.iter().find_map(|line| line.strip_prefix("waited ")).context("how often")?;
    Ok((stops, waited.parse()?))
}

fn stop(line: &str) -> Result<Stop> {
    let json: Value = serde_json::from_str(line)?;
    let text = |key: &str| {
        let text = json.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
        text.with_context(|| format!("no `{key}` in {line}"))
    };
    let flag = |value: &Value, key: &str| value.get(key).and_then(Value::as_bool);
    let mut frames = Vec::new();
    for frame in json.get("frames").and_then(Value::as_array).context("frames")? {
        frames.push(Frame {
            address: frame.get("address").and_then(Value::as_u64).context("an address")?,
            name: frame.get("name").and_then(Value::as_str).unwrap_or("?").to_owned(),
            interrupted: flag(frame, "interrupted").context("interrupted or not")?,
        });
    }
    Ok(Stop {
        function: text("function")?,
        frames,
        nested: flag(&json, "nested").context("nested or not")?,
        end: text("end")?,
    })
}
