//! Reports against `docs/report.schema.json`, and the schema against the lists in the code.

use leaktrace::report::{
    Report,
    export::{Options, json},
};
use serde_json::{Value, json};
use tracer_common::{kind::ResourceKind, loss::Loss};

use crate::fixtures;

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/report.schema.json")).unwrap()
}

fn value(report: &Report) -> Value {
    let mut text = Vec::new();
    json::write(report, &Options::default(), &mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

pub(crate) fn faults(schema: &Value, report: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator
        .iter_errors(report)
        .map(|fault| format!("{} {fault}", fault.instance_path()))
        .collect()
}

/// The same schema, which rejects keys that it does not describe.
pub(crate) fn strict(schema: &Value) -> Value {
    match schema {
        Value::Object(keys) => keys
            .iter()
            .map(|(key, value)| match value {
                Value::Bool(true) if key == "additionalProperties" => (key.clone(), json!(false)),
                value => (key.clone(), strict(value)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(strict).collect(),
        plain => plain.clone(),
    }
}

#[test]
fn every_report_matches_the_schema_and_every_key_is_described() {
    for report in fixtures::all() {
        assert_eq!(faults(&strict(&schema()), &value(&report)), Vec::<String>::new());
    }
}

#[test]
fn keys_of_later_versions_are_allowed() {
    let mut report = value(&fixtures::sample());
    report["later"] = json!(1);
    report["sites"][0]["later"] = json!({});
    assert_eq!(faults(&schema(), &report), Vec::<String>::new());
}

#[test]
fn a_damaged_report_is_rejected() {
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
        ("/sites/0/kind", json!("")),
        ("/sites/0/kind", json!(null)),
        ("/sites/0/age_s", json!({ "min": 1 })),
        ("/sites/0/verdict/confidence", json!(1.1)),
        ("/sites/0/verdict/class", json!("maybe")),
        ("/sites/0/frames/0/address", json!(4096)),
        ("/sites/0/frames/0/line", json!("88")),
        ("/fds", json!({})),
    ] {
        let mut report = value(&fixtures::estimated());
        *report.pointer_mut(path).unwrap() = damage;
        assert!(!faults(&schema(), &report).is_empty(), "{path}");
    }
}

#[test]
fn damaged_descriptors_and_connections_are_rejected() {
    for (path, damage) in [
        ("/fds/open", json!(null)),
        ("/fds/table/0/state", json!(1)),
        ("/fds/seconds_to_limit_between", json!([540])),
        ("/sites/0/orphans/share", json!(100)),
        ("/connections", json!({})),
        ("/connections/by_end/us", json!(-1)),
        ("/connections/clients/0/address", json!(null)),
        ("/connections/clients/0/bytes_in", json!("1 KiB")),
        ("/connections/table/0/role", json!("server")),
        ("/connections/table/1/held", json!(12_288)),
        ("/connections/table/1/peer", json!(["10.0.0.7", 50_122])),
        ("/connections/recently_closed/0/closed_s", json!(-1)),
    ] {
        let mut report = value(&fixtures::served());
        *report.pointer_mut(path).unwrap() = damage;
        assert!(!faults(&schema(), &report).is_empty(), "{path}");
    }
}

#[test]
fn damaged_objects_are_rejected() {
    for (path, damage) in [
        ("/objects", json!({})),
        ("/objects/kinds/0/kind", json!("")),
        ("/objects/kinds/0/live", json!(-1)),
        ("/objects/kinds/0/site", json!("13")),
        ("/objects/table/0/state", json!("dead")),
        ("/objects/table/0/address", json!(4096)),
        ("/objects/table/0/owner", json!("bufferevent")),
        ("/objects/table/0/pending", json!(1)),
    ] {
        let mut report = value(&fixtures::objects());
        *report.pointer_mut(path).unwrap() = damage;
        assert!(!faults(&schema(), &report).is_empty(), "{path}");
    }
}

#[test]
fn every_key_of_the_contract_is_required() {
    let whole = value(&fixtures::estimated());
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
        without(&whole, path, key);
    }
    let whole = value(&fixtures::served());
    for (path, key) in [
        ("", "connections"),
        ("/fds", "seconds_to_limit"),
        ("/fds/table/0", "what"),
        ("/sites/0/orphans", "connections"),
        ("/connections", "with_orphans"),
        ("/connections/clients/0", "orphan_bytes"),
        ("/connections/table/0", "closed_by"),
    ] {
        without(&whole, path, key);
    }
    let whole = value(&fixtures::objects());
    for (path, key) in [
        ("/objects", "table"),
        ("/objects/kinds/0", "release_asked"),
        ("/objects/table/0", "label"),
    ] {
        without(&whole, path, key);
    }
}

/// The schema must reject the report when it lacks this key.
#[track_caller]
fn without(whole: &Value, path: &str, key: &str) {
    let mut report = whole.clone();
    let part = report.pointer_mut(path).unwrap().as_object_mut().unwrap();
    assert!(part.remove(key).is_some(), "{path}/{key}");
    assert!(!faults(&schema(), &report).is_empty(), "{path}/{key}");
}

#[test]
fn the_schema_lists_match_the_code() {
    let schema = schema();
    let own: Vec<&str> = ResourceKind::ALL
        .into_iter()
        .filter(|kind| *kind != ResourceKind::Object)
        .map(ResourceKind::name)
        .collect();
    assert_eq!(schema["$defs"]["kind"]["anyOf"][0]["enum"], json!(own));
    assert_eq!(schema["$defs"]["loss"]["enum"], json!(Loss::ALL.map(Loss::name)));
}
