//! Fixed reports for the tests of the screen.
//!
//! Returns small reports whose every figure is fixed.

use std::{collections::BTreeMap, sync::Arc};

use tracer_common::kind::ResourceKind;

use crate::report::{
    Accounting, Address, Age, Answer, Collector, Frame, Host, Module, Names, Offset, Probe,
    ProbeStatus, Report, Resource, SCHEMA, Site, Target, Total, Verdict, VerdictClass, Window,
};

const UPGRADE: &str = "void uWS::HttpContext<false>::upgrade<std::basic_string_view<char, \
    std::char_traits<char> > >(uWS::HttpResponse<false>*, us_socket_context_t*)";

/// A frame in the sample server.
pub(crate) fn frame(symbol: &str, file: Option<(&str, u32)>, inlined: bool) -> Frame {
    Frame {
        address: Address(0x40_1a2c),
        symbol: Some(symbol.into()),
        offset: Some(12),
        module: Some("/opt/gateway/bin/uws-gateway".into()),
        module_offset: Some(0x1a2c),
        file: file.map(|(file, _)| format!("/src/gateway/{file}").into()),
        line: file.map(|(_, line)| line),
        inlined,
        tail_call: false,
        why_unnamed: None,
    }
}

fn nameless(module: &str, offset: u64) -> Frame {
    Frame {
        symbol: None,
        offset: None,
        module: Some(format!("/usr/lib/{module}").into()),
        module_offset: Some(offset),
        file: None,
        line: None,
        why_unnamed: Some("stripped, and no debug file".into()),
        ..frame("", None, false)
    }
}

/// A call site with nothing special.
pub(crate) fn site(id: u32) -> Site {
    Site {
        id,
        pid: Some(4121),
        processes: 1,
        by_process: Vec::new(),
        kind: ResourceKind::Heap.into(),
        acquired_by: "malloc".to_owned(),
        fd_type: None,
        outstanding_count: 12,
        outstanding_bytes: 12 << 10,
        acquired_count: 40,
        acquired_bytes: 40 << 10,
        inherited: crate::report::Amount::default(),
        released_count: 28,
        released_bytes: 28 << 10,
        error: None,
        age_s: Some(Age { min: 0.2, median: 30.0, max: 700.0 }),
        growth_bytes_per_s: Some(0.0),
        growth_count_per_s: Some(0.0),
        orphans: None,
        lost: None,
        owner: None,
        resident_bytes: None,
        arena: None,
        threads: None,
        verdict: Verdict::unknown(),
        truncated: false,
        truncated_why: None,
        headline: 0,
        frames: [frame("reload_config", Some(("config.cpp", 41)), false)].into(),
        callers: Vec::new(),
        trend_bytes: vec![12 << 10; 20],
    }
}

/// Six call sites, worst first, without verdicts.
pub(crate) fn report() -> Report {
    let sites = sites();
    Report {
        schema: SCHEMA.to_owned(),
        version: "0.1.0".to_owned(),
        host: Host {
            kernel: "6.18.0".to_owned(),
            arch: "x86_64".to_owned(),
            fd_backend: None,
            lockdown: None,
        },
        targets: vec![Target {
            pid: 4121,
            parent: None,
            since_s: None,
            exe: Some("/opt/gateway/bin/uws-gateway".to_owned()),
            cmdline: vec!["uws-gateway".to_owned()],
            rss_bytes: Some(1_181_116_006),
            fd_limit: Some(1024),
            exited: None,
            zombies: Vec::new(),
        }],
        window: Window {
            started_at: "2030-01-01T00:00:00Z".to_owned(),
            duration_s: 761.0,
            attach_ms: 310,
        },
        allocators: vec![crate::report::Allocator {
            pid: 4121,
            sentence: "jemalloc 5.3.0 from libjemalloc.so.2, preloaded; glibc's malloc is not used"
                .to_owned(),
            name: "jemalloc".to_owned(),
            version: Some("5.3.0".to_owned()),
            object: "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2".to_owned(),
            in_use: true,
        }],
        warnings: Vec::new(),
        accounting: Accounting {
            events: 18_200_000,
            events_per_s: 182_000.0,
            unknown_frees: 1_204,
            truncated_stacks: 31,
            collector: Collector {
                cpu_s: 23.6,
                cpu_percent: Some(3.1),
                rss_bytes: Some(48 << 20),
                peak_rss_bytes: Some(51 << 20),
                kernel_bytes: Some(61 << 20),
                kernel_unwind_bytes: Some(9 << 20),
            },
            ..Accounting::default()
        },
        probes: probes(),
        answer: Answer::default(),
        findings: Vec::new(),
        suppressed: Vec::new(),
        invalid_releases: Vec::new(),
        memory: None,
        limits: Vec::new(),
        totals: totals(&sites),
        sites,
        sites_left_out: 0,
        frames: Vec::new(),
        modules: modules(),
        light: None,
        objects: None,
        fds: None,
        connections: None,
    }
}

fn modules() -> Vec<Module> {
    vec![Module {
        path: Some("/usr/lib/libuv.so.1.0.0".to_owned()),
        build_id: Some("3f1c5d0e9b7a42c68d10e2f4a6b8c0d2e4f60718".to_owned()),
        names: Names::Exports,
        frames_without_name: 1,
        why: Some("stripped, and no debug file".to_owned()),
        help: Some("apt install libuv1-dbgsym".to_owned()),
    }]
}

fn leaking_stack() -> Arc<[Frame]> {
    [
        frame("std::make_unique<gateway::Session>(int&&)", Some(("unique_ptr.h", 1065)), true),
        frame("gateway::make_session(int)", Some(("gateway.cpp", 88)), false),
        frame("gateway::on_open(us_socket_t*, int)", Some(("gateway.cpp", 102)), false),
        frame(UPGRADE, Some(("HttpContext.h", 210)), true),
        frame("us_internal_dispatch_ready_poll", Some(("loop.c", 322)), false),
        nameless("libuv.so.1.0.0", 0x1_f22a),
        frame("main", Some(("main.cpp", 311)), false),
    ]
    .into()
}

fn sites() -> Vec<Site> {
    vec![
        Site {
            outstanding_count: 9_120,
            outstanding_bytes: 9_120 * 4096,
            acquired_count: 9_522,
            acquired_bytes: 9_522 * 4096,
            inherited: crate::report::Amount::default(),
            released_count: 402,
            released_bytes: 402 * 4096,
            error: None,
            age_s: Some(Age { min: 0.1, median: 362.0, max: 760.0 }),
            growth_bytes_per_s: Some(860_160.0),
            growth_count_per_s: Some(210.0),
            headline: 1,
            frames: leaking_stack(),
            trend_bytes: (1..=60).map(|step| step * 622_592).collect(),
            ..site(1)
        },
        Site {
            outstanding_count: 311,
            outstanding_bytes: 311 * 65_536,
            growth_bytes_per_s: Some(26_214.4),
            growth_count_per_s: Some(0.4),
            acquired_by: "calloc".to_owned(),
            frames: [
                frame("bus::publish_error(zmq_msg_t*)", Some(("bus.cpp", 141)), false),
                frame("handle_request", Some(("worker.cpp", 77)), false),
            ]
            .into(),
            trend_bytes: (0..40).map(|step| 18_000_000 + step * 60_000).collect(),
            ..site(2)
        },
        Site {
            kind: ResourceKind::Mmap.into(),
            acquired_by: "mmap".to_owned(),
            outstanding_count: 3,
            outstanding_bytes: 12 << 20,
            frames: [frame("cache::Arena::grow", Some(("arena.cpp", 19)), false)].into(),
            trend_bytes: vec![12 << 20; 60],
            ..site(3)
        },
        Site {
            growth_bytes_per_s: Some(-4_096.0),
            growth_count_per_s: Some(-1.0),
            trend_bytes: (0..20).rev().map(|step| step * 4_096).collect(),
            ..site(4)
        },
        Site {
            truncated: true,
            truncated_why: Some("no unwind table for libssl.so.3".to_owned()),
            frames: [nameless("libssl.so.3", 0x3_81c4)].into(),
            trend_bytes: vec![0; 20],
            ..site(5)
        },
        Site {
            growth_bytes_per_s: None,
            growth_count_per_s: None,
            error: None,
            age_s: None,
            outstanding_bytes: 640,
            outstanding_count: 1,
            frames: [].into(),
            trend_bytes: Vec::new(),
            ..site(6)
        },
    ]
}

fn probes() -> Vec<Probe> {
    let probe = |function: &str, emulated, status, why: Option<&str>| Probe {
        function: function.to_owned(),
        object: Some("/usr/lib/libc.so.6".to_owned()),
        offset: Some(Offset(0x9_d1c0)),
        emulated,
        hits: 1,
        status,
        why: why.map(str::to_owned),
    };
    vec![
        probe("malloc", Some(true), ProbeStatus::On, None),
        probe("calloc", Some(true), ProbeStatus::On, None),
        probe("free", Some(true), ProbeStatus::On, None),
        probe("mmap", Some(false), ProbeStatus::On, None),
        probe("je_malloc", None, ProbeStatus::Missing, None),
        probe("reallocarray", None, ProbeStatus::Refused, Some("no return probe on this kernel")),
    ]
}

fn totals(sites: &[Site]) -> BTreeMap<Resource, Total> {
    let mut totals: BTreeMap<Resource, Total> = BTreeMap::new();
    for site in sites {
        let total = totals.entry(site.kind.clone()).or_default();
        total.outstanding_count += site.outstanding_count;
        total.outstanding_bytes += site.outstanding_bytes;
        total.acquired_count += site.acquired_count;
        total.acquired_bytes += site.acquired_bytes;
        total.released_count += site.released_count;
        total.released_bytes += site.released_bytes;
    }
    totals
}

/// The same report, with verdicts.
pub(crate) fn judged() -> Report {
    let mut report = report();
    let verdicts = [
        (VerdictClass::Suspect, 0.98),
        (VerdictClass::Growing, 0.6),
        (VerdictClass::Steady, 0.9),
        (VerdictClass::Settling, 0.8),
    ];
    for (site, (class, confidence)) in report.sites.iter_mut().zip(verdicts) {
        site.verdict = Verdict { class, confidence, reasons: Vec::new(), since: None };
    }
    report.sites[0].verdict.reasons = vec![
        "grows by 210 ± 2 a second, steadily for 12 minutes".to_owned(),
        "what is released lived 0.8s, what is left is 6m02s old".to_owned(),
    ];
    report
}
