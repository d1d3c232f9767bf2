//! Tests of findings on call sites made up for them.

use std::{collections::HashMap, sync::Arc};

use tracer_common::kind::ResourceKind;

use super::*;
use crate::{
    evidence::{Evidence, Retained},
    ledger::Sum,
    report::{Address, Frame, Messages, Orphans, Resource, Verdict, fixtures},
};

const EXE: &str = "/opt/server";

/// Objects whose release was requested.
struct Requested(u64);

/// A call site with everything that a case refers to.
pub(super) struct Made {
    pub(super) site: Site,
    judged: Judged,
    lives: Option<Arc<Lives>>,
    owner: Option<u32>,
    /// Where it creates objects: those whose release was requested, if that can be.
    objects: Option<Requested>,
    owning: Option<Vec<FindingOwner>>,
}

fn frame(text: &str) -> Frame {
    let (symbol, module) = text.split_once('@').unwrap_or((text, EXE));
    Frame {
        address: Address(1),
        symbol: Some(symbol.into()),
        offset: None,
        module: Some(module.into()),
        module_offset: Some(1),
        file: (module == EXE).then(|| "src/server.c".into()),
        line: (module == EXE).then_some(42),
        inlined: false,
        tail_call: false,
        why_unnamed: None,
    }
}

/// A call site of this class, whose stack has these functions, `name@module` where they are not the program's.
pub(super) fn made(id: u32, class: VerdictClass, stack: &[&str]) -> Made {
    let template = fixtures::sample().sites.remove(1);
    let evidence = Evidence {
        retained: Some(Retained::example()),
        outstanding: Sum { count: 50, bytes: 2_400 },
        now_s: 200.0,
        ..Evidence::default()
    };
    let found = matches!(class, VerdictClass::Leak | VerdictClass::Suspect | VerdictClass::Growing);
    let verdict =
        Verdict { class, confidence: 0.9, reasons: vec!["it stays".to_owned()], since: Some(10.0) };
    Made {
        site: Site {
            id,
            kind: ResourceKind::Heap.into(),
            outstanding_count: 50,
            outstanding_bytes: 2_400,
            acquired_count: 2_500,
            acquired_bytes: 120_000,
            released_count: 2_450,
            released_bytes: 117_600,
            verdict: verdict.clone(),
            headline: 0,
            frames: stack.iter().map(|text| frame(text)).collect(),
            orphans: None,
            ..template
        },
        judged: Judged {
            trend: None,
            verdict,
            evidence: found.then(|| Box::new(evidence)),
            mature_s: 4.0,
        },
        lives: None,
        owner: None,
        objects: None,
        owning: None,
    }
}

fn find(all: &[Made]) -> Vec<Finding> {
    let cases: Vec<Case<'_>> = all
        .iter()
        .map(|one| Case {
            site: &one.site,
            judged: &one.judged,
            lives: one.lives.as_deref(),
            owner: one.owner,
            objects: one.objects.as_ref().map(|Requested(count)| ObjectCase {
                library: "libx",
                release_requested: Some(*count),
            }),
            owning: one.owning.as_ref().map(|all| (all.as_slice(), all.len() as u64)),
        })
        .collect();
    let executables = HashMap::from([(4121, EXE)]);
    let clients = |site| match site {
        1 => vec![
            FindingClient { address: "10.0.0.1".to_owned(), count: 30, bytes: 1_440 },
            FindingClient { address: "10.0.0.2".to_owned(), count: 20, bytes: 960 },
        ],
        _ => Vec::new(),
    };
    super::find(
        &cases,
        &Targets { executables: &executables, clients: &clients, cohorts_from_s: -60.0 },
    )
}

fn function(finding: &Finding) -> &str {
    finding.asked().and_then(|frame| frame.symbol.as_deref()).unwrap_or_default()
}

#[test]
fn a_leak_names_the_programs_function_and_what_it_leaks() {
    let found = find(&[made(
        1,
        VerdictClass::Leak,
        &["SSL_new@/usr/lib/x86_64-linux-gnu/libssl.so.3", "on_open(Client*)", "main"],
    )]);
    let [leak] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(function(leak), "on_open(Client*)");
    assert_eq!(leak.title, "on_open leaks blocks of 48 B, 1 in 50");
    assert_eq!(leak.since, Some(10.0));
    assert_eq!(leak.outstanding, Amount { count: 50, bytes: 2_400 });
    assert_eq!(leak.clients.len(), 2);
    let rate = leak.rate.unwrap();
    assert!((rate.count_per_s - 0.5).abs() < 1e-9 && rate.low < 0.5 && rate.high > 0.5);
    // It is the library's own block: whose mistake that is cannot be known.
    assert_eq!(leak.fault, None);
    let look_at = leak.look_at.as_deref();
    assert_eq!(look_at, Some("where what on_open acquires should be released: server.c:42"));
    assert_eq!(leak.id.len(), 8);
    let again = find(&[made(
        7,
        VerdictClass::Leak,
        &["SSL_new@/lib/libssl.so.3", "on_open(Client*)", "main"],
    )]);
    assert_eq!(again[0].id, leak.id);
}

#[test]
fn paths_to_one_function_are_one_cause() {
    let found = find(&[
        made(1, VerdictClass::Suspect, &["copy", "on_get", "main"]),
        made(2, VerdictClass::Leak, &["copy", "on_put", "main"]),
        made(3, VerdictClass::Growing, &["copy", "on_head", "main"]),
        made(4, VerdictClass::Steady, &["other", "main"]),
    ]);
    let [leak] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((leak.class, leak.sites.len(), function(leak)), (VerdictClass::Leak, 3, "copy"));
}

#[test]
fn where_a_function_is_used_without_a_leak_its_callers_tell_causes_apart() {
    let found = find(&[
        made(1, VerdictClass::Suspect, &["copy", "on_get", "main"]),
        made(2, VerdictClass::Suspect, &["copy", "on_put", "main"]),
        made(3, VerdictClass::Steady, &["copy", "on_head", "main"]),
    ]);
    assert_eq!(found.len(), 2);
    let titles: Vec<&str> = found.iter().map(|one| one.title.as_str()).collect();
    assert!(
        titles.contains(&"copy seems to leak blocks of 48 B, 1 in 50 when called by on_get"),
        "{titles:?}"
    );
}

#[test]
fn an_object_and_its_parts_are_one_cause_headed_by_the_object() {
    let mut object = made(1, VerdictClass::Leak, &["accept_client", "loop", "main"]);
    object.site.kind = Resource::Object("bufferevent".into());
    object.objects = Some(Requested(0));
    let mut part = made(
        2,
        VerdictClass::Leak,
        &[
            "evbuffer_new@/usr/lib/libevent.so.7",
            "bufferevent_new@/usr/lib/libevent.so.7",
            "accept_client",
            "loop",
            "main",
        ],
    );
    part.site.kind = Resource::Object("evbuffer".into());
    part.site.outstanding_bytes = 1 << 20;
    part.owner = Some(1);
    let found = find(&[part, object]);
    let [leak] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(leak.title, "accept_client leaks bufferevents with their evbuffers, 1 in 50");
    assert_eq!(leak.kind.name(), "bufferevent");
    let parts: Vec<_> = leak.parts.iter().map(|part| (part.kind.name(), part.count)).collect();
    assert_eq!(parts, [("bufferevent", 50), ("evbuffer", 50)]);
    assert_eq!(leak.fault, Some(Word::from(Fault::Program)));
    assert!(
        leak.reasons.iter().any(|one| one == "the program never asks libx to release any of them")
    );
}

#[test]
fn what_a_library_keeps_after_a_request_is_the_librarys_or_a_references() {
    let mut object = made(1, VerdictClass::Suspect, &["connect_peer", "main"]);
    object.site.kind = Resource::Object("zmq_socket".into());
    object.objects = Some(Requested(50));
    let found = find(&[object]);
    assert_eq!(found[0].fault, Some(Word::from(Fault::Library)));
    let look_at = found[0].look_at.as_deref();
    assert_eq!(
        look_at,
        Some("who else holds a reference to what connect_peer creates: server.c:42")
    );
}

#[test]
fn an_innocent_object_does_not_cover_a_leak_inside_it() {
    let mut object = made(1, VerdictClass::Growing, &["accept_client", "main"]);
    object.objects = Some(Requested(0));
    let mut part = made(2, VerdictClass::Leak, &["grow", "accept_client", "main"]);
    part.owner = Some(1);
    let found = find(&[object, part]);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].class, found[1].class), (VerdictClass::Leak, VerdictClass::Growing));
}

/// Lives of resources acquired at these seconds.
fn lives(at_s: impl Iterator<Item = u32>) -> Arc<Lives> {
    let at_ms: Vec<u32> = at_s.map(|second| second * 1_000).collect();
    crate::evidence::lives(&at_ms, 1)
}

#[test]
fn what_is_acquired_together_is_one_cause() {
    let irregular = || (0..120_u32).filter(|second| (second * 7919) % 13 < 4);
    let mut record = made(1, VerdictClass::Suspect, &["make_record", "on_message", "loop", "main"]);
    record.lives = Some(lives(irregular()));
    let mut text = made(2, VerdictClass::Suspect, &["copy_text", "on_message", "loop", "main"]);
    text.lives = Some(lives(irregular()));
    text.site.outstanding_bytes = 100;
    let mut stranger = made(3, VerdictClass::Suspect, &["note", "on_message", "loop", "main"]);
    stranger.lives = Some(lives((0..120).filter(|second| (second * 104_729) % 17 < 5)));
    let found = find(&[record, text, stranger]);
    let sites: Vec<&[u32]> = found.iter().map(|one| one.sites.as_slice()).collect();
    assert_eq!(found.len(), 2, "{sites:?}");
    assert!(sites.contains(&[1, 2].as_slice()) && sites.contains(&[3].as_slice()), "{sites:?}");
}

#[test]
fn what_connections_leave_behind_is_said_for_each() {
    let mut site = made(1, VerdictClass::Leak, &["keep_name", "on_open", "main"]);
    site.site.orphans =
        Some(Orphans { count: 50, bytes: 2_400, connections: 50, share: Some(0.5) });
    let found = find(&[site]);
    let per = found[0].per.as_ref().unwrap();
    assert!((per.bytes - 48.0).abs() < 1e-9 && (per.share - 0.5).abs() < 1e-9);
    assert_eq!(found[0].title, "keep_name leaks blocks of 48 B at 50.0 % of closed connections");
}

#[test]
fn a_function_that_asks_for_most_call_sites_is_a_wrapper() {
    let names: Vec<String> = (0..12).map(|at| format!("caller_{at}")).collect();
    let mut all: Vec<Made> = (0..)
        .zip(&names)
        .map(|(id, name)| made(id, VerdictClass::Steady, &["my_alloc", name, "main"]))
        .collect();
    all.push(made(50, VerdictClass::Leak, &["my_alloc", "forget", "main"]));
    assert_eq!(function(&find(&all)[0]), "forget");
}

#[test]
fn descriptors_and_threads_weigh_more_than_a_few_bytes() {
    for kind in [ResourceKind::Fd, ResourceKind::Thread] {
        let mut heavy = made(1, VerdictClass::Suspect, &["open_log", "main"]);
        heavy.site.kind = kind.into();
        heavy.site.outstanding_bytes = 0;
        let found = find(&[made(2, VerdictClass::Suspect, &["note", "main"]), heavy]);
        assert_eq!(function(&found[0]), "open_log", "{kind:?}");
    }
}

#[test]
fn the_answer_says_what_leaks_or_how_small_a_leak_would_have_been_seen() {
    let leaking = [made(1, VerdictClass::Leak, &["copy", "main"])];
    let found = find(&leaking);
    let of = |findings: &[Finding], traced_s, judging| answer(findings, &[], traced_s, judging);
    let judged = of(&found, 200.0, Judging::Judged);
    assert_eq!(judged.sentence, "1 leak: copy leaks blocks of 48 B, 1 in 50 (+24 B/s)");
    assert_eq!(judged.class, Some(VerdictClass::Leak));
    let nothing = of(&[], 132.0, Judging::Judged);
    assert_eq!(
        nothing.sentence,
        "No leak in 2m12s: 0 call sites, none of them growing; a leak of more than 0.07/s at one of them would have been seen"
    );
    assert!(nothing.smallest_leak_per_s.is_some_and(|rate| (rate - 9.2 / 130.0).abs() < 1e-9));
    let early = of(&[], 10.0, Judging::Judged);
    assert!(early.sentence.starts_with("Too early to tell"), "{}", early.sentence);
    assert!(of(&[], 100.0, Judging::Light).sentence.starts_with("Not judged: --light"));
    assert_eq!(of(&[], 100.0, Judging::Estimated).smallest_leak_per_s, None);
}

#[test]
fn inner_functions_of_a_copied_library_are_skipped() {
    let mut one =
        made(1, VerdictClass::Suspect, &["make_context", "us_create", "open_tenant", "main"]);
    let mut frames = one.site.frames.to_vec();
    for (frame, file) in frames.iter_mut().zip(["lib.c", "lib.c", "server.c", "server.c"]) {
        frame.file = Some(file.into());
    }
    one.site.frames = frames.into();
    let findings = find(&[one]);
    assert_eq!(findings[0].headline, 2);
}

/// Blocks of a library's thread, which belong to the objects of call site 2.
fn acquired_by_library(number: u32, class: VerdictClass) -> Made {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libx.so.5";
    let (inner, outer) = (format!("x_read@{LIBRARY}"), format!("x_loop@{LIBRARY}"));
    let thread = "start_thread@/usr/lib/x86_64-linux-gnu/libc.so.6";
    let mut made = made(number, class, &[&inner, &outer, thread]);
    made.site.owner = Some(2);
    made
}

/// The objects of call site 2.
fn owning(class: VerdictClass, messages: Option<Messages>) -> Made {
    let mut made = made(2, class, &["open_feed", "main"]);
    made.site.kind = Resource::Object("x_socket".into());
    (made.site.outstanding_count, made.site.outstanding_bytes) = (1, 1_824);
    made.objects = Some(Requested(0));
    made.owning = Some(vec![FindingOwner {
        kind: "x_socket".to_owned(),
        object_type: Some("PULL".to_owned()),
        name: Some("tcp://127.0.0.1:5555".to_owned()),
        pid: 4121,
        address: Address(0x1000),
        internals: Amount { count: 3_030, bytes: 54_698_618 },
        messages,
    }]);
    made
}

#[test]
fn what_a_library_acquires_for_an_object_is_a_finding_of_the_function_that_created_the_object() {
    let messages = Messages { waiting: 3_000, received: 0, unsent: 0 };
    let all = [
        acquired_by_library(1, VerdictClass::Suspect),
        owning(VerdictClass::Steady, Some(messages)),
        acquired_by_library(3, VerdictClass::Growing),
    ];
    let found = find(&all);
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(function(finding), "open_feed");
    assert_eq!(
        finding.title,
        "open_feed: 3,000 messages in the PULL x_socket at tcp://127.0.0.1:5555 were never received"
    );
    assert_eq!((finding.class, finding.kind.name()), (VerdictClass::Suspect, "x_socket"));
    assert_eq!((finding.sites[0], finding.sites.len(), finding.owners.len()), (2, 3, 1));
    let wait = "the PULL x_socket at tcp://127.0.0.1:5555: 3,000 messages wait to be received \
        (none was ever received); it owns 3,030 blocks (52.2 MiB)";
    assert!(finding.reasons.iter().any(|reason| reason == wait), "{:?}", finding.reasons);
}

#[test]
fn an_object_that_leaks_heads_what_its_library_has_acquired_for_it() {
    let found =
        find(&[acquired_by_library(1, VerdictClass::Leak), owning(VerdictClass::Suspect, None)]);
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((function(finding), finding.class), ("open_feed", VerdictClass::Leak));
    assert_eq!(finding.title, "open_feed leaks x_sockets with their blocks, 1 in 50");
}

#[test]
fn what_nobody_owns_stays_the_librarys() {
    let mut alone = acquired_by_library(1, VerdictClass::Suspect);
    alone.site.owner = None;
    let found = find(&[alone, owning(VerdictClass::Steady, None)]);
    assert_eq!((found.len(), function(&found[0])), (1, "x_read"));
    assert!(found[0].owners.is_empty());
}
