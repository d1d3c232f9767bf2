//! Each error in a pack is one line on stderr, with file and line, and one warning in the report; tracing continues
//! with the rest.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{
    Report, Victim,
    child::Running,
    leaks::{self, Played},
    scratch, trace, workspace,
};

/// Traces a program that leaks c-ares objects with these packs, and with those of the configuration folder. Returns the
/// warning lines of stderr, and the report.
fn traced(config: &Path, packs: &[&str]) -> Result<(Vec<String>, Report)> {
    let case = ["channel_not_destroyed", "leak", "20"];
    let mut victim = Victim::start_program(&leaks::program("cares")?, &case)?;
    let output = scratch("wrong-packs.json")?;
    let mut command = Command::new(trace::leaktrace()?);
    command.env("XDG_CONFIG_HOME", config).args(["--kind", "object", "-f", "json", "-o"]);
    command.arg(&output).args(["-p", &victim.pid().to_string()]);
    command.args(packs.iter().flat_map(|pack| ["--pack", pack]));
    let mut running = Running::start(&mut command)?;
    running.stderr_line(trace::TRACING, Duration::from_secs(60))?;
    Played::by(&mut victim)?;
    running.signal("INT")?;
    let status = running.wait(Duration::from_secs(60))?;
    ensure!(status.success(), "{status}");
    victim.exit()?;
    let warned = running.rest_of_stderr().iter();
    let warned = warned.filter_map(|line| line.strip_prefix("leaktrace: warning: "));
    Ok((warned.map(str::to_owned).collect(), Report::read(&output)?))
}

/// Checks that stderr has exactly one line with each of these ends, and the report has the same warnings.
fn check_warnings(warned: &[String], report: &Report, ends: &[String]) -> Result<()> {
    let warnings = report.list("/warnings")?;
    ensure!(
        warned.len() == ends.len() && warnings.len() == ends.len(),
        "{warned:#?} {warnings:#?}"
    );
    for end in ends {
        let says = |line: &str| line.contains(end.as_str());
        ensure!(warned.iter().filter(|line| says(line)).count() == 1, "{end}: {warned:#?}");
        let texts = warnings.iter().filter_map(serde_json::Value::as_str);
        ensure!(texts.filter(|line| says(line)).count() == 1, "{end}: {warnings:#?}");
    }
    Ok(())
}

#[test]
fn each_mistake_in_a_line() -> Result<()> {
    let good = leaks::pack("cares").context("a pack")?;
    let text = fs::read_to_string(&good)?;
    let config = scratch("wrong-packs")?;
    let folder = config.join("leaktrace/packs");
    fs::create_dir_all(&folder)?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = folder.join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let same = write("a.toml", &text)?;
    let unparsed = write("b.toml", "name = \"b\"\ntitle = = 3\n")?;
    let unknown = write(
        "c.toml",
        "name = \"c\"\ntitle = \"c\"\nmarks = [\"x\"]\n[[kind]]\nname = \"k\"\nsentence = \"s\"\ncreated_by = [\"x\"]\nmade_with = \"y\"\n",
    )?;
    let misspelt = config.join("misspelt.toml");
    fs::write(&misspelt, text.replace("\"ares_destroy\"", "\"ares_destory\""))?;
    let line = text.lines().position(|line| line.contains("ares_destroy")).context("a line")? + 1;
    let misspelt = misspelt.display().to_string();
    let elsewhere = workspace().join("examples/packs/libuv.toml").display().to_string();
    let (warned, report) = traced(&config, &[&misspelt, "nowhere.toml", &elsewhere])?;
    let ends = [
        format!("{same}: {misspelt} has the same name, `c-ares`"),
        format!("{unparsed}:2: "),
        format!("{unknown}:8: unknown field `made_with`"),
        "nowhere.toml: could not read the pack: No such file".to_owned(),
        format!("{misspelt}:{line}: the library has no `ares_destory` here"),
        format!("{elsewhere}: no file of the targets has all functions of its marks"),
    ];
    check_warnings(&warned, &report, &ends)?;
    ensure!(report.total("ares_channel")?.outstanding_count == 20, "{}", report.summary());
    fs::remove_dir_all(config)?;
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_read() -> Result<()> {
    let config = scratch("no-folder")?;
    fs::create_dir_all(config.join("leaktrace"))?;
    let folder = config.join("leaktrace/packs");
    fs::write(&folder, "no folder")?;
    let good = leaks::pack("cares").context("a pack")?.display().to_string();
    let (warned, report) = traced(&config, &[&good])?;
    let end = format!("{}: could not read the folder of packs: Not a directory", folder.display());
    check_warnings(&warned, &report, &[end])?;
    ensure!(report.total("ares_channel")?.outstanding_count == 20, "{}", report.summary());
    fs::remove_dir_all(config)?;
    Ok(())
}
