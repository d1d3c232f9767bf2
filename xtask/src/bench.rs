//! `bench`: what tracing costs, in medians of interleaved rounds, as a table for `docs/measurements.md`.

use std::{fmt::Write as _, fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    bench_run::{Load, Sample, Variant, measure},
    bench_soak, packages,
    process::{build_leaktrace, note, output, print, workspace},
};

const LOADS: [Load; 3] = [Load::Loop, Load::Server, Load::Cross];

/// What the stack of a call costs: nothing of it, all of it, and all without memory.
const STACKS: [Variant; 5] = [
    Variant::Bare,
    Variant::Otherwise("caller only", &["--frames", "1"]),
    Variant::Otherwise("21 frames, remembered", &[]),
    Variant::Otherwise("21 frames, walked each time", &["--forget", "walks"]),
    Variant::Otherwise("21 frames, each searched anew", &["--forget", "addresses"]),
];

/// Reads the options, measures, prints, and writes if asked to.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let mut variants = vec![Variant::Untraced, Variant::Bare, Variant::Leaktrace];
    let (mut rounds, mut seconds, mut write, mut stacks) = (5_u32, 3_u32, false, false);
    let mut soak = None;
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("`{word}` needs a value"));
        match *word {
            "--rounds" => rounds = value()?.parse()?,
            "--seconds" => seconds = value()?.parse()?,
            "--peer" => {
                let (name, line) = value()?.split_once('=').context("--peer 'NAME=CMD {pid}'")?;
                variants.push(Variant::Peer(name.to_owned(), line.to_owned()));
            }
            "--write" => write = true,
            "--stacks" => stacks = true,
            "--soak" => soak = Some(value()?.parse::<u32>()?),
            other => bail!("do not know `{other}`"),
        }
    }
    if rounds == 0 || seconds == 0 || soak == Some(0) {
        bail!("at least one round of one second, or one minute");
    }
    packages::for_demo()?;
    build_leaktrace()?;
    warn_if_busy()?;
    let quoted =
        |word: &&str| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() };
    let options: Vec<String> = words.iter().map(quoted).collect();
    let command = format!("cargo xtask bench {}", options.join(" "));
    let (name, text) = if let Some(minutes) = soak {
        let text = heading(command.trim(), "")? + &bench_soak::table(minutes)?;
        ("cargo xtask bench --soak", text)
    } else if stacks {
        let samples = measure_all(&STACKS, [Load::Deep], rounds, seconds)?;
        ("cargo xtask bench --stacks", stack_section(&samples, command.trim())?)
    } else {
        let samples = measure_all(&variants, LOADS, rounds, seconds)?;
        ("cargo xtask bench", section(&variants, &samples, command.trim())?)
    };
    print(&text);
    if write { replace_section(name, &text) } else { Ok(()) }
}

/// By variant, by load, by round. All variants of a round come one after the other, so that a slow
/// minute of the machine falls on all of them.
fn measure_all<const LOADS: usize>(
    variants: &[Variant],
    loads: [Load; LOADS],
    rounds: u32,
    seconds: u32,
) -> Result<Vec<[Vec<Sample>; LOADS]>> {
    let empty = || std::array::from_fn(|_| Vec::new());
    let mut samples: Vec<[Vec<Sample>; LOADS]> = variants.iter().map(|_| empty()).collect();
    for round in 1..=rounds {
        for load in loads {
            for (variant, of_variant) in variants.iter().zip(&mut samples) {
                let sample = measure(variant, load, seconds)
                    .with_context(|| format!("{} on {load:?}", variant.name()))?;
                note(&format!(
                    "{round}/{rounds} {load:?} {}: {:.0}",
                    variant.name(),
                    sample.figure
                ));
                for (_, list) in loads.iter().zip(of_variant).filter(|(of, _)| **of == load) {
                    list.push(sample);
                }
            }
        }
    }
    Ok(samples)
}

/// Where it was measured, and by which command.
fn heading(command: &str, kind: &str) -> Result<String> {
    let kernel = output(Command::new("uname").args(["-srm"]))?;
    let processors = std::thread::available_parallelism()?;
    Ok(format!("{kernel}, {processors} processors; `{command}`{kind}.\n\n"))
}

/// What stacks cost.
fn stack_section(samples: &[[Vec<Sample>; 1]], command: &str) -> Result<String> {
    let mut text = heading(command, "; medians")?;
    text += "| variant | ns/pair | more than the caller only | lost |\n|---|--:|--:|--:|\n";
    let figure = |[of]: &[Vec<Sample>; 1]| median(of, |one| Some(one.figure));
    let caller = samples.get(1).and_then(figure);
    for (variant, sample) in STACKS.iter().zip(samples) {
        let here = figure(sample);
        let more = here.zip(caller).map(|(here, caller)| here - caller).filter(|more| *more > 0.0);
        let [all] = sample;
        let lost = all.iter().filter_map(|one| one.lost).reduce(|a, b| a + b);
        writeln!(
            text,
            "| {} | {} | {} | {} |",
            variant.name(),
            show(here),
            show(more),
            show(lost)
        )?;
    }
    Ok(text)
}

/// Kernel, command and table.
fn section(variants: &[Variant], samples: &[[Vec<Sample>; 3]], command: &str) -> Result<String> {
    let mut text = heading(command, "; medians")?;
    text += "| variant | loop, ns/pair | server, req/s | cross, pairs/s | tracer CPU % (loop / server / cross) | peak memory | lost |\n";
    text += "|---|--:|--:|--:|--:|--:|--:|\n";
    for (variant, [in_loop, server, cross]) in variants.iter().zip(samples) {
        let figures = [in_loop, server, cross].map(|of| show(median(of, |one| Some(one.figure))));
        let cpu = [in_loop, server, cross].map(|of| show(median(of, |one| one.cpu_percent)));
        let all: Vec<Sample> = [&in_loop[..], server, cross].concat();
        let peak = all.iter().filter_map(|one| one.peak_kib).reduce(f64::max);
        let lost = all.iter().filter_map(|one| one.lost).reduce(|a, b| a + b);
        let peak = peak.map_or("–".to_owned(), |kib| format!("{:.1} MiB", kib / 1024.0));
        let name = variant.name();
        let [a, b, c] = figures;
        writeln!(
            text,
            "| {name} | {a} | {b} | {c} | {} | {peak} | {} |",
            cpu.join(" / "),
            show(lost)
        )?;
    }
    for variant in variants {
        if let Variant::Peer(name, line) = variant {
            writeln!(text, "\n{name}: `{line}`")?;
        }
    }
    Ok(text)
}

fn median(samples: &[Sample], figure: fn(&Sample) -> Option<f64>) -> Option<f64> {
    let mut figures: Vec<f64> = samples.iter().filter_map(figure).collect();
    figures.sort_by(f64::total_cmp);
    let upper = figures.get(figures.len() / 2)?;
    let lower = figures.get((figures.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

/// Whole numbers with separators; unknown is a dash.
pub(crate) fn show(figure: Option<f64>) -> String {
    let Some(figure) = figure else { return "–".to_owned() };
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Another tracer, or other work on the machine, would be in the figures.
fn warn_if_busy() -> Result<()> {
    let load = fs::read_to_string("/proc/loadavg")?;
    if load.split(' ').next().and_then(|text| text.parse().ok()).is_some_and(|one: f64| one > 0.5) {
        note(&format!("warning: the machine is busy: load average {}", load.trim()));
    }
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Ok(name) = fs::read_to_string(path.join("comm")) else { continue };
        if ["leaktrace", "bpftrace", "memleak", "perf"].contains(&name.trim()) {
            bail!("`{}` runs as {}: it may trace too", name.trim(), path.display());
        }
    }
    let others = fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap_or_default();
    if !others.trim().is_empty() {
        bail!("other uprobes are defined:\n{others}");
    }
    Ok(())
}

fn replace_section(name: &str, text: &str) -> Result<()> {
    let (begin, end) = (format!("<!-- begin: {name} -->"), format!("<!-- end: {name} -->"));
    let path = workspace().join("docs/measurements.md");
    let page = fs::read_to_string(&path)?;
    let (before, rest) = page.split_once(&begin).with_context(|| format!("no `{begin}`"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no `{end}`"))?;
    fs::write(&path, format!("{before}{begin}\n{text}{end}{after}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let samples = [4.0, 1.0, 2.0, 9.0].map(|figure| Sample { figure, ..Sample::default() });
        assert_eq!(show(median(&samples, |one| Some(one.figure * 1000.0))), "3,000");
        assert_eq!(show(median(&[], |one| Some(one.figure))), "–");
    }
}
