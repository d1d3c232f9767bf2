//! `-f brief`: its exact line, its schema, and its limit, whatever the report has.

use std::sync::Arc;

use leaktrace::report::{
    Amount, Answer, Finding, FindingClient, FindingPart, FindingRate, PerConnection, Report,
    Resource, VerdictClass, Word,
    export::{Options, brief},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::{
    fixtures,
    schema::{faults, strict},
};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/brief.schema.json")).unwrap()
}

fn line(report: &Report) -> String {
    let mut line = Vec::new();
    brief::write(report, &Options::default(), &mut line).unwrap();
    String::from_utf8(line).unwrap()
}

/// Checks a report's line, and returns its value.
fn check(report: &Report) -> Value {
    let line = line(report);
    assert!(line.len() <= brief::MAX_BYTES, "{} bytes", line.len());
    assert!(line.ends_with("}\n") && line.matches('\n').count() == 1);
    let value = serde_json::from_str(&line).unwrap();
    assert_eq!(faults(&strict(&schema()), &value), Vec::<String>::new());
    let shown = value["findings"].as_array().unwrap().len();
    assert_eq!(value["findings_left_out"], report.findings.len() - shown);
    value
}

#[test]
fn as_scripts_read_it() {
    insta::assert_snapshot!("brief_a_leak", line(&fixtures::sample()));
    insta::assert_snapshot!("brief_not_judged", line(&fixtures::light()));
    let mut calm = fixtures::lossy();
    calm.findings.clear();
    calm.suppressed.clear();
    calm.answer = Answer { class: None, sentence: "no leak in 12m41s".to_owned(), ..calm.answer };
    insta::assert_snapshot!("brief_nothing", line(&calm));
}

#[test]
fn every_line_matches_the_schema_and_every_key_is_described() {
    for report in fixtures::all() {
        check(&report);
    }
}

#[test]
fn a_damaged_line_is_rejected() {
    for (path, damage) in [
        ("/schema", json!("leaktrace/1")),
        ("/answer/class", json!("steady")),
        ("/targets/0/pid", json!(0)),
        ("/lost", json!(null)),
        ("/findings/0/class", json!("steady")),
        ("/findings/0/confidence", json!(98)),
        ("/findings/0/line", json!("88")),
        ("/findings/0/outstanding", json!(1)),
        ("/findings/0/stack", json!(null)),
        ("/findings_left_out", json!(-1)),
    ] {
        let mut value = check(&fixtures::sample());
        *value.pointer_mut(path).unwrap() = damage;
        assert!(!faults(&schema(), &value).is_empty(), "{path}");
    }
}

/// Strings of every length and kind of character: names of C++ functions, quotes, control characters, and those of many bytes.
fn text() -> impl Strategy<Value = String> {
    let pattern = prop_oneof![
        Just("a".to_owned()),
        Just("std::vector<std::map<int, char> >::".to_owned()),
        Just("\"\\".to_owned()),
        Just("\u{1b}\n\0".to_owned()),
        Just("ü𝄞…".to_owned()),
        any::<String>(),
    ];
    let times = prop_oneof![3 => 0_usize..20, 1 => 0_usize..800];
    (pattern, times).prop_map(|(pattern, times)| pattern.repeat(times))
}

fn kind() -> impl Strategy<Value = Resource> {
    prop_oneof![Just(Resource::from("heap")), text().prop_map(|name| Resource::from(name.as_str()))]
}

fn amount() -> impl Strategy<Value = Amount> {
    any::<(u64, u64)>().prop_map(|(count, bytes)| Amount { count, bytes })
}

/// Figures as they are, and at their longest.
fn figure() -> impl Strategy<Value = f64> {
    prop_oneof![
        0.0..1.0,
        Just(f64::NAN),
        Just(f64::INFINITY),
        0.0..f64::MAX,
        Just(1.234_567_89e-300)
    ]
}

prop_compose! {
    fn finding(frames: Arc<[leaktrace::report::Frame]>)(
        (id, title, what, fault) in (text(), text(), text(), option::of(text())),
        (kind, look_at, since) in (kind(), option::of(text()), option::of(figure())),
        (confidence, share) in (0.0..=1.0, 0.0..=1.0),
        reasons in vec(text(), 0..40),
        parts in vec((kind(), amount()), 0..40),
        clients in vec((text(), amount()), 0..40),
        class in select(vec![VerdictClass::Leak, VerdictClass::Suspect, VerdictClass::Growing]),
        (outstanding, processes) in (amount(), any::<u64>()),
        rate in option::of((figure(), figure(), figure(), figure())),
        (bytes, line, headline) in (figure(), option::of(any::<u32>()), 0_usize..9),
        names in vec((option::of(text()), option::of(text()), option::of(text())), 0..9),
    ) -> Finding {
        let frame = |(symbol, module, file): (Option<String>, Option<String>, Option<String>)| {
            leaktrace::report::Frame {
                symbol: symbol.map(Into::into),
                module: module.map(Into::into),
                file: file.map(Into::into),
                line,
                ..frames[0].clone()
            }
        };
        let rate = rate.map(|(count_per_s, bytes_per_s, low, high)| {
            FindingRate { count_per_s, bytes_per_s, low, high }
        });
        Finding {
            id, class, confidence, since, title, reasons, kind,
            fault: fault.map(|fault| Word::named(&fault)),
            look_at, outstanding, rate,
            per: Some(PerConnection { what, share, bytes }),
            parts: parts
                .into_iter()
                .map(|(kind, Amount { count, bytes })| FindingPart { kind, count, bytes })
                .collect(),
            owners: Vec::new(),
            sites: Vec::new(),
            headline,
            frames: names.into_iter().map(frame).collect(),
            cohorts: Vec::new(),
            clients: clients
                .into_iter()
                .map(|(address, Amount { count, bytes })| FindingClient { address, count, bytes })
                .collect(),
            processes,
        }
    }
}

proptest! {
    // Each case has megabytes of names.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn it_always_fits(
        findings in vec(finding(Arc::clone(&fixtures::sample().sites[0].frames)), 0..8),
        repeated in 1_usize..5,
        (sentence, exe, started_at, version) in (text(), text(), text(), text()),
        targets in 0_usize..50,
        lost in any::<[u64; 2]>(),
    ) {
        let mut report = fixtures::lossy();
        report.findings = vec![findings; repeated].concat();
        report.answer.sentence = sentence;
        report.version = version;
        report.window.started_at = started_at;
        report.targets[0].exe = Some(exe);
        report.targets = vec![report.targets[0].clone(); targets];
        report.accounting.lost.values_mut().zip(lost).for_each(|(count, lost)| *count = lost);
        check(&report);
    }
}
