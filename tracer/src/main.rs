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

/// Blocks of our own from this size on are mapped each for itself.
const MAPPED_BYTES: i32 = 256 << 10;

fn main() -> ExitCode {
    // Else glibc raises the size with every block freed, up to 32 MiB: what tables leave behind when
    // they grow or shrink would stay with the process.
    // SAFETY: sets one number of the allocator, before there are other threads. A refusal changes
    // nothing but memory use.
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

/// Shows help and version as they are, and a wrong command line like every other failure.
fn refused(refusal: &clap::Error) -> ExitCode {
    if refusal.use_stderr() {
        return error::print_refusal(&refusal.render().to_string());
    }
    // Nobody is left to read it when stdout is closed.
    drop(refusal.print());
    ExitCode::SUCCESS
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match Command::meant(cli, io::stdout().is_terminal())? {
        Command::Trace(settings) => {
            start_log(settings.verbosity);
            leaktrace::run::trace(&settings)
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

/// Our own log, on stderr: nothing but warnings unless `-v` or `RUST_LOG` asks for more.
fn start_log(verbosity: u8) {
    let level = match verbosity {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
}
