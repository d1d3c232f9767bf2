//! Minutes at the highest rate: checks that the final table equals the truth and that the collector stays small.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    bench_run::{cpu_ticks, end, lost, status_kib},
    bench_table::show,
    bench_variant::LEAKTRACE,
    compile,
    process::{Background, note, target_dir},
};

/// Belts (see `tests/victims/belt.c`): name in the table, and length for each of the four threads.
const BELTS: [(&str, &str); 2] =
    [("die young", "256"), ("all live for more than a second", "100000")];
/// Interval between two readings of the collector's memory.
const LOOK: Duration = Duration::from_secs(2);

/// One soak.
struct Soaked {
    pairs_per_s: f64,
    cpu_percent: f64,
    /// Resident memory after a tenth of the time, and at its end, KiB.
    early_kib: f64,
    late_kib: f64,
    lost: f64,
    is_equal: bool,
}

/// Both soaks, as a table.
pub(crate) fn table(minutes: u32) -> Result<String> {
    let mut text = "| blocks | pairs/s | collector, % of a processor | its memory after a tenth of the time | at the end | lost | outstanding, acquired and released equal the truth |\n|---|--:|--:|--:|--:|--:|---|\n".to_owned();
    for (name, length) in BELTS {
        let soaked = soak(length, minutes).with_context(|| format!("blocks that {name}"))?;
        let mib = |kib: f64| format!("{:.1} MiB", kib / 1024.0);
        writeln!(
            text,
            "| {name} | {} | {:.1} | {} | {} | {} | {} |",
            show(Some(soaked.pairs_per_s)),
            soaked.cpu_percent,
            mib(soaked.early_kib),
            mib(soaked.late_kib),
            show(Some(soaked.lost)),
            if soaked.is_equal { "yes" } else { "NO" },
        )?;
    }
    Ok(text)
}

fn soak(length: &str, minutes: u32) -> Result<Soaked> {
    let path = target_dir().join(format!("soak-{}.json", std::process::id()));
    let report = path.to_str().context("a path in UTF-8")?;
    let seconds = minutes * 60;
    let arguments = ["4", length, &seconds.to_string()];
    let mut target = Background::start(Command::new(compile::victim("belt")?).args(arguments))?;
    let mut lines = target.lines()?;
    lines.next().context("the target says that it is ready")??;
    let mut tracer = LEAKTRACE.attach(target.pid(), report, &[])?.context("a tracer")?;
    let before = cpu_ticks(tracer.pid())?;
    let start = Instant::now();
    target.child().stdin.as_mut().context("stdin is piped")?.write_all(b"go\n")?;
    let length = Duration::from_secs(seconds.into());
    let mut looks = Vec::new();
    while start.elapsed() < length.saturating_sub(LOOK) {
        thread::sleep(LOOK);
        looks.push(status_kib(tracer.pid(), "VmRSS:").context("resident memory")?);
        if looks.len() % 15 == 0 {
            note(&format!("{:.0} s", start.elapsed().as_secs_f64()));
        }
    }
    let truth: Value = serde_json::from_str(&lines.next().context("the truth")??)?;
    let spent = start.elapsed().as_secs_f64();
    let cpu_percent = (cpu_ticks(tracer.pid())? - before) / spent;
    end(&mut tracer)?;
    let said: Value = serde_json::from_str(&fs::read_to_string(report)?)?;
    fs::remove_file(&path)?;
    let held = truth.pointer("/sites/belt_block").context("the truth has `belt_block`")?;
    let number = |key: &str| held.get(key).and_then(Value::as_f64).context("a number");
    Ok(Soaked {
        pairs_per_s: number("released_count")? / spent,
        cpu_percent,
        early_kib: looks.get(looks.len() / 10).copied().context("a look")?,
        late_kib: looks.last().copied().context("a look")?,
        lost: lost(&said).context("losses")?,
        is_equal: is_equal(&said, held)?,
    })
}

/// Whether the figures of the single call site are equal in both.
fn is_equal(said: &Value, held: &Value) -> Result<bool> {
    let sites = said.pointer("/sites").and_then(Value::as_array).context("call sites")?;
    let of_belt = |site: &&Value| {
        site.pointer("/frames/0/symbol").and_then(Value::as_str) == Some("belt_block")
    };
    let site = sites.iter().find(of_belt).context("the report has `belt_block`")?;
    let keys = held.as_object().context("a tally")?.keys().filter(|key| *key != "kind");
    Ok(keys.into_iter().all(|key| site.get(key) == held.get(key)))
}
