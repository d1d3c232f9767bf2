//! Reports as people read them.

use leaktrace::report::{
    Budget, Report,
    export::{Format, Options, write},
};

use crate::fixtures;

fn text(report: &Report, top: Option<usize>, width: Option<usize>) -> String {
    let mut out = Vec::new();
    write(Format::Text, report, &Options { top, width }, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_server_that_leaks() {
    insta::assert_snapshot!(text(&fixtures::sample(), None, None));
}

#[test]
fn losses_and_two_targets() {
    insta::assert_snapshot!(text(&fixtures::lossy(), Some(1), Some(80)));
}

#[test]
fn a_server_that_grows_without_probes() {
    insta::assert_snapshot!(text(&fixtures::light(), None, None));
}

#[test]
fn a_server_traced_in_sampling_windows() {
    insta::assert_snapshot!("estimates", text(&fixtures::estimated(), None, None));
    insta::assert_snapshot!("estimates_narrow", text(&fixtures::estimated(), Some(1), Some(80)));
}

#[test]
fn a_budget_that_allows_tracing_all_the_time() {
    let mut report = fixtures::sample();
    report.accounting.budget = Some(Budget { cost: Some(0.012), ..within_budget() });
    insta::assert_snapshot!("within_budget", text(&report, Some(1), Some(80)));
    report.accounting.budget = Some(within_budget());
    assert!(text(&report, None, None).contains("not enough data yet on its cost"));
}

/// One window, for the whole time.
fn within_budget() -> Budget {
    Budget { share: 0.05, cost: None, windows: 1, recorded_s: 761.0, pace: None }
}

#[test]
fn descriptors_and_connections() {
    insta::assert_snapshot!("served", text(&fixtures::served(), None, None));
    insta::assert_snapshot!("served_narrow", text(&fixtures::served(), Some(0), Some(62)));
}

#[test]
fn nothing_happened() {
    insta::assert_snapshot!(text(&fixtures::empty(), Some(20), None));
}

#[test]
fn objects_of_libraries() {
    insta::assert_snapshot!("objects", text(&fixtures::objects(), Some(8), None));
    insta::assert_snapshot!("objects_narrow", text(&fixtures::objects(), Some(1), Some(80)));
}

/// The keys and values that programs read, in their order.
#[test]
fn as_json() {
    for (name, report) in [
        ("json_lossy", fixtures::lossy()),
        ("json_light", fixtures::light()),
        ("json_served", fixtures::served()),
        ("json_objects", fixtures::objects()),
    ] {
        let mut text = Vec::new();
        write(Format::Json, &report, &Options::default(), &mut text).unwrap();
        insta::assert_snapshot!(name, String::from_utf8(text).unwrap());
    }
}
