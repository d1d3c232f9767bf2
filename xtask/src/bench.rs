//! `bench`: what tracing costs, in medians of interleaved rounds, as tables and charts for `docs/measurements.md`.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    bench_chart, bench_growth, bench_objects,
    bench_run::{CROSS, DEEP, Job, LOOP, SERVER, in_rounds, kernel_work},
    bench_soak,
    bench_table::{Figures, Row, gentle_table, main_table, stack_table},
    bench_variant::{GENTLE, MAIN, STACKS, Tracer, Variant},
    packages, page,
    process::{build_leaktrace, note, output, print, workspace},
};

/// The measurement to make.
enum Mode {
    /// Every variant under every load, including these other tools.
    Main(Vec<Variant>),
    /// Growth of the cost.
    Growth,
    /// Requests of a server in the modes that promise a low cost, and with these other tools.
    Gentle(Vec<Variant>),
    /// Cost of stacks.
    Stacks,
    /// Cost of library objects in addition to heap.
    Objects,
    /// The highest rate, for this many minutes.
    Soak(u32),
}

/// A section of the page: its name, its text, and charts by file name.
struct Section {
    name: &'static str,
    text: String,
    chart: Option<(&'static str, String)>,
}

/// Parses the options, measures, prints, and writes if requested.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (mut rounds, mut seconds, mut write) = (5_u32, 3_u32, false);
    let mut what = Mode::Main(Vec::new());
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("`{word}` needs a value"));
        match (*word, &mut what) {
            ("--rounds", _) => rounds = value()?.parse()?,
            ("--seconds", _) => seconds = value()?.parse()?,
            ("--write", _) => write = true,
            ("--peer", Mode::Main(peers) | Mode::Gentle(peers)) => {
                let (name, line) = value()?.split_once('=').context("--peer 'NAME=CMD {pid}'")?;
                let tracer = Tracer::Peer(line.to_owned());
                peers.push(Variant { name: name.to_owned().into(), tracer });
            }
            ("--growth", Mode::Main(peers)) if peers.is_empty() => what = Mode::Growth,
            ("--gentle", Mode::Main(peers)) if peers.is_empty() => {
                what = Mode::Gentle(Vec::new());
            }
            ("--stacks", Mode::Main(peers)) if peers.is_empty() => what = Mode::Stacks,
            ("--objects", Mode::Main(peers)) if peers.is_empty() => what = Mode::Objects,
            ("--soak", Mode::Main(peers)) if peers.is_empty() => {
                what = Mode::Soak(value()?.parse()?);
            }
            ("--growth" | "--gentle" | "--stacks" | "--objects" | "--soak" | "--peer", _) => {
                bail!("`{word}` conflicts with an earlier option");
            }
            (other, _) => bail!("unknown option `{other}`"),
        }
    }
    if rounds == 0 || seconds == 0 || matches!(what, Mode::Soak(0)) {
        bail!("at least one round of one second, or one minute");
    }
    packages::for_demo()?;
    if matches!(what, Mode::Objects) {
        packages::for_bench_of_objects()?;
    }
    build_leaktrace()?;
    warn_if_busy()?;
    let command = command_line(words);
    let section = match what {
        Mode::Main(peers) => main_section(&peers, rounds, seconds, &command)?,
        Mode::Growth => growth_section(rounds, seconds, &command)?,
        Mode::Gentle(peers) => gentle_section(&peers, rounds, seconds, &command)?,
        Mode::Stacks => stack_section(rounds, seconds, &command)?,
        Mode::Objects => Section {
            name: "cargo xtask bench --objects",
            text: heading(&command, "; medians")? + &bench_objects::table(rounds, seconds)?,
            chart: None,
        },
        Mode::Soak(minutes) => Section {
            name: "cargo xtask bench --soak",
            text: heading(&command, "")? + &bench_soak::table(minutes)?,
            chart: None,
        },
    };
    print(&section.text);
    if write { section.write() } else { Ok(()) }
}

/// The options as command-line text.
fn command_line(words: &[&str]) -> String {
    let quoted =
        |word: &&str| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() };
    let options: Vec<String> = words.iter().map(quoted).collect();
    format!("cargo xtask bench {}", options.join(" ")).trim_end().to_owned()
}

/// Machine and command of the measurement.
fn heading(command: &str, kind: &str) -> Result<String> {
    let kernel = output(Command::new("uname").args(["-srm"]))?;
    let processors = std::thread::available_parallelism()?;
    Ok(format!("{kernel}, {processors} processors; `{command}`{kind}.\n\n"))
}

/// The share of a server's requests that remains.
fn gentle_section(peers: &[Variant], rounds: u32, seconds: u32, command: &str) -> Result<Section> {
    let variants = [&GENTLE[..], peers].concat();
    let jobs: Vec<Job> = variants.iter().map(|variant| Job { variant, load: SERVER }).collect();
    let samples = in_rounds(&jobs, rounds, seconds)?;
    let rows: Vec<_> = variants.iter().zip(&samples).map(|(of, all)| (of, &all[..])).collect();
    Ok(Section {
        name: "cargo xtask bench --gentle",
        text: heading(command, "; medians")? + &gentle_table(&rows)?,
        chart: None,
    })
}

/// Every variant under every load.
fn main_section(peers: &[Variant], rounds: u32, seconds: u32, command: &str) -> Result<Section> {
    let variants = [&MAIN[..], peers].concat();
    let with_all =
        |load| variants.iter().map(move |variant| Job { variant, load }).collect::<Vec<_>>();
    let loads = [LOOP, SERVER, CROSS].map(with_all);
    let jobs = loads.concat();
    let samples = in_rounds(&jobs, rounds, seconds)?;
    let work = kernel_work(&jobs)?;
    let all = samples.iter().zip(work).map(|(samples, work)| Figures::of(samples, work));
    let all: Vec<Figures> = all.collect();
    let by_load = all.chunks(variants.len()).collect::<Vec<_>>();
    let of = |at: usize| {
        let of_load = |load: usize| by_load.get(load).and_then(|of| of.get(at)).copied();
        [of_load(0), of_load(1), of_load(2)].map(Option::unwrap_or_default)
    };
    let row = |(at, variant)| Row { variant, by_load: of(at) };
    let rows: Vec<Row> = variants.iter().enumerate().map(row).collect();
    let picture = "\n![what tracing costs, as a multiple of what bare traps cost](measurements/overhead.svg)\n";
    let kind = "; medians, kernel work in one more second of each";
    Ok(Section {
        name: "cargo xtask bench",
        text: heading(command, kind)? + &main_table(&rows)? + picture,
        chart: Some(("overhead", bench_chart::overhead(&rows)?)),
    })
}

/// Growth of the cost.
fn growth_section(rounds: u32, seconds: u32, command: &str) -> Result<Section> {
    let grown = bench_growth::measure(rounds, seconds)?;
    let picture = "![how the cost grows](measurements/growth.svg)\n";
    Ok(Section {
        name: "cargo xtask bench --growth",
        text: heading(command, "; medians")? + &bench_growth::tables(&grown)? + picture,
        chart: Some(("growth", bench_chart::growth(&grown)?)),
    })
}

/// Cost of stacks.
fn stack_section(rounds: u32, seconds: u32, command: &str) -> Result<Section> {
    let jobs = STACKS.each_ref().map(|variant| Job { variant, load: DEEP });
    let samples = in_rounds(&jobs, rounds, seconds)?;
    let figures = samples.iter().map(|samples| Figures::of(samples, None));
    let rows: Vec<(&Variant, Figures)> = STACKS.iter().zip(figures).collect();
    Ok(Section {
        name: "cargo xtask bench --stacks",
        text: heading(command, "; medians")? + &stack_table(&rows)?,
        chart: None,
    })
}

/// Refuses to measure beside another tracer or other work, which would distort the figures.
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

impl Section {
    /// Replaces the section on the page, and writes its chart beside the page.
    fn write(&self) -> Result<()> {
        let docs = workspace().join("docs");
        if let Some((name, svg)) = &self.chart {
            fs::create_dir_all(docs.join("measurements"))?;
            fs::write(docs.join("measurements").join(name).with_extension("svg"), svg)?;
        }
        page::write("measurements.md", self.name, &self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_typed_again() {
        let typed = command_line(&["--peer", "x=x -p {pid}", "--write"]);
        assert_eq!(typed, "cargo xtask bench --peer 'x=x -p {pid}' --write");
        assert_eq!(command_line(&[]), "cargo xtask bench");
    }
}
