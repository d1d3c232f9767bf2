//! Findings, memory and limits of the simulated server.

use std::sync::Arc;

use leaktrace::report::{
    Amount, Answer, Fault, Finding, FindingClient, FindingCohort, FindingPart, FindingRate, Frame,
    Limit, MemoryGrowth, PartGrowth, PerConnection, ProcessMemory, Site, TimeToLimit, VerdictClass,
};
use tracer_common::kind::ResourceKind;

/// A leak, a suspect, and two that grow with the load; without the leak if `suspects` is set.
pub(crate) fn findings(sites: &[Site], tick: u64, suspects: bool) -> Vec<Finding> {
    let classes = [
        (1, VerdictClass::Leak, 0.98),
        (46, VerdictClass::Suspect, 0.71),
        (6, VerdictClass::Growing, 0.6),
        (11, VerdictClass::Growing, 0.6),
    ];
    let skipped = usize::from(suspects);
    let chosen = classes.into_iter().skip(skipped);
    let found = chosen.filter_map(|(id, class, confidence)| {
        let site = sites.iter().find(|site| site.id == id)?;
        Some(finding(site, class, confidence, tick))
    });
    found.collect()
}

fn finding(site: &Site, class: VerdictClass, confidence: f64, tick: u64) -> Finding {
    let name = site.asked().map(Frame::label).unwrap_or_default();
    let leaks = class == VerdictClass::Leak;
    let per_s = site.growth_count_per_s.unwrap_or(0.2).max(0.2);
    let size = site.outstanding_bytes as f64 / site.outstanding_count.max(1) as f64;
    let part = |kind: ResourceKind, count, bytes| FindingPart { kind: kind.into(), count, bytes };
    let mut parts = vec![part(ResourceKind::Heap, site.outstanding_count, site.outstanding_bytes)];
    if leaks {
        parts.push(part(ResourceKind::Socket, site.outstanding_count / 3, 0));
    }
    Finding {
        id: format!("{:08x}", site.id),
        class,
        confidence,
        since: Some(3.0),
        title: match class {
            VerdictClass::Leak => format!("{name} leaks a Session and a socket per connection"),
            VerdictClass::Suspect => format!("{name} keeps 1 in 53 of its blocks"),
            _ => format!("{name} grows with the number of open connections"),
        },
        reasons: vec![
            format!("none of the {} that are older than 1.6 s was ever released", tick * 211),
            "withdrawn if connections close without leaving any behind".to_owned(),
        ],
        kind: ResourceKind::Heap.into(),
        fault: leaks.then(|| Fault::Program.into()),
        look_at: leaks.then(|| {
            format!("nothing that runs when a connection closes releases what {name} keeps")
        }),
        outstanding: Amount { count: site.outstanding_count, bytes: site.outstanding_bytes },
        rate: Some(FindingRate {
            count_per_s: per_s,
            bytes_per_s: per_s * size,
            low: per_s * 0.9,
            high: per_s * 1.1,
        }),
        per: leaks.then(|| PerConnection {
            what: "closed connection".to_owned(),
            share: 0.574,
            bytes: 3.0 * size,
        }),
        parts,
        owners: Vec::new(),
        sites: vec![site.id],
        headline: site.headline,
        frames: Arc::clone(&site.frames),
        cohorts: (0..tick / 10)
            .map(|number| FindingCohort {
                from_s: number as f64 * 10.0,
                to_s: number as f64 * 10.0 + 9.9,
                acquired: 10 * site.outstanding_count / (tick / 10),
                outstanding: site.outstanding_count / (tick / 10),
            })
            .collect(),
        clients: if leaks {
            let client = |address: &str, share: u64| FindingClient {
                address: address.to_owned(),
                count: site.outstanding_count / share,
                bytes: site.outstanding_bytes / share,
            };
            vec![client("10.0.7.31", 2), client("2001:db8::17", 5)]
        } else {
            Vec::new()
        },
        processes: 1,
    }
}

/// The answer that these findings give.
pub(crate) fn answer(findings: &[Finding], tick: u64) -> Answer {
    let class = findings.first().map(|finding| finding.class);
    let sentence = match class {
        Some(VerdictClass::Leak) => {
            "1 leak and 1 suspect: gateway::make_session leaks 9.9 KiB/s since 3s after the attach"
                .to_owned()
        }
        Some(_) => "1 suspect".to_owned(),
        None if tick < 5 => "Too early to say whether anything leaks".to_owned(),
        None => format!("No leak in {tick} s: 60 call sites, all steady"),
    };
    Answer { class, sentence, smallest_leak_per_s: (tick >= 5).then_some(0.05) }
}

/// Memory that grows.
pub(crate) fn memory(tick: u64) -> ProcessMemory {
    let grown = tick * 860_160;
    ProcessMemory {
        rss_bytes: Some((900 << 20) + grown),
        anon_bytes: Some((820 << 20) + grown),
        file_bytes: Some(72 << 20),
        shared_bytes: Some(8 << 20),
        stacks_bytes: Some(768 << 10),
        heap_used_bytes: None,
        heap_kept_bytes: None,
        outstanding_bytes: (48 << 20) + grown,
        explained_growth: Some(0.93),
        growth: MemoryGrowth {
            anonymous: Some(PartGrowth {
                bytes_per_s: 881_000.0,
                unexplained_bytes_per_s: Some(61_670.0),
                over_s: 240.0,
            }),
            file: None,
            shared: None,
        },
    }
}

/// Descriptors that run out.
pub(crate) fn limits(tick: u64) -> Vec<Limit> {
    let left = 1_500.0 - tick as f64;
    vec![
        Limit {
            what: "open files (RLIMIT_NOFILE)".to_owned(),
            pid: Some(4121),
            used: 713 + tick / 3,
            limit: 1024,
            time_to_limit_s: (tick > 20).then_some(TimeToLimit {
                low: left * 0.8,
                mid: left,
                high: Some(left * 1.3),
            }),
        },
        Limit {
            what: "memory (cgroup memory.max)".to_owned(),
            pid: Some(4121),
            used: (900 << 20) + tick * 860_160,
            limit: 4 << 30,
            time_to_limit_s: None,
        },
    ]
}
