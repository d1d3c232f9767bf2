//! A report with unnamed frames says which module lacks symbols, and how to fix that.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Trace, compile};

#[test]
fn a_stripped_program_is_reported_with_a_fix() -> Result<()> {
    let flags = ["-s", "-Wl,--build-id"];
    let victim = compile::victim_with("exits", "exits_stripped", &flags)?;
    let path = victim.to_str().context("a path in UTF-8")?;
    let report = Trace::start(&["--", path, "0"])?.finish()?;
    let modules = report.list("/modules")?;
    let own = modules.iter().find(|module| module["path"] == path);
    let own = own.with_context(|| format!("{modules:?}"))?;
    // Unnamed frames are counted in the stacks; the build id comes from the file itself.
    let mut nameless = 0;
    for site in report.list("/sites")? {
        let frames = site["frames"].as_array().context("frames")?;
        let lacks = |frame: &&Value| frame["module"] == path && frame["symbol"].is_null();
        nameless += frames.iter().filter(lacks).count();
    }
    ensure!(nameless > 0, "{}", report.summary());
    ensure!(own["frames_without_name"] == nameless, "{nameless}: {own}");
    let notes = Command::new("readelf").arg("-n").arg(&victim).output()?.stdout;
    let notes = String::from_utf8(notes)?;
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
    ensure!(own["build_id"].as_str() == id, "{id:?}: {own}");
    ensure!(own["names"] == "none", "{own}");
    let help = own["help"].as_str().context("help")?;
    ensure!(help.starts_with("build it with `-g` and do not strip it"), "{help}");
    Ok(())
}
