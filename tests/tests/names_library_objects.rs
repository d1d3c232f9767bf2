//! A leaked library object is the first row: its kind, count, and the program's function that created it; a program
//! that releases everything has nothing outstanding. Each kind of leak in docs/leak-kinds.md has a leaking and a
//! corrected case.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    Report, Trace, Victim,
    leaks::{self, LIBRARIES, Objects, Played},
    report::{self, Amounts},
    workspace,
};

/// Number of objects per case.
const COUNT: &str = "200";
/// Traced kinds.
const KINDS: [&str; 2] = ["--kind", "heap,fd,socket,object"];
/// Kinds that belong to no library, or that libzmq creates by itself depending on its threads.
const OTHERS: [&str; 6] = ["heap", "mmap", "fd", "socket", "zmq_pipe_chunk", "zmq_receive_buffer"];
/// Cases where other call sites weigh more than the leaked objects: the objects hold memory that was not acquired by
/// their constructor (queues of 32 KB for each connected socket, buffers of a handshake, states of digests and
/// ciphers), or are in the program's own memory and have no bytes of their own. There, the objects come first among
/// library objects.
const OUTWEIGHED: [&str; 7] = [
    "socket_lingers",
    "monitor_not_closed",
    "ssl_not_freed_after_failed_handshake",
    "md_ctx_not_freed",
    "cipher_ctx_not_freed",
    "loop_not_closed",
    "request_not_cleaned_up",
];

/// Kinds without a known function that requests their release: the number of requested releases is unknown.
const UNASKED: [&str; 12] = [
    "zmq_msg",
    "zmq_pipe_chunk",
    "event_once",
    "event_assigned",
    "SSL_CTX",
    "SSL_SESSION",
    "X509",
    "EVP_PKEY",
    "uv_loop",
    "uv_timer",
    "uv_tcp",
    "uv_fs",
];

/// Runs a case under leaktrace; the report is of the moment when its work is done.
fn played(library: &str, case: &str, way: &str) -> Result<(Played, Report)> {
    let program = leaks::program(library)?;
    let mut victim = Victim::start_program(&program, &[case, way, COUNT])?;
    let pack = leaks::pack(library).map(|pack| pack.display().to_string());
    let pack: Vec<&str> = pack.iter().flat_map(|pack| ["--pack", pack]).collect();
    let trace = Trace::attach(victim.pid(), &[&KINDS[..], &pack].concat())?;
    let played = Played::by(&mut victim)?;
    let report = trace.stop()?;
    victim.exit()?;
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    Ok((played, report))
}

/// Whether a name is the program's function; a demangled C++ name has parentheses after it.
fn is_name(name: &str, function: &str) -> bool {
    name.split('(').next() == Some(function)
}

/// Whether a call site's stack contains the program's function.
fn is_of(site: &Value, function: &str) -> bool {
    report::symbols(site).into_iter().any(|name| is_name(name, function))
}

/// Objects of each kind in the report's totals, without other resources.
fn objects(report: &Report) -> Result<BTreeMap<String, Objects>> {
    let totals = report.at("/totals")?.as_object().context("totals")?;
    let mut found = BTreeMap::new();
    for (kind, amounts) in totals {
        let amounts = Amounts::read(amounts)?;
        if !OTHERS.contains(&kind.as_str()) && amounts.acquired_count > 0 {
            let (created, destroyed) = (amounts.acquired_count, amounts.released_count);
            ensure!(amounts.outstanding_count == created - destroyed, "{kind}: {amounts:?}");
            found.insert(kind.clone(), Objects { created, destroyed });
        }
    }
    Ok(found)
}

/// The report has as many objects of each kind created and destroyed as the program.
fn counts_are_true(played: &Played, report: &Report) -> Result<()> {
    let mut found = objects(report)?;
    // Objects that OpenSSL creates for itself while it works are uncounted by the program; they are destroyed again.
    found.retain(|kind, objects| played.objects.contains_key(kind) || objects.live() > 0);
    ensure!(
        found == played.objects,
        "{found:?} reported, {:?} are true\n{}",
        played.objects,
        report.summary()
    );
    for (kind, objects) in &played.by_function {
        let of = |symbols: &[&str]| symbols.iter().any(|name| is_name(name, &played.case.function));
        let sites = report.sites(kind, of)?;
        if *kind == played.case.kind {
            ensure!(
                sites.outstanding_count == objects.live(),
                "{sites:?} of {kind} reported, {objects:?} are true\n{}",
                report.summary()
            );
        }
    }
    Ok(())
}

fn leak_is_named_first(library: &str, case: &str) -> Result<()> {
    let (played, report) = played(library, case, "leak")?;
    counts_are_true(&played, &report)?;
    let kind_of = |site: &Value| site.get("kind").and_then(Value::as_str).map(str::to_owned);
    let outweighed = OUTWEIGHED.contains(&case);
    let first = report
        .list("/sites")?
        .iter()
        .find(|site| !outweighed || !kind_of(site).is_some_and(|kind| OTHERS.contains(&&*kind)))
        .context("no call sites")?;
    ensure!(
        kind_of(first).as_deref() == Some(&*played.case.kind)
            && is_of(first, &played.case.function),
        "{:?} is not first\n{}",
        played.case,
        report.summary()
    );
    if played.objects.contains_key(&played.case.kind) {
        // Where the compiler has peeled a loop, the function has several call sites.
        let of = |symbols: &[&str]| symbols.iter().any(|name| is_name(name, &played.case.function));
        let found = report.sites(&played.case.kind, of)?.outstanding_count;
        let expected = played.leaking().live();
        ensure!(found == expected, "{found} of {expected} reported\n{}", report.summary());
    }
    let kinds = report.list("/objects/kinds")?;
    let row =
        kinds.iter().find(|row| row.get("kind").and_then(Value::as_str) == Some(&played.case.kind));
    if let Some(row) = row {
        let asked = row.get("release_asked").and_then(Value::as_u64);
        let known = !UNASKED.contains(&played.case.kind.as_str());
        ensure!(asked == known.then_some(played.release_asked), "release asked: {row:?}");
        let summed = row.get("summed").and_then(Value::as_u64);
        ensure!(summed.is_none() || summed == row.get("live").and_then(Value::as_u64), "{row:?}");
    }
    Ok(())
}

fn nothing_is_outstanding(library: &str, case: &str) -> Result<()> {
    let (played, report) = played(library, case, "corrected")?;
    counts_are_true(&played, &report)?;
    for kind in report.at("/totals")?.as_object().context("totals")?.keys() {
        let total = report.total(kind)?;
        ensure!(total.outstanding_count == 0, "{kind}: {total:?}\n{}", report.summary());
    }
    Ok(())
}

macro_rules! cases {
    ($($library:ident: $($case:ident)*;)*) => {
        /// The cases that have tests, by library.
        const TESTED: &[(&str, &str)] = &[$($((stringify!($library), stringify!($case)),)*)*];
        $(mod $library {
            $(mod $case {
                #[test]
                fn leak() -> anyhow::Result<()> {
                    super::super::leak_is_named_first(stringify!($library), stringify!($case))
                }

                #[test]
                fn corrected() -> anyhow::Result<()> {
                    super::super::nothing_is_outstanding(stringify!($library), stringify!($case))
                }
            })*
        })*
    };
}

cases! {
    libevent:
        evbuffer_not_freed evbuffer_not_drained evbuffer_reference_not_drained
        evbuffer_callback_not_removed file_segment_not_freed event_removed_but_not_freed
        event_not_removed assigned_event_not_removed event_once_never_happens callback_data_not_freed signal_event_not_freed
        event_base_not_freed event_config_not_freed listener_not_freed
        bufferevent_not_freed_on_error bufferevent_keeps_its_socket
        bufferevent_with_a_forgotten_owner rate_limit_not_freed rate_limit_group_not_freed
        evdns_request_never_answered evdns_base_not_freed dns_answer_not_freed
        evhttp_connection_not_freed evhttp_request_not_freed evhttp_request_never_answered
        evhttp_uri_not_freed evhttp_headers_not_cleared evhttp_text_not_freed evhttp_not_freed;
    libzmq:
        socket_not_closed socket_not_closed_after_error socket_lingers context_not_terminated
        message_not_closed message_not_closed_after_error received_message_not_closed
        queue_without_bound queue_of_short_messages zero_copy_data_not_released timers_not_destroyed timer_not_cancelled
        monitor_not_closed;
    openssl:
        ssl_not_freed ssl_with_a_forgotten_owner ssl_not_freed_after_failed_handshake
        ssl_not_freed_with_its_bufferevent ssl_ctx_not_freed ssl_session_not_freed bio_not_freed
        bio_chain_half_freed x509_not_freed pkey_not_freed md_ctx_not_freed cipher_ctx_not_freed;
    uws:
        timer_not_closed loop_not_freed socket_context_not_freed tls_context_not_freed
        listen_socket_not_closed socket_not_closed data_not_freed_after_failed_connect
        connection_data_not_freed operation_not_ended_when_aborted buffers_of_slow_readers
        request_never_answered tls_connection_not_closed;
    cares:
        channel_not_destroyed channel_not_destroyed_after_error copy_not_destroyed answer_not_freed;
    uv:
        loop_not_closed timer_not_closed stream_not_closed_after_error
        handle_not_freed_when_closed request_not_cleaned_up;
}

/// The programs' lists, these tests, and docs/leak-kinds.md contain the same cases.
#[test]
fn every_case_is_tested_and_documented() -> Result<()> {
    let document = std::fs::read_to_string(workspace().join("docs/leak-kinds.md"))?;
    // Case, kind, function: the last cells of a row whose program is `leaks_library`.
    let mut rows = Vec::new();
    for line in document.lines().filter(|line| line.contains("| `leaks_")) {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, _, _, program, kind, function, _] = cells.as_slice() else {
            anyhow::bail!("a row with other cells: {line}");
        };
        let (program, case) = program.split_once(' ').context("a program and its case")?;
        rows.push((
            program.to_owned(),
            case.to_owned(),
            (*kind).to_owned(),
            (*function).to_owned(),
        ));
    }
    let (mut programs, mut tested) = (Vec::new(), Vec::new());
    for library in LIBRARIES {
        for case in leaks::cases(&leaks::program(library)?)? {
            programs.push((format!("leaks_{library}"), case.name, case.kind, case.function));
        }
    }
    for (library, case) in TESTED {
        tested.push((format!("leaks_{library}"), (*case).to_owned()));
    }
    rows.sort();
    programs.sort();
    tested.sort();
    assert_eq!(rows, programs, "the table and the programs");
    let names: Vec<_> = programs.into_iter().map(|(program, case, ..)| (program, case)).collect();
    assert_eq!(tested, names, "the tests and the programs");
    Ok(())
}

#[test]
fn sessions_that_openssl_copies_inside_are_sessions() -> Result<()> {
    let mut victim = Victim::start("tls_sessions", &["200"])?;
    let trace = Trace::attach(victim.pid(), &KINDS)?;
    victim.go()?;
    let truth = victim.answer()?;
    let report = trace.stop()?;
    victim.exit()?;
    assert!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let [cached, kept] = ["cached", "kept"].map(|key| truth[key].as_u64().unwrap_or(0));
    assert!(cached >= 200 && kept == 200, "{truth}");
    let of = |function: &str| {
        let found = report.sites("SSL_SESSION", |symbols| symbols.contains(&function));
        found.map(|found| found.outstanding_count)
    };
    assert_eq!(of("accept_client")?, cached, "{}", report.summary());
    let all = report.sites("SSL_SESSION", |_| true)?.outstanding_count;
    assert_eq!(all, cached + kept, "{}", report.summary());
    Ok(())
}
