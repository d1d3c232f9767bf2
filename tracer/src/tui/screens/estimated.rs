//! Screens with estimates, because a budget does not allow tracing all the time.

use super::{golden, press, view};
use crate::{
    report::{Errors, Report, fixtures::estimated::estimate},
    tui::{
        columns::{Entry, SITES, TableContext},
        keys::Key,
        sample,
        summary::Summary,
    },
};

fn estimated() -> Report {
    let mut report = sample::judged();
    estimate(&mut report);
    // Too few samples for an error.
    report.sites[2].error = Some(Errors::default());
    report
}

#[test]
fn estimates_are_marked_and_have_an_error() {
    golden("estimated_wide", &view(120, 40, estimated()));
    let mut state = view(80, 24, estimated());
    golden("estimated_small", &state);
    press(&mut state, &[Key::Open]);
    golden("estimated_small_details", &state);
    let mut state = view(120, 40, estimated());
    press(&mut state, &[Key::Down, Key::Down, Key::Open]);
    golden("estimated_wide_details", &state);
    golden("estimated_smallest", &view(60, 12, estimated()));
}

#[test]
fn tracing_within_budget_is_exact_and_shows_its_cost() {
    let mut report = estimated();
    report.accounting.estimated = false;
    report.sites.iter_mut().for_each(|site| site.error = None);
    report.totals.values_mut().for_each(|total| total.error = None);
    let shown = super::painted(&view(80, 24, report), super::Theme::Plain).backend().to_string();
    assert!(shown.contains("cost 4.8 % (max 5 %)"), "{shown}");
    assert!(!shown.contains('~') && !shown.contains("ESTIMATED"), "{shown}");
}

#[test]
fn help_explains_estimates_if_there_are_any() {
    let mut state = view(120, 60, estimated());
    press(&mut state, &[Key::Help, Key::End]);
    golden("estimated_help", &state);
    let mut state = view(120, 60, sample::report());
    press(&mut state, &[Key::Help, Key::End]);
    let shown = super::painted(&state, super::Theme::Plain).backend().to_string();
    assert!(!shown.contains('~'), "{shown}");
}

#[test]
fn marked_cells_fit_their_width() {
    let report = estimated();
    let summary = Summary::of(&report);
    let context = TableContext { report: &report, summary: &summary, baseline: None };
    let mut site = report.sites[0].clone();
    for figure in [9, 99_999, 100_000, 999_999, 1_000_000, 99_949_999, 123_456_789_000] {
        site.outstanding_count = figure;
        site.outstanding_bytes = figure;
        site.acquired_count = figure;
        for column in SITES.iter().filter(|column| (column.width)(80) > 1) {
            let cell = (column.cell)(&Entry { item: &site, at: 0, context }, (column.width)(80));
            assert!(cell.width() <= (column.width)(80), "{} {}", column.title, cell.text());
        }
    }
}
