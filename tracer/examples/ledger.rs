//! Memory and time cost of the ledger: `cargo run --release -p leaktrace --example ledger [BLOCKS [SITES]]` (ten
//! million, 50,000) prints both for each block, the time of a snapshot, and the cost of
//! evidence and verdicts. Needs neither root nor a target.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a tool for developers, never shipped"
)]

use std::{
    env,
    hint::black_box,
    time::{Duration, Instant},
};

use leaktrace::{
    evidence::History,
    ledger::{
        Ledger,
        events::{Block, Event, Handle},
    },
    snapshot::{Snapshot, site_figures},
    target::{Pid, rss_bytes},
    verdict::judge,
};
use tracer_common::kind::Kind;

/// Handles with an allocator's spacing.
fn handle(number: u64) -> Handle {
    Handle { pid: Pid(1), kind: Kind::Heap, value: 0x7f00_0000_0000 + number * 32 }
}

/// Call sites that are judged.
const JUDGED: u32 = 20_000;

/// Prints what evidence and a verdict cost for each call site, when all change all the time: each acquires a block per
/// second and releases every second one.
fn evidence() {
    let resident = || rss_bytes(Pid::own()).expect("the own process");
    let empty = resident();
    let (mut ledger, mut history) = (Ledger::default(), History::default());
    let mut pushed = Duration::ZERO;
    let mut last = None;
    for second in 1..=130_u64 {
        let now_ns = second * 1_000_000_000;
        ledger.set_now(now_ns);
        for site in 1..=JUDGED {
            let value = second * u64::from(JUDGED) + u64::from(site);
            let block = Block { size: 16, time_ns: now_ns, position: 0, site, connection: 0 };
            ledger.apply(Event::Acquired { handle: handle(value), block });
            if second % 2 == 0 {
                let handle = handle(value - u64::from(JUDGED));
                ledger.apply(Event::Released {
                    handle,
                    size: 0,
                    position: 1,
                    time_ns: now_ns,
                    probe: 0,
                    caller: 0,
                    resizing: None,
                });
            }
        }
        let snapshot = Snapshot {
            at_ns: now_ns,
            sites: site_figures(&ledger, now_ns, 0, || {}),
            lives_origin_ns: ledger.lives_origin_ns(),
            ..Snapshot::default()
        };
        let begun = Instant::now();
        history.push(&snapshot);
        pushed += begun.elapsed();
        last = Some(snapshot);
    }
    let each = |took: Duration| took.as_nanos() as f64 / f64::from(JUDGED);
    println!("history: {:.0} ns for a call site and snapshot", each(pushed) / 130.0);
    let snapshot = last.expect("130 snapshots");
    let begun = Instant::now();
    for site in &snapshot.sites {
        black_box(judge(&history.evidence(site, &snapshot)));
    }
    println!("verdict: {:.0} ns for a call site", each(begun.elapsed()));
    let bytes = (resident() - empty) as f64 / f64::from(JUDGED);
    println!("evidence and 65 blocks: {bytes:.0} bytes for a call site");
}

fn main() {
    let mut numbers = env::args().skip(1).map(|word| word.parse().expect("a number"));
    let blocks: u64 = numbers.next().unwrap_or(10_000_000);
    let sites: u64 = numbers.next().unwrap_or(50_000);
    let resident = || rss_bytes(Pid::own()).expect("the own process");
    let mut ledger = Ledger::default();
    let empty = resident();
    let begun = Instant::now();
    for number in 0..blocks {
        let site = u32::try_from(number * sites / blocks).expect("a small number") + 1;
        let block =
            Block { size: 16, time_ns: number * 1000, position: number * 64, site, connection: 0 };
        ledger.apply(Event::Acquired { handle: handle(number), block });
    }
    let each = |ns: u128| ns as f64 / blocks as f64;
    println!("acquired: {:.0} ns each", each(begun.elapsed().as_nanos()));
    println!("memory: {:.1} bytes each", each(u128::from(resident() - empty)));
    let mut longest = 0;
    for _ in 0..5 {
        let begun = Instant::now();
        let mut last = begun;
        let figures = site_figures(&ledger, blocks * 1000, 0, || {
            longest = longest.max(last.elapsed().as_micros());
            last = Instant::now();
        });
        let took = begun.elapsed();
        assert_eq!(figures.iter().map(|site| site.aged.count).sum::<u64>(), blocks);
        black_box(figures);
        println!("figures: {} ms, {:.1} ns each", took.as_millis(), each(took.as_nanos()));
    }
    println!("longest stretch without a pause: {longest} us");
    evidence();
    let begun = Instant::now();
    for number in 0..blocks {
        let released = Event::Released {
            handle: handle(number),
            size: 0,
            position: u64::MAX,
            time_ns: 0,
            probe: 0,
            caller: 0,
            resizing: None,
        };
        ledger.apply(released);
    }
    println!("released: {:.0} ns each", each(begun.elapsed().as_nanos()));
    println!("memory left: {:.1} MiB", (resident() - empty) as f64 / f64::from(1 << 20));
}
