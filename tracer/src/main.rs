//! The thin binary: parse, run, print the chain of causes, exit.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use leaktrace::{
    cli::Cli,
    doctor, error, output,
    preflight::{Candidate, Facts, Roots},
    settings::Command,
};

/// glibc maps each of leaktrace's own blocks from this size on separately.
const MAPPED_BYTES: i32 = 256 << 10;

fn main() -> ExitCode {
    // Otherwise glibc raises this threshold with every freed block, up to 32 MiB, and the process would keep the memory
    // of tables that were resized.
    // SAFETY: sets one parameter of the allocator, before there are other threads. A failure only affects memory use.
    _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES) };
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => return refused(&refusal),
    };
    let verbosity = cli.trace.verbose;
    match run(cli) {
        Ok(status) => status,
        Err(failure) => error::print(&failure, verbosity),
    }
}

/// Prints help and version unchanged, and a wrong command line like every other failure.
fn refused(refusal: &clap::Error) -> ExitCode {
    if refusal.use_stderr() {
        return error::print_refusal(&refusal.render().to_string());
    }
    // Ignores a closed stdout.
    drop(refusal.print());
    ExitCode::SUCCESS
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match Command::from_cli(cli, io::stdout().is_terminal())? {
        Command::Trace(settings) => {
            start_log(settings.verbosity);
            leaktrace::run::trace(&settings)
        }
        Command::Replay(replay) => {
            start_log(replay.verbosity);
            leaktrace::run::replay(&replay)
        }
        Command::Census(settings) => {
            start_log(settings.verbosity);
            leaktrace::run::census(&settings)
        }
        Command::Doctor(pids) => {
            let roots = Roots::default();
            let gather = |pid| Ok(Candidate::gather(&roots, pid)?.with_allocators());
            let processes: Vec<_> = pids.into_iter().map(gather).collect();
            let mut text = Vec::new();
            let works = doctor::write(&Facts::gather(&roots), &processes, &mut text)?;
            output::to_stdout(&text).context("could not write to `stdout`")?;
            Ok(if works { ExitCode::SUCCESS } else { ExitCode::from(error::COULD_NOT) })
        }
    }
}

/// Starts leaktrace's log on stderr: warnings only, unless `-v` or `RUST_LOG` requests more.
fn start_log(verbosity: u8) {
    let level = match verbosity {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
}
