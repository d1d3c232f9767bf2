//! The whole line on recorded runs: what the committed tapes of `tracer/tests/tapes` give as text, JSON and screen.
//!
//! A test of `tests/tests/replays.rs` records them again: see there.

use std::{sync::Arc, time::Duration};

use leaktrace::{
    report::{
        Report,
        export::{Format, Options, write},
    },
    run::{reports, reports_at},
    suppressions::Suppressions,
    tape::Tape,
    tui::{
        draw::screen,
        state::{Size, ViewState},
        theme::Theme,
    },
};
use ratatui::{Terminal, backend::TestBackend};

/// Every report of a tape; the last one is that of the whole run.
fn all(tape: &'static [u8]) -> Vec<Report> {
    let tape = Tape::from_bytes(tape).unwrap();
    assert!(tape.is_complete());
    let mut all = Vec::new();
    assert_eq!(reports(&tape, |report| all.push(report)), None);
    assert!(all.len() > 1, "{} reports", all.len());
    all
}

fn written(format: Format, report: &Report, top: usize) -> String {
    let mut out = Vec::new();
    write(format, report, &Options { top: Some(top), width: None, ..Options::default() }, &mut out)
        .unwrap();
    String::from_utf8(out).unwrap()
}

/// Compares a tape's last report as text and JSON, and the screen at its end, with the golden files.
fn golden(name: &str, tape: &'static [u8]) {
    let mut reports = all(tape);
    // The golden files survive a new version.
    reports.iter_mut().for_each(|report| "0".clone_into(&mut report.version));
    let last = reports.last().unwrap();
    insta::assert_snapshot!(format!("tape_{name}_text"), written(Format::Text, last, 20));
    // The worst call sites are enough: their frames make most of the text.
    let json = written(Format::Json, last, 3);
    insta::assert_snapshot!(format!("tape_{name}_json"), crate::indented(json.as_bytes()));
    let size = Size { columns: 120, rows: 40 };
    let mut state = ViewState::new(size);
    for report in reports {
        state.receive(Arc::new(report));
    }
    let mut terminal = Terminal::new(TestBackend::new(size.columns, size.rows)).unwrap();
    terminal.draw(|frame| screen::draw(&state, Theme::Colored, frame.buffer_mut())).unwrap();
    insta::assert_snapshot!(format!("tape_{name}_screen"), terminal.backend());
}

#[test]
fn a_libevent_server() {
    golden("libevent", include_bytes!("../tapes/libevent.tape"));
}

#[test]
fn a_tls_server() {
    golden("tls", include_bytes!("../tapes/tls.tape"));
}

#[test]
fn a_forking_server() {
    golden("forking", include_bytes!("../tapes/forking.tape"));
}

#[test]
fn a_time_gives_the_last_report_before_it() {
    let bytes: &[u8] = include_bytes!("../tapes/libevent.tape");
    let all = all(bytes);
    let durations: Vec<f64> = all.iter().map(|report| report.window.duration_s).collect();
    assert!(durations.is_sorted() && durations[1] > durations[0], "{durations:?}");
    let tape = Tape::from_bytes(bytes).unwrap();
    let second = Duration::from_secs_f64(durations[1]);
    let moment = Duration::from_millis(1);
    // In any order; a time before the first report gives that one, a time after the end the last one.
    let times = [Duration::MAX, second + moment, second.saturating_sub(moment), Duration::ZERO];
    let (chosen, fault) = reports_at(&Suppressions::default(), &tape, &times);
    assert_eq!(fault, None);
    let expected = [all.last().unwrap(), &all[1], &all[0], &all[0]];
    assert!(chosen.iter().map(|one| &**one).eq(expected));
}

#[test]
fn a_cut_tape_gives_its_last_report_for_later_times() {
    let whole = include_bytes!("../tapes/forking.tape");
    let tape = Tape::from_bytes(&whole[..whole.len() / 2]).unwrap();
    let mut last = None;
    let fault = reports(&tape, |report| last = Some(report));
    let (chosen, same_fault) = reports_at(&Suppressions::default(), &tape, &[Duration::MAX]);
    assert!(fault.is_some() && same_fault == fault);
    assert_eq!(chosen.first().map(|one| &**one), last.as_ref());
}

#[test]
fn a_tape_that_is_cut_anywhere_gives_fewer_reports_and_no_panic() {
    let whole = include_bytes!("../tapes/forking.tape");
    let count = all(whole).len();
    let mut before = 0;
    for length in (0..whole.len()).step_by(whole.len() / 40).chain([whole.len() - 1]) {
        let Some(tape) = Tape::from_bytes(&whole[..length]) else { continue };
        let mut reports_of_cut = 0;
        let fault = reports(&tape, |_| reports_of_cut += 1);
        assert!(!tape.is_complete() && reports_of_cut >= before, "{length}");
        assert_eq!(fault.is_none(), reports_of_cut == count, "{length}");
        before = reports_of_cut;
    }
    assert_eq!(before, count, "only the mark of the end was missing");
}

#[test]
fn a_damaged_tape_gives_fewer_reports_and_no_panic() {
    let whole = include_bytes!("../tapes/forking.tape");
    for at in (0..whole.len()).step_by(whole.len() / 60) {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x10;
        if let Some(tape) = Tape::from_bytes(bytes) {
            reports(&tape, drop);
        }
    }
}
