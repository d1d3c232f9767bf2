//! Reports against `docs/report.schema.json`, and the schema against the lists in the code.

use leaktrace::report::{Report, json, sample};
use serde_json::{Value, json};
use tracer_common::{kind::Kind, loss::Loss};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/report.schema.json")).unwrap()
}

fn value(report: &Report) -> Value {
    let mut text = Vec::new();
    json::write(report, &mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn faults(schema: &Value, report: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator
        .iter_errors(report)
        .map(|fault| format!("{} {fault}", fault.instance_path()))
        .collect()
}

/// The same schema, which refuses keys that it does not describe.
fn closed(schema: &Value) -> Value {
    match schema {
        Value::Object(keys) => keys
            .iter()
            .map(|(key, value)| match value {
                Value::Bool(true) if key == "additionalProperties" => (key.clone(), json!(false)),
                value => (key.clone(), closed(value)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(closed).collect(),
        plain => plain.clone(),
    }
}

#[test]
fn every_report_is_as_the_schema_says_and_no_key_is_left_undescribed() {
    let samples =
        [sample::sample(), sample::lossy(), sample::empty(), sample::light(), sample::estimated()];
    for report in samples {
        assert_eq!(faults(&closed(&schema()), &value(&report)), Vec::<String>::new());
    }
}

#[test]
fn keys_that_come_later_are_allowed() {
    let mut report = value(&sample::sample());
    report["later"] = json!(1);
    report["sites"][0]["later"] = json!({});
    assert_eq!(faults(&schema(), &report), Vec::<String>::new());
}

#[test]
fn a_damaged_report_is_told() {
    for (path, damage) in [
        ("/schema", json!("leaktrace/2")),
        ("/host/arch", json!(null)),
        ("/targets/0/pid", json!(0)),
        ("/targets/0/exited", json!({ "status": 1 })),
        ("/window/started_at", json!("yesterday")),
        ("/window/duration_s", json!(-1)),
        ("/accounting/events", json!(1.5)),
        ("/accounting/lost", json!({ "bad_luck": 1 })),
        ("/accounting/budget/share", json!(5)),
        ("/accounting/budget/cost", json!(1.5)),
        ("/accounting/budget/windows", json!(-1)),
        ("/accounting/budget/recorded_s", json!(null)),
        ("/totals/heap/error/outstanding", json!({ "count": 1 })),
        ("/sites/0/error", json!(0.1)),
        ("/probes/0/status", json!("off")),
        ("/probes/0/offset", json!("0xFF")),
        ("/totals", json!({ "heap": {} })),
        ("/totals", json!({ "gold": null })),
        ("/sites/0/kind", json!("gold")),
        ("/sites/0/age_s", json!({ "min": 1 })),
        ("/sites/0/verdict/confidence", json!(1.1)),
        ("/sites/0/verdict/class", json!("maybe")),
        ("/sites/0/frames/0/address", json!(4096)),
        ("/sites/0/frames/0/line", json!("88")),
        ("/fds", json!({})),
    ] {
        let mut report = value(&sample::estimated());
        *report.pointer_mut(path).unwrap() = damage;
        assert!(!faults(&schema(), &report).is_empty(), "{path}");
    }
}

#[test]
fn no_key_of_the_contract_may_be_missing() {
    let whole = value(&sample::estimated());
    for (path, key) in [
        ("", "fds"),
        ("/host", "fd_backend"),
        ("/targets/0", "fd_limit"),
        ("/window", "attach_ms"),
        ("/accounting", "estimated"),
        ("/accounting/budget", "pace"),
        ("/sites/0/error", "acquired"),
        ("/probes/0", "why"),
        ("/totals/heap", "released_bytes"),
        ("/sites/0", "orphans"),
        ("/sites/0/frames/0", "why_unnamed"),
    ] {
        let mut report = whole.clone();
        let part = report.pointer_mut(path).unwrap().as_object_mut().unwrap();
        assert!(part.remove(key).is_some(), "{path}/{key}");
        assert!(!faults(&schema(), &report).is_empty(), "{path}/{key}");
    }
}

#[test]
fn the_lists_are_those_of_the_code() {
    let schema = schema();
    assert_eq!(schema["$defs"]["kind"]["enum"], json!(Kind::ALL.map(Kind::name)));
    assert_eq!(schema["$defs"]["loss"]["enum"], json!(Loss::ALL.map(Loss::name)));
}
