//! Simulated servers whose truth is known, judged at ten moments each: every rule against every kind of load.
//!
//! What a simulated program acquires and releases goes through the real ledger, as the kernel would send it: what dies
//! before the next drain is only counted. Seeds are fixed, so results are the same on every machine.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod kinds;
mod programs;
#[path = "../../src/evidence/random.rs"]
mod random;

use std::collections::BTreeMap;

use tracer_common::{kind::Kind, state::Died};

use self::{
    kinds::KINDS,
    programs::{Load, Program, Truth},
};
use leaktrace::{
    evidence::History,
    ledger::{
        Ledger, Sum,
        connections::{Figures, LeftBehind},
        events::{Block, Event, Handle},
    },
    report::{Verdict, VerdictClass},
    snapshot::{Snapshot, site_figures},
    target::Pid,
    verdict::judge,
};

const SECOND: u64 = 1_000_000_000;
/// The time between two drains.
const DRAIN_S: f64 = 0.25;
const START_NS: u64 = 1_000 * SECOND;
/// The call site.
const SITE: u32 = 1;
/// Seconds after the program's beginning at which a verdict is taken.
const CUTS: [u32; 10] = [10, 20, 30, 45, 60, 90, 120, 180, 300, 480];

/// A verdict and the truth at that time.
struct Outcome {
    kind: usize,
    cut: usize,
    verdict: Verdict,
    truth: Truth,
}

fn at_ns(seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, small"
    )]
    let ns = (seconds * 1e9) as u64;
    START_NS + ns
}

/// What the ledger learns of a program until a time, in that order, and when the others died young, ascending.
fn events(program: &Program, last_s: f64) -> (Vec<(u64, Event)>, Vec<f64>) {
    let (mut events, mut young) = (Vec::new(), Vec::new());
    for (value, resource) in (1_u64..).zip(&program.resources) {
        let (at_s, ends_s) = (resource.at_s, resource.at_s + resource.lives_s);
        if at_s > last_s {
            continue;
        }
        let drained_s = (at_s / DRAIN_S).floor() * DRAIN_S + DRAIN_S;
        if ends_s < drained_s {
            young.push(ends_s);
            continue;
        }
        let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
        let (size, time_ns) = (resource.size, at_ns(at_s));
        let block = Block { size, time_ns, position: value, site: SITE, connection: 0 };
        events.push((at_ns(drained_s), Event::Acquired { handle, block }));
        if ends_s <= last_s {
            let time_ns = at_ns(ends_s);
            let (size, position, probe, caller, resizing) = (0, u64::MAX, 0, 0, None);
            // In one cycle, the drain comes first.
            events.push((
                time_ns.max(at_ns(drained_s) + 1),
                Event::Released { handle, size, position, time_ns, probe, caller, resizing },
            ));
        }
    }
    events.sort_by_key(|(ns, _)| *ns);
    young.sort_by(f64::total_cmp);
    (events, young)
}

/// The snapshot of a ledger under a load.
fn snapshot(ledger: &Ledger, load: &Load, now_s: f64) -> Snapshot {
    let mut sites = site_figures(ledger, at_ns(now_s), 0, || {});
    for site in sites.iter_mut().filter(|_| load.closed > 0) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let connections = (load.leaving * load.closed as f64).round() as u64;
        let sum = if connections > 0 { site.aged } else { Sum::default() };
        site.orphans = LeftBehind { sum, connections, share: Some(load.leaving) };
    }
    let figures = || Figures { open: load.open, closed: load.closed, ..Figures::default() };
    Snapshot {
        at_ns: at_ns(now_s),
        sites,
        lives_origin_ns: ledger.lives_origin_ns(),
        unknown_blocks: load.unknown_blocks,
        connections: load.traced.then(figures),
        ..Snapshot::default()
    }
}

/// Plays a program and judges it.
fn play(program: &Program, mut judged: impl FnMut(usize, Verdict)) {
    let last_s = f64::from(CUTS[CUTS.len() - 1]) + program.begins_s;
    let (events, young) = events(program, last_s);
    let mut events = events.into_iter().peekable();
    let (mut ledger, mut history) = (Ledger::default(), History::default());
    let mut second = 0;
    for (at, cut) in CUTS.iter().enumerate() {
        loop {
            second += 1;
            let now_s = f64::from(second);
            while let Some((_, event)) = events.next_if(|(ns, _)| *ns <= at_ns(now_s)) {
                ledger.apply(event);
            }
            ledger.set_now(at_ns(now_s));
            let died = young.partition_point(|ends_s| *ends_s <= now_s) as u64;
            let count = died + (program.young)(now_s);
            ledger.set_died(SITE as usize, Died { count, bytes: count * 10 });
            let snapshot = snapshot(&ledger, &(program.load)(now_s), now_s);
            history.push(&snapshot);
            if now_s >= program.begins_s + f64::from(*cut) {
                let site = snapshot.sites.iter().find(|site| site.number == SITE);
                let judge = |site| judge(&history.evidence(site, &snapshot));
                judged(at, site.map_or_else(Verdict::unknown, judge));
                break;
            }
        }
    }
}

fn outcomes(seeds: std::ops::Range<u64>) -> Vec<Outcome> {
    let of_kind = &|kind: usize, make: fn(u64) -> Program| {
        let mut all = Vec::new();
        for seed in seeds.clone() {
            let program = make(seed * 1000 + kind as u64);
            play(&program, |cut, verdict| {
                let truth = (program.truth)(program.begins_s + f64::from(CUTS[cut]));
                all.push(Outcome { kind, cut, verdict, truth });
            });
        }
        all
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = KINDS
            .iter()
            .enumerate()
            .map(|(kind, (_, make))| scope.spawn(move || of_kind(kind, *make)))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn accuses(verdict: &Verdict) -> bool {
    matches!(verdict.class, VerdictClass::Leak | VerdictClass::Suspect)
}

/// Whether a verdict is right about what the program does then.
fn is_right(outcome: &Outcome) -> bool {
    match (outcome.verdict.class, outcome.truth) {
        (VerdictClass::Leak | VerdictClass::Suspect, truth) => matches!(truth, Truth::Leaks { .. }),
        (VerdictClass::Growing, truth) => !matches!(truth, Truth::Flat),
        (VerdictClass::Steady | VerdictClass::Settling, Truth::Leaks { for_s }) => for_s < 20.0,
        _ => true,
    }
}

fn matrix(outcomes: &[Outcome]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (kind, (name, _)) in KINDS.iter().enumerate() {
        write!(text, "{name:<28}").unwrap();
        for (cut, seconds) in CUTS.iter().enumerate() {
            let mut counts = BTreeMap::<&str, u32>::new();
            for one in outcomes.iter().filter(|one| one.kind == kind && one.cut == cut) {
                let word = one.verdict.class.name();
                *counts.entry(&word[..2]).or_default() += 1;
            }
            let cell: Vec<String> =
                counts.iter().map(|(word, count)| format!("{word}{count}")).collect();
            write!(text, " {seconds}:{:<14}", cell.join(" ")).unwrap();
        }
        text.push('\n');
    }
    text
}

/// Seeds per kind of program.
const SEEDS: u64 = 12;

fn matches<'a>(outcomes: &'a [Outcome], which: impl Fn(&Outcome) -> bool + 'a) -> Vec<&'a Outcome> {
    outcomes.iter().filter(|one| which(one)).collect()
}

fn leaks(outcome: &Outcome) -> bool {
    matches!(outcome.truth, Truth::Leaks { .. })
}

fn share(outcomes: &[&Outcome], which: impl Fn(&Outcome) -> bool) -> f64 {
    outcomes.iter().filter(|one| which(one)).count() as f64 / outcomes.len().max(1) as f64
}

/// Precision, recall and calibration over some hundred programs. With `--nocapture` it prints the confusion matrix and the
/// wrong verdicts.
#[test]
fn verdicts_are_as_right_as_they_claim() {
    let outcomes = outcomes(0..SEEDS);
    println!("{}", matrix(&outcomes));
    let accused = matches(&outcomes, |one| accuses(&one.verdict));
    // A leak must be found within a minute.
    let old =
        matches(&outcomes, |one| matches!(one.truth, Truth::Leaks { for_s } if for_s >= 60.0));
    let (precision, recall) = (share(&accused, leaks), share(&old, |one| accuses(&one.verdict)));
    println!(
        "precision {precision:.3} of {}, recall after a minute {recall:.3} of {}",
        accused.len(),
        old.len()
    );
    let show = |what: &str, one: &Outcome| {
        println!(
            "{what}: {} at {} s, {:?}: {:?}",
            KINDS[one.kind].0, CUTS[one.cut], one.truth, one.verdict
        );
    };
    accused.iter().filter(|one| !leaks(one)).for_each(|one| show("wrong", one));
    old.iter().filter(|one| !accuses(&one.verdict)).for_each(|one| show("missed", one));
    assert!(precision >= 0.97, "precision {precision}");
    assert!(recall >= 0.95, "recall {recall}");
    // What is called a leak, is one.
    let called = matches(&outcomes, |one| one.verdict.class == VerdictClass::Leak);
    assert!(called.len() > 150 && called.iter().all(|one| leaks(one)));
    for tenths in 5_u32..10 {
        let (from, until) = (f64::from(tenths) / 10.0, f64::from(tenths + 1) / 10.0);
        let inside = |one: &Outcome| {
            one.verdict.confidence >= from && (one.verdict.confidence < until || tenths == 9)
        };
        let all = matches(&outcomes, inside);
        let accusing = matches(&outcomes, |one| inside(one) && accuses(&one.verdict));
        let (right, accusing_right) = (share(&all, is_right), share(&accusing, is_right));
        println!(
            "{from} to {until}: {right:.3} of {}; accusing {accusing_right:.3} of {}",
            all.len(),
            accusing.len()
        );
        assert!(right >= from, "of those with {from}, only {right} are right");
        assert!(
            accusing_right >= from,
            "of those that accuse with {from}, only {accusing_right} are right"
        );
    }
}
