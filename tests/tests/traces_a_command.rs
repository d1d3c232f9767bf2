//! `leaktrace -- CMD`: traced from its first instruction to its end.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Report, Terminal, Trace, compile, report::Amounts};

fn traced(status: &str) -> Result<Report> {
    let victim = compile::victim("exits")?;
    Trace::start(&["--", &victim.to_string_lossy(), status])?.finish()
}

fn at(report: &Report, function: &str) -> Result<Amounts> {
    report.sites("heap", |frames| frames.first() == Some(&function))
}

#[test]
fn acquisitions_before_main_are_traced() -> Result<()> {
    let report = traced("0")?;
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let before = at(&report, "leak_before_main")?;
    let inside = at(&report, "leak_in_main")?;
    let held = [before, inside].map(|site| (site.outstanding_count, site.outstanding_bytes));
    ensure!(held == [(7, 2100), (5, 1000)], "{held:?}\n{}", report.summary());
    Ok(())
}

#[test]
fn its_exit_status_is_in_the_report() -> Result<()> {
    for (argument, status, signal) in
        [("0", Some(0), None), ("7", Some(7), None), ("-15", None, Some(15))]
    {
        let report = traced(argument)?;
        let read = |key: &str| {
            let value = report.at(&format!("/targets/0/exited/{key}"))?;
            Ok::<_, anyhow::Error>(value.as_i64())
        };
        ensure!(
            (read("status")?, read("signal")?) == (status, signal),
            "`exits {argument}`: {}",
            report.at("/targets/0/exited")?
        );
        let command = report.list("/targets/0/cmdline")?;
        ensure!(command.last().and_then(Value::as_str) == Some(argument), "{command:?}");
    }
    Ok(())
}

#[test]
fn resources_of_a_program_are_gone_after_exec() -> Result<()> {
    let alone = traced("0")?.total("heap")?;
    let victim = compile::victim("exits")?;
    // `env` allocates, and then executes the victim.
    let report = Trace::start(&["--", "env", "A=B", &victim.to_string_lossy(), "0"])?.finish()?;
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let both = report.total("heap")?;
    let outstanding = |total: Amounts| (total.outstanding_count, total.outstanding_bytes);
    ensure!(outstanding(both) == outstanding(alone), "{both:?} {alone:?}\n{}", report.summary());
    ensure!(both.acquired_count > alone.acquired_count, "{both:?} {alone:?}");
    ensure!(at(&report, "leak_before_main")?.outstanding_count == 7, "{}", report.summary());
    Ok(())
}

#[test]
fn its_output_is_never_written_over_the_screen() -> Result<()> {
    let script =
        "echo first line; echo second line >&2; read -r line; echo \"read: $line.\"; sleep 30";
    let mut terminal = Terminal::start(&["--", "sh", "-c", script])?;
    let screen = terminal.wait_for("output goes to")?;
    let start = screen.find("output goes to").context("it was there")?;
    let path = screen.get(start..).and_then(|text| text.split_whitespace().nth(3));
    let path = path.context("a path")?.to_owned();
    tests::wait_until("the command has written", Duration::from_secs(10), || {
        Ok(fs::read_to_string(&path)?.contains("read: "))
    })?;
    // Keys are the screen's: the command's input is at its end.
    ensure!(fs::read_to_string(&path)? == "first line\nsecond line\nread: .\n");
    terminal.wait_for("Too early to tell")?;
    terminal.press("q")?;
    ensure!(terminal.wait(Duration::from_secs(10))?.success());
    // Both lines are in the terminal once the screen is gone.
    terminal.wait_for("leaktrace: traced ")?;
    terminal.wait_for(&format!("the output of the command is in `{path}`"))?;
    ensure!(!terminal.has_shown("second line"), "{}", terminal.screen());
    Ok(fs::remove_file(&path)?)
}
