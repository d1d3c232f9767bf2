//! Made-up reports for tests of the writers and the screen; the same at every run.
//!
//! Takes nothing, hands on [`Report`]s that show each case a reader must cope with.

mod estimated;
mod light;
mod modules;
mod objects;
mod probes;
mod served;

use std::collections::BTreeMap;

use tracer_common::{kind::Kind, loss::Loss, stack::StackEnd};

use super::{
    Accounting, Age, Allocator, Amount, Collector, Exit, Frame, Host, Probe, ProbeStatus, Report,
    Resource, SCHEMA, Site, Target, Total, Unwind, Verdict, VerdictClass, Window,
};

pub use estimated::{estimate, estimated};
pub use light::light;
use modules::modules;
pub use objects::objects;
use probes::probes;
pub use served::served;

const EXE: &str = "/srv/gateway/bin/gateway";
const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";

/// A C++ server that leaks: heap and mmap sites, an inlined frame, unnamed frames, a cut stack.
pub fn sample() -> Report {
    let sites = vec![sessions(), buffers(), plugin(), unknown_stack()];
    Report {
        schema: SCHEMA.to_owned(),
        version: "0.1.0".to_owned(),
        host: Host {
            kernel: "6.12.9-amd64".to_owned(),
            arch: "x86_64".to_owned(),
            fd_backend: None,
            lockdown: Some("none".to_owned()),
        },
        targets: vec![Target {
            pid: 4121,
            parent: None,
            since_s: None,
            exe: Some(EXE.to_owned()),
            cmdline: ["gateway", "--listen", "0.0.0.0:8443", "--workers", "4"]
                .map(str::to_owned)
                .to_vec(),
            rss_bytes: Some(1_181_116_006),
            fd_limit: Some(1024),
            exited: None,
        }],
        window: Window {
            started_at: "2026-03-05T09:00:00Z".to_owned(),
            duration_s: 761.0,
            attach_ms: 84,
        },
        accounting: Accounting {
            events: 36_383_812,
            events_per_s: 47_800.5,
            lost: BTreeMap::new(),
            unknown_frees: 1_204,
            failed_acquires: 2,
            truncated_stacks: 18_410,
            truncated_by: [("frame_pointer_lost", 18_000), ("loading", 410)]
                .map(|(why, count)| (why.to_owned(), count))
                .into(),
            unwind: Unwind { objects: 23, loading: 1, without: 2, bytes: 5 << 20 },
            estimated: false,
            budget: None,
            connections_log: None,
            collector: Collector {
                cpu_s: 9.5,
                cpu_percent: Some(3.1),
                rss_bytes: Some(48_234_496),
                peak_rss_bytes: Some(50_331_648),
                kernel_bytes: Some(63_963_136),
                kernel_unwind_bytes: Some(9_437_184),
            },
        },
        allocators: vec![Allocator {
            pid: 4121,
            sentence: "glibc 2.36 from libc.so.6".to_owned(),
            name: "glibc".to_owned(),
            version: Some("2.36".to_owned()),
            object: LIBC.to_owned(),
            in_use: true,
        }],
        warnings: Vec::new(),
        probes: probes(),
        totals: totals(&sites),
        sites,
        modules: modules(),
        light: None,
        objects: None,
        fds: None,
        connections: None,
    }
}

/// The same with losses, and a second target that has ended.
pub fn lossy() -> Report {
    let mut report = sample();
    report.accounting.lost = BTreeMap::from([
        (Loss::ReleaseDropped.name().to_owned(), 1_812),
        (Loss::SitesFull.name().to_owned(), 40),
    ]);
    report.warnings.push(
        "no probe was hit in 12m 41s, though resident memory grew by 4.0 MiB: the target may have an \
         allocator of its own (--alloc, --free, --allocator-prefix), or touch memory that it had before"
            .to_owned(),
    );
    report.allocators.push(Allocator {
        pid: 4188,
        sentence: "an allocator of its own from plugin\u{1b}[31m.so, loaded later".to_owned(),
        name: "plugin\u{1b}[31m.so".to_owned(),
        version: None,
        object: "/opt/plugin\u{1b}[31m.so".to_owned(),
        in_use: true,
    });
    report.targets.push(Target {
        pid: 4188,
        parent: None,
        since_s: None,
        exe: None,
        cmdline: vec!["worker\u{1b}[31m".to_owned()],
        rss_bytes: None,
        fd_limit: None,
        exited: Some(Exit { status: None, signal: Some(9) }),
    });
    // Copies of its parent's.
    for site in &mut report.sites {
        site.inherited = Amount { count: 3, bytes: 4096 };
        let total = report.totals.entry(site.kind.clone()).or_default();
        total.inherited_count += 3;
        total.inherited_bytes += 4096;
    }
    report
}

/// A report in which nothing has happened.
pub fn empty() -> Report {
    let mut report = sample();
    report.host.lockdown = None;
    report.window.duration_s = 0.0;
    report.accounting = Accounting::default();
    report.probes.clear();
    report.totals.clear();
    report.sites.clear();
    report.modules.clear();
    report
}

fn totals(sites: &[Site]) -> BTreeMap<Resource, Total> {
    let mut totals = BTreeMap::<Resource, Total>::new();
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

fn sessions() -> Site {
    let blocks = (9_120, 9_522);
    Site {
        growth_bytes_per_s: Some(860_160.0),
        growth_count_per_s: Some(210.0),
        verdict: Verdict {
            class: VerdictClass::Suspect,
            confidence: 0.98,
            reasons: vec![
                "grows steadily for 12m40s".to_owned(),
                "released ones lived 0.8s, these 6m20s".to_owned(),
            ],
        },
        headline: 2,
        frames: [
            named(0x55d0_1a20_4c1e, "std::__new_allocator<Session>::allocate", "new_allocator.h", 151, true),
            named(0x55d0_1a20_4c1e, "std::vector<Session, std::allocator<Session> >::_M_realloc_insert<Session const&>(__gnu_cxx::__normal_iterator<Session*, std::vector<Session> >, Session const&)", "vector.tcc", 459, false),
            named(0x55d0_1a20_51a7, "make_session(uWS::HttpRequest*)", "src/gateway.cpp", 88, false),
            named(0x55d0_1a20_58f0, "on_open(uWS::WebSocket<true, true, Client>*)", "src/gateway.cpp", 102, false),
            bare(0x7f12_9c02_9d68, "/usr/lib/libuSockets.so", 0x9d68, "the object has no symbols"),
            named(0x55d0_1a20_2244, "main", "src/gateway.cpp", 311, false),
        ]
        .into(),
        ..site(1, Kind::Heap, "operator new(unsigned long)", 4096, blocks)
    }
}

fn buffers() -> Site {
    Site {
        growth_bytes_per_s: Some(0.0),
        growth_count_per_s: Some(0.0),
        error: None,
        age_s: Some(Age { min: 570.0, median: 700.0, max: 760.0 }),
        verdict: Verdict {
            class: VerdictClass::Steady,
            confidence: 0.7,
            reasons: vec!["flat since 3m10s".to_owned()],
        },
        frames: [
            named(0x55d0_1a20_9a01, "arena_grow", "src/arena.c", 41, false),
            named(0x55d0_1a20_2301, "main", "src/gateway.cpp", 290, false),
        ]
        .into(),
        trend_bytes: vec![12_582_912; 6],
        ..site(2, Kind::Mmap, "mmap", 2_097_152, (6, 8))
    }
}

fn plugin() -> Site {
    Site {
        growth_bytes_per_s: None,
        growth_count_per_s: None,
        truncated: true,
        truncated_why: Some(StackEnd::FramePointerLost.sentence().to_owned()),
        frames: [
            bare(0x7f12_9b11_0f3a, "/opt/plugins/geo.so", 0x1_0f3a, "the object has no symbols"),
            Frame {
                module: None,
                module_offset: None,
                ..bare(0x7f12_0000_1000, "", 0, "no object is mapped there")
            },
        ]
        .into(),
        ..site(3, Kind::Heap, "calloc", 128, (40, 41))
    }
}

/// What found no room for its stack.
fn unknown_stack() -> Site {
    Site {
        error: None,
        age_s: None,
        growth_bytes_per_s: Some(-64.0),
        growth_count_per_s: Some(-2.0),
        truncated: true,
        truncated_why: Some("unknown stack".to_owned()),
        frames: [].into(),
        ..site(4, Kind::Heap, "malloc", 32, (0, 18_200_000))
    }
}

fn site(id: u32, kind: Kind, acquired_by: &str, size: u64, (left, acquired): (u64, u64)) -> Site {
    Site {
        id,
        pid: 4121,
        kind: kind.into(),
        acquired_by: acquired_by.to_owned(),
        fd_type: None,
        outstanding_count: left,
        outstanding_bytes: left * size,
        acquired_count: acquired,
        acquired_bytes: acquired * size,
        inherited: Amount::default(),
        released_count: acquired - left,
        released_bytes: (acquired - left) * size,
        error: None,
        age_s: Some(Age { min: 0.4, median: 380.0, max: 760.0 }),
        growth_bytes_per_s: None,
        growth_count_per_s: None,
        orphans: None,
        lost: None,
        verdict: Verdict::unknown(),
        truncated: false,
        truncated_why: None,
        headline: 0,
        frames: [].into(),
        trend_bytes: (1..=6).map(|step| left * size * step / 6).collect(),
    }
}

fn named(address: u64, symbol: &str, file: &str, line: u32, inlined: bool) -> Frame {
    Frame {
        address: format!("{address:#x}"),
        symbol: Some(symbol.into()),
        offset: Some(address & 0xff),
        module: Some(EXE.into()),
        module_offset: Some(address & 0xf_ffff),
        file: Some(file.into()),
        line: Some(line),
        inlined,
        tail_call: false,
        why_unnamed: None,
    }
}

fn bare(address: u64, module: &str, offset: u64, why: &str) -> Frame {
    Frame {
        address: format!("{address:#x}"),
        symbol: None,
        offset: None,
        module: Some(module.into()),
        module_offset: Some(offset),
        file: None,
        line: None,
        inlined: false,
        tail_call: false,
        why_unnamed: Some(why.into()),
    }
}
