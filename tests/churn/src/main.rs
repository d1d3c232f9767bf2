//! The program `churn`: parses the command line, runs, prints the figures.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints; only here")]

use std::{
    env,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context as _, Result};
use churn::{Order, churn, help};
use signal_hook::consts::{SIGINT, SIGTERM};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("churn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What to print: the help or the figures.
fn run(words: &[&str]) -> Result<String> {
    if words.iter().any(|word| ["--help", "-h"].contains(word)) {
        return Ok(help());
    }
    let order = Order::read(words)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .context("could not wait for signals")?;
    }
    let report = churn(&order, &stop)?;
    Ok(if order.json { report.json().to_string() } else { report.table().trim_end().to_owned() })
}
