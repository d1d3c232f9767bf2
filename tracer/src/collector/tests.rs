//! The collector on tapes that tests write by hand: an answer for each question, in the order that must be kept.

use tracer_common::{
    kind::{Kind, ResourceKind},
    record::{Change, RELEASE},
    state::{Key, Young},
};
use zerocopy::IntoBytes as _;

use super::*;
use crate::{
    ledger::Sum,
    source::{List, Pairs},
    tape::{Answers, Fault, Tape, in_memory},
};

const PID: u32 = 7;

fn options() -> TraceOptions {
    TraceOptions { kinds: vec![ResourceKind::Heap], live: true, ..TraceOptions::default() }
}

/// A tape that begins without targets.
fn tape(write: impl FnOnce(&mut Answers)) -> Tape {
    in_memory(|tape| {
        let mut answers = Answers::live(Some(tape.recorder()));
        let interval = Duration::from_secs(1);
        let beginning = Beginning {
            targets: Vec::new(),
            probed: Probed::default(),
            options: options(),
            interval,
        };
        drop(answers.try_ask(Question::Targets, || Ok(beginning)));
        write(&mut answers);
    })
}

fn collector(tape: &Tape) -> Collector {
    let answers = Answers::replayed(tape.player(0).unwrap());
    Collector::new(RecordSource::tape(answers), None).unwrap()
}

fn block(handle: u64, position: u64) -> (Key, Young) {
    let key = Key { pid: PID, kind: Kind::Heap as u32, handle };
    let young = Young { size: 100, time_ns: 5, position, site: 3, connection: 0 };
    (key, young)
}

fn release(handle: u64, position: u64) -> Vec<u8> {
    let change = Change {
        record: RELEASE,
        kind: Kind::Heap as u8,
        flags: 0,
        probe: 0,
        pid: PID,
        tid: PID,
        handle,
        size: 0,
        position,
        time_ns: 9,
        caller: 0,
        site: 0,
        connection: 0,
    };
    change.as_bytes().to_vec()
}

fn drained(answers: &mut Answers, blocks: &[(Key, Young)]) {
    if !blocks.is_empty() {
        answers.ask(Question::Drained, || Pairs(blocks.to_vec()));
    }
    answers.ask(Question::Drained, Pairs::<Key, Young>::default);
}

fn records(answers: &mut Answers, records: &[Vec<u8>]) {
    let mut list = List::default();
    records.iter().for_each(|record| list.push(record));
    if !list.is_empty() {
        answers.ask(Question::Records, || list);
    }
    answers.ask(Question::Records, List::default);
}

/// The rest of a cycle in which nothing else happens.
fn nothing_else(answers: &mut Answers) {
    answers.ask(Question::IsDue(Timer::Mappings), || false);
    answers.ask(Question::TablesArrived, || false);
}

/// What is outstanding, and how many releases belong to nothing.
fn figures(collector: &Collector) -> (Sum, u64) {
    let mut sum = Sum::default();
    collector.ledger.outstanding().for_each(|block| sum.add(block.size));
    (sum, collector.ledger.unknown_releases())
}

#[test]
fn each_cycle_drains_first_and_reads_records_second() {
    // The program released the block after the drain had taken it: the release is a record, and there is nothing that it
    // could belong to before the drained block is in the ledger.
    let tape = tape(|answers| {
        drained(answers, &[block(0x10, 1), block(0x20, 2)]);
        records(answers, &[release(0x10, 3)]);
        nothing_else(answers);
        drained(answers, &[]);
        records(answers, &[release(0x20, 4)]);
        nothing_else(answers);
    });
    let mut collector = collector(&tape);
    assert_eq!(collector.cycle().unwrap(), 3);
    assert_eq!(figures(&collector), (Sum { count: 1, bytes: 100 }, 0));
    assert_eq!(collector.cycle().unwrap(), 1);
    assert_eq!(figures(&collector), (Sum::default(), 0));
}

#[test]
fn a_collector_that_reads_records_first_does_not_fit_a_tape() {
    let tape = tape(|answers| {
        records(answers, &[release(0x10, 3)]);
        drained(answers, &[block(0x10, 1)]);
        nothing_else(answers);
    });
    let mut collector = collector(&tape);
    let failed = collector.cycle().unwrap_err();
    let fault = Fault::Mismatch { found: Question::Records, wanted: Question::Drained };
    assert_eq!(failed.to_string(), fault.to_string());
    assert_eq!(collector.source.answers().fault(), Some(fault));
}

#[test]
fn what_is_drained_during_a_walk_reaches_the_ledger_before_the_next_records() {
    // A snapshot's walk drains early. On a tape, that is part of the next cycle's drain; live, the batch waits for it.
    let tape = tape(|answers| {
        drained(answers, &[block(0x20, 2)]);
        records(answers, &[release(0x10, 3)]);
        nothing_else(answers);
    });
    let mut collector = collector(&tape);
    collector.drained_batch.push(block(0x10, 1));
    assert_eq!(collector.cycle().unwrap(), 3);
    assert_eq!(figures(&collector), (Sum { count: 1, bytes: 100 }, 0));
}

#[test]
fn a_tape_that_ends_stops_the_collector_without_a_panic() {
    let tape = tape(|answers| {
        drained(answers, &[block(0x10, 1)]);
    });
    let mut snapshots = 0;
    let failed = collector(&tape).run(None, |_| {}, |_| snapshots += 1).unwrap_err();
    assert_eq!((failed.to_string(), snapshots), (Fault::Ended.to_string(), 0));
}
