//! `cargo xtask`: the development commands, one file each.

mod bench;
mod bench_chart;
mod bench_growth;
mod bench_kernel;
mod bench_objects;
mod bench_run;
mod bench_soak;
mod bench_table;
mod bench_variant;
mod bpf;
mod check;
mod churn;
mod ci;
mod compile;
mod demo;
mod each;
mod exam;
mod kernels;
mod lanes;
mod libcs;
mod manifest;
mod nextest;
mod packages;
#[expect(unreachable_pub, reason = "public in the crate of the tests")]
#[path = "../../tests/src/page.rs"]
mod page;
mod process;
mod servers;
mod suites;
mod test;
mod tidy;
mod tidy_arch;
mod tidy_circles;
mod tidy_edges;
mod tidy_impls;
mod tidy_modules;
mod tidy_names;
mod tidy_waist;
mod vm;

use std::{env, process::ExitCode};

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  check                format, house rules, clippy, unit and golden tests: no root, no packages
  test [--lane fast|exam|attach|real|kernels]… [FILTER]…
                       install what the tests need, build, run all of them, lane by lane
  test-vm [--kernel 5.10|6.1|6.12|7.2|all]
                       leaktrace on other kernels, in a virtual machine each
  test-libcs [bullseye|trixie|sid|all]
                       the heap of other releases' C libraries
  ci                   everything that must hold before a change is merged
  bpf [--check]        build the kernel programs into tracer/bpf; --check refuses stale ones
  demo [--seconds N]   a leaking HTTP server under load, and leaktrace on it
  bench [--rounds N] [--seconds S] [--peer 'NAME=CMD {pid}']… [--write]
                       what tracing costs, in medians of interleaved rounds: table and chart
  bench --growth [--rounds N] [--seconds S] [--write]
                       how that grows with threads, blocks, call sites, frames and probes
  bench --stacks …     what a stack costs
  bench --soak MINUTES [--write]
                       the collector's exactness, memory and CPU time at the highest rate
  servers [--seconds N] [--jobs N] [--record] [--write] [NAME]…
                       what leaktrace accuses on healthy servers under load: nothing
  exam [--live …]      whether verdicts are right: judges the committed tapes, or plays the programs of
                       tests/exam under leaktrace; see `exam --help`
  churn --port N …     opens and closes connections in the ways that break servers (loopback only);
                       see `churn --help`
  tidy                 the house rules
  packages             install what test, test-vm, demo and bpf need (Debian, as root)";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::note(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["check"] => check::run(),
        ["test", words @ ..] => test::run(&test::Selection::parse(words)?),
        ["test-libcs"] => libcs::run("all"),
        ["test-libcs", release] => libcs::run(release),
        ["test-vm"] => vm::run("all"),
        ["test-vm", "--kernel", series] => vm::run(series),
        ["ci"] => ci::run(),
        ["bpf"] => bpf::build(),
        ["bpf", "--check"] => bpf::check(),
        ["demo"] => demo::run(180),
        ["demo", "--seconds", seconds] => demo::run(seconds.parse()?),
        ["bench", options @ ..] => bench::run(options),
        ["servers", options @ ..] => servers::run(options),
        ["exam", options @ ..] => exam::run(options),
        ["churn", options @ ..] => churn::run(options),
        ["tidy"] => tidy::run(),
        ["packages"] => packages::all(),
        [] | ["help" | "-h" | "--help"] => {
            process::print(HELP);
            Ok(())
        }
        _ => bail!("unknown command `{}`\n{HELP}", words.join(" ")),
    }
}
