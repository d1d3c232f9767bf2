//! Opens and closes connections to a server on this machine, in the ways that break servers.
//!
//! Bounded in number and time. Each open connection has a thread of its own with blocking calls, so that the code of a
//! way is a plain sequence of steps.

mod deal;
mod figures;
mod line;
mod options;
mod talk;
mod tls;
mod ways;
mod words;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use deal::one;
use figures::Account;
use line::Limits;
use tls::Tls;
use ways::WAYS;

pub use figures::Report;
pub use options::Order;

const HELP: &str = "\
cargo xtask churn --port N [OPTION]…

  --port N               where the server listens
  --address 127.0.0.1    … or [::1]; loopback only
  --unix PATH            a Unix socket instead
  --protocol http        http, websocket, tls, zmtp, tcp
  --path /               what is asked for, over HTTP, TLS and for a WebSocket
  --ways all             ways by name, with commas between, by turns
  --connections 1000     how many in all
  --at-once 50           how many at a time
  --seconds 30           how long at most
  --from A,B             source addresses, by turns; else as many of 127.0.0.x as it takes
  --seed 1               order and garbage: the same seed, the same run
  --json                 figures as one JSON object

Ends by itself, or at Ctrl-C, and prints its figures. Ways:
";

/// The help: options and ways.
pub fn help() -> String {
    let ways = WAYS.iter().map(|way| {
        let protocols: Vec<&str> = way.protocols.iter().map(|protocol| protocol.name()).collect();
        format!("  {:<15} {} ({})", way.name, way.sentence, protocols.join(", "))
    });
    HELP.to_owned() + &ways.collect::<Vec<_>>().join("\n")
}

/// Opens all connections, and returns their counts. Fails only if a thread cannot be started.
pub fn churn(order: &Order, stop: &Arc<AtomicBool>) -> Result<Report> {
    let tls = Tls::new()?;
    let start = Instant::now();
    let limits = Limits { stop: Arc::clone(stop), until: start + order.limit };
    let next = AtomicU64::new(0);
    let work = || {
        let mut account = Account::default();
        while !limits.over() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= order.connections {
                break;
            }
            if let Some((way, source, figures)) = one(order, &tls, &limits, index) {
                account.count(way, source, &figures);
                if figures.connected == 0 {
                    // The server does not listen, or no port is free: do not keep a processor busy.
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        account
    };
    let mut account = Account::default();
    thread::scope(|scope| -> Result<()> {
        let threads = (0..order.at_once.min(order.connections))
            .map(|_| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work))
            .collect::<Result<Vec<_>, _>>()
            .inspect_err(|_| stop.store(true, Ordering::Relaxed))
            .context("could not start a thread\nhelp: fewer --at-once")?;
        for thread in threads {
            account.add(&thread.join().ok().context("a thread panicked")?);
        }
        Ok(())
    })?;
    let wall_seconds = start.elapsed().as_secs_f64();
    let ended = if account.total().attempted == order.connections {
        "done"
    } else if stop.load(Ordering::Relaxed) {
        "asked"
    } else {
        "time"
    };
    Ok(Report {
        account,
        target: order.target_name.clone(),
        protocol: order.protocol.name(),
        seed: order.seed,
        ended,
        wall_seconds,
    })
}

/// Enough for TLS without optimization; a thousand of them are affordable.
const STACK_BYTES: usize = 512 * 1024;

#[cfg(test)]
mod tests;
