//! Reports as people read them.

use leaktrace::report::{
    Answer, Budget, Report, Suppressed, VerdictClass,
    export::{Format, Options, write},
};

use crate::fixtures;

fn text(report: &Report, top: Option<usize>, width: Option<usize>) -> String {
    let mut out = Vec::new();
    write(Format::Text, report, &Options { top, width, ..Options::default() }, &mut out).unwrap();
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

/// What a reader sees first.
fn beginning(report: &Report, top: Option<usize>, width: Option<usize>) -> String {
    let text = text(report, top, width);
    let (beginning, _) = text.split_once("\n  /srv/gateway").unwrap();
    beginning.trim_end().to_owned()
}

#[test]
fn the_answer_and_the_findings_come_first() {
    let mut report = fixtures::sample();
    insta::assert_snapshot!("first_a_leak", beginning(&report, None, None));
    // Without the call sites, the stacks are with the findings.
    insta::assert_snapshot!("first_a_leak_narrow", beginning(&report, Some(0), Some(62)));
    report.findings.remove(0);
    report.answer = Answer {
        class: Some(VerdictClass::Suspect),
        sentence: "1 suspect: geo.so+0x10f3a may leak 6 blocks per minute".to_owned(),
        smallest_leak_per_s: Some(0.05),
    };
    insta::assert_snapshot!("first_suspects_only", beginning(&report, None, None));
    report.findings.remove(0);
    report.answer.class = Some(VerdictClass::Growing);
    report.answer.sentence = "no leak in 12m41s: 1 call path grows with the load".to_owned();
    insta::assert_snapshot!("first_growing_only", beginning(&report, None, None));
    report.findings.clear();
    report.answer = Answer {
        class: None,
        sentence:
            "no leak in 12m41s: 4 call sites, none grows; a leak of more than 0.05/s would have \
                   been seen"
                .to_owned(),
        smallest_leak_per_s: Some(0.05),
    };
    insta::assert_snapshot!("first_nothing", beginning(&report, None, None));
    insta::assert_snapshot!("first_not_judged", beginning(&fixtures::light(), None, None));
}

#[test]
fn of_many_findings_the_worst_have_details() {
    let mut report = fixtures::lossy();
    report.suppressed.clear();
    let suspect = report.findings[1].clone();
    report.findings.splice(1..2, std::iter::repeat_n(suspect, 7));
    let text = beginning(&report, None, None);
    assert_eq!(text.matches("SUSPECT (71 % sure)").count(), 4);
    assert!(text.contains("judged from incomplete figures: LOST 1,852, see below\n"), "{text}");
    assert!(text.ends_with("… 3 more findings\n1 more call path grows: with the load, or it is too early to say more"), "{text}");
}

#[test]
fn suppressed_findings_are_listed_on_request() {
    let mut report = fixtures::sample();
    let first = report.suppressed[0].clone();
    report.suppressed.push(Suppressed { pattern: "^std::".to_owned(), findings: 30, ..first });
    let mut out = Vec::new();
    let options = Options { show_suppressed: true, ..Options::default() };
    write(Format::Text, &report, &options, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let list = "\n31 findings suppressed by 2 patterns:\n  \
                arena_grow: 1 finding, 1.0 MiB in 1,024\n    - arena_grow keeps every arena\n  \
                ^std::: 30 findings, 1.0 MiB in 1,024\n    - arena_grow keeps every arena\n    … 29 more\n\n";
    assert!(text.contains(list), "{text}");
    let line = "\n31 findings suppressed by 2 patterns; --show-suppressed lists them\n";
    assert!(self::text(&report, None, None).contains(line));
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
        insta::assert_snapshot!(name, crate::indented(&text));
    }
}
