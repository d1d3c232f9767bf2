//! `servers`: traces healthy servers under load and prints what leaktrace says about them; `cargo xtask servers` runs it.
//!
//! Exit status: 0 if leaktrace is as silent as promised, 1 if not, or if a server did not run.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

use std::{
    collections::VecDeque,
    env, fs,
    process::{Command, ExitCode},
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail};
use tests::{
    healthy::{
        ALL, HealthyServer,
        judge::faults,
        run::{Options, Outcome, folder, run},
        server,
        text::{accusations, table},
    },
    page,
};

const HELP: &str = "\
cargo xtask servers [--seconds N] [--jobs N] [--record] [--write] [NAME]…

Traces healthy servers under load, all or those named, and lists what leaktrace accuses.

  --seconds N  how long leaktrace traces each [default: 600]
  --jobs N     how many servers at a time [default: 1]
  --record     keep a tape of each run, for `leaktrace replay`
  --write      write the table into the documentation; only with all servers

Reports, tapes and servers' files are in `servers` of the target directory.";

struct Arguments {
    options: Options,
    jobs: usize,
    write: bool,
    servers: Vec<HealthyServer>,
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.iter().any(|word| ["-h", "--help"].contains(&word.as_str())) {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match parse(&words).and_then(|arguments| exam(&arguments)) {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            faults.iter().for_each(|fault| eprintln!("servers: {fault}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("servers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Result<Arguments> {
    let mut options = Options { seconds: 600, record: false };
    let (mut jobs, mut write, mut servers) = (1, false, Vec::new());
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("`{word}` needs a value"));
        match word.as_str() {
            "--seconds" => options.seconds = value()?.parse()?,
            "--jobs" => jobs = value()?.parse()?,
            "--record" => options.record = true,
            "--write" => write = true,
            name if name.starts_with('-') => bail!("unknown option `{name}`\n{HELP}"),
            name => servers.push(server(name)?),
        }
    }
    if options.seconds == 0 || jobs == 0 {
        bail!("at least one second, and one server at a time");
    }
    if write && !servers.is_empty() {
        bail!("--write needs all servers; help: leave out their names");
    }
    if servers.is_empty() {
        servers.extend(ALL);
    }
    Ok(Arguments { options, jobs, write, servers })
}

/// Runs all; returns what breaks the promise.
fn exam(arguments: &Arguments) -> Result<Vec<String>> {
    let outcomes = in_jobs(arguments);
    let section = heading(arguments)? + &table(&outcomes);
    let listed = accusations(&outcomes);
    println!("{section}\n{listed}");
    fs::write(folder()?.join("accusations.md"), &listed)?;
    let judged =
        outcomes.iter().filter_map(|(name, one)| Some((*name, &one.as_ref().ok()?.judged)));
    let mut faults = faults(judged);
    let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_err());
    faults.extend(failed.map(|(name, _)| format!("{name}: it did not run to the end")));
    if arguments.write {
        page::write("healthy-servers.md", "cargo xtask servers", &section)?;
    }
    Ok(faults)
}

/// The outcomes, in the order of the servers.
fn in_jobs(arguments: &Arguments) -> Vec<(&'static str, Result<Outcome>)> {
    let queue: VecDeque<(usize, HealthyServer)> =
        arguments.servers.iter().copied().enumerate().collect();
    let (queue, done) = (Mutex::new(queue), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((at, server)) = next else { return };
                    eprintln!("{}: {} s", server.name, arguments.options.seconds);
                    let outcome = run(&server, arguments.options);
                    if let Err(error) = &outcome {
                        eprintln!("{}: {error:#}", server.name);
                    }
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((at, server.name, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, ..)| *at);
    done.into_iter().map(|(_, name, outcome)| (name, outcome)).collect()
}

/// Machine and duration of the measurement.
fn heading(arguments: &Arguments) -> Result<String> {
    let kernel = Command::new("uname").arg("-srm").output().context("could not run `uname`")?;
    let kernel = String::from_utf8_lossy(&kernel.stdout).trim().to_owned();
    let processors = thread::available_parallelism()?;
    let Arguments { options, jobs, .. } = arguments;
    Ok(format!(
        "{kernel}, {processors} processors; `cargo xtask servers --seconds {} --jobs {jobs}`.\n\n",
        options.seconds
    ))
}
