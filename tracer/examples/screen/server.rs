//! A simulated server that leaks.

#![expect(clippy::indexing_slicing, reason = "a tool for developers, never shipped")]

use std::{collections::BTreeMap, sync::Arc};

use leaktrace::report::{
    Accounting, Address, Age, Collector, Connection, Connections, Exit, Fd, Fds, Frame, Probe,
    ProbeStatus, Report, Resource, Site, Target, Total, Verdict, VerdictClass, Window,
};
use tracer_common::{kind::ResourceKind, loss::Loss};

use crate::{findings, fixtures};

const NAMES: [(&str, &str, u32); 9] = [
    ("gateway::make_session(int)", "gateway.cpp", 88),
    (
        "void uWS::HttpContext<false>::upgrade<std::basic_string_view<char, std::char_traits<char> > >(uWS::HttpResponse<false>*, us_socket_context_t*)",
        "HttpContext.h",
        210,
    ),
    (
        "std::vector<std::pair<std::string, std::shared_ptr<gateway::Subscription> >, std::allocator<std::pair<std::string, std::shared_ptr<gateway::Subscription> > > >::_M_realloc_insert(std::pair<std::string, std::shared_ptr<gateway::Subscription> >&&)",
        "vector.tcc",
        459,
    ),
    ("bus::publish_error(zmq_msg_t*)", "bus.cpp", 141),
    ("evbuffer_expand_fast_", "buffer.c", 1998),
    (
        "(anonymous namespace)::SessionCache::insert(std::string_view, std::chrono::seconds)",
        "session_cache.cpp",
        57,
    ),
    (
        "uWS::TemplatedApp<true>::ws<PerSocketData>(std::string, uWS::TemplatedApp<true>::WebSocketBehavior<PerSocketData>&&)::{lambda(uWS::WebSocket<true, true, PerSocketData>*)#1}::operator()(uWS::WebSocket<true, true, PerSocketData>*) const",
        "App.h",
        312,
    ),
    ("SSL_CTX_new_ex", "ssl_lib.c", 3811),
    ("main", "main.cpp", 311),
];

fn frame(number: usize, inlined: bool) -> Frame {
    let (symbol, file, line) = NAMES[number % NAMES.len()];
    let named = number % 23 != 7;
    Frame {
        address: Address(0x40_1000 + number as u64 * 16),
        symbol: named.then(|| symbol.into()),
        offset: Some(12),
        module: Some("/opt/gateway/bin/uws-gateway".into()),
        module_offset: Some(0x1000 + number as u64 * 16),
        file: named.then(|| format!("/src/gateway/{file}").into()),
        line: named.then_some(line + u32::try_from(number / NAMES.len()).unwrap_or(0)),
        inlined,
        tail_call: false,
        why_unnamed: (!named).then(|| "stripped, and no debug file".into()),
    }
}

fn stack(number: usize) -> Arc<[Frame]> {
    let depth = 4 + number % 9;
    (0..depth)
        .map(|level| frame(number + level * 7, level == 1 && number.is_multiple_of(3)))
        .collect()
}

/// A server that leaks, advanced by one tick per report.
pub(crate) struct Server {
    stacks: Vec<Arc<[Frame]>>,
    trends: Vec<Vec<u64>>,
    /// Reports so far.
    pub(crate) tick: u64,
    scenario: String,
}

impl Server {
    /// A server with this number of call sites.
    pub(crate) fn new(sites: usize, scenario: &str) -> Self {
        let stacks = (0..sites).map(stack).collect();
        Self { stacks, trends: vec![Vec::new(); sites], tick: 0, scenario: scenario.to_owned() }
    }

    fn site(&mut self, number: usize) -> Site {
        let (n, tick) = (number as u64, self.tick);
        let (count, rate) = match number % 5 {
            0 => (40 + tick * (210 / (n + 1) + 1), (210 / (n + 1) + 1) as f64),
            1 => (300 + (tick * 37 + n) % 90, 0.0),
            2 => (2000_u64.saturating_sub(tick * 3), -3.0),
            _ => (1 + n % 700, 0.0),
        };
        let size = 48 << (n % 9);
        let bytes = count * size;
        if let Some(trend) = self.trends.get_mut(number) {
            trend.push(bytes);
            if trend.len() > 60 {
                trend.remove(0);
            }
        }
        let (class, confidence, reasons): (_, _, &[&str]) = match number {
            0 => (
                VerdictClass::Suspect,
                0.98,
                &[
                    "grows by 211 ± 2 a second, steadily since the start",
                    "what is released lived 0.8s; what is left is minutes old",
                ],
            ),
            5 | 10 => (VerdictClass::Growing, 0.6, &["grows, too early to say more"]),
            _ if number % 5 == 2 => (VerdictClass::Settling, 0.7, &["shrinks"]),
            _ if number % 5 > 2 => (VerdictClass::Steady, 0.9, &["flat since the start"]),
            _ => (VerdictClass::Unknown, 0.0, &[]),
        };
        Site {
            processes: 1,
            by_process: Vec::new(),
            id: u32::try_from(number).unwrap_or(0) + 1,
            pid: Some(4121),
            kind: if number % 7 == 3 { ResourceKind::Mmap } else { ResourceKind::Heap }.into(),
            acquired_by: if number % 7 == 3 { "mmap" } else { "malloc" }.to_owned(),
            fd_type: None,
            outstanding_count: count,
            outstanding_bytes: bytes,
            acquired_count: count * 3,
            acquired_bytes: bytes * 3,
            inherited: leaktrace::report::Amount::default(),
            released_count: count * 2,
            released_bytes: bytes * 2,
            error: None,
            age_s: Some(Age {
                min: 0.1,
                median: tick as f64 / 2.0,
                max: tick as f64 + (n % 50) as f64,
            }),
            growth_bytes_per_s: (tick > 3).then_some(rate * size as f64),
            growth_count_per_s: (tick > 3).then_some(rate),
            orphans: None,
            lost: None,
            owner: None,
            resident_bytes: None,
            arena: None,
            threads: None,
            verdict: Verdict {
                class,
                confidence,
                reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
                since: None,
            },
            truncated: number % 6 == 4,
            truncated_why: (number % 6 == 4).then(|| "no unwind table for libssl.so.3".to_owned()),
            headline: 0,
            frames: Arc::clone(&self.stacks[number]),
            callers: Vec::new(),
            trend_bytes: self.trends[number].clone(),
        }
    }

    /// Whether it has descriptors and connections, as many of each as call sites.
    fn serves(&self) -> bool {
        matches!(self.scenario.as_str(), "serves" | "time")
    }

    fn fds(&self) -> Fds {
        let mut fds = fixtures::served().fds.unwrap_or_default();
        let number = u32::try_from(self.stacks.len()).unwrap_or(0);
        let pattern: Vec<Fd> = fds.table.iter().skip(5).cloned().collect();
        fds.table = (0..number)
            .zip(pattern.iter().cycle())
            .map(|(fd, like)| Fd {
                fd,
                site: like.site.map(|_| fd % number + 1),
                age_s: Some(self.tick as f64 + f64::from(fd % 977)),
                ..like.clone()
            })
            .collect();
        fds
    }

    fn connections(&self) -> Connections {
        let mut all = fixtures::served().connections.unwrap_or_default();
        let pattern = all.table.clone();
        all.table = (0_u64..)
            .zip(pattern.iter().cycle())
            .take(self.stacks.len())
            .map(|(id, like)| Connection {
                id,
                age_s: Some(self.tick as f64 + (id % 977) as f64),
                ..like.clone()
            })
            .collect();
        all
    }

    /// Advances one tick and returns the report.
    pub(crate) fn report(&mut self) -> Report {
        self.tick += 1;
        let mut sites: Vec<Site> = (0..self.stacks.len()).map(|number| self.site(number)).collect();
        sites.sort_by(|a, b| {
            b.growth_bytes_per_s.unwrap_or(0.0).total_cmp(&a.growth_bytes_per_s.unwrap_or(0.0))
        });
        let mut totals: BTreeMap<Resource, Total> = BTreeMap::new();
        for site in &sites {
            let total = totals.entry(site.kind.clone()).or_default();
            total.outstanding_count += site.outstanding_count;
            total.outstanding_bytes += site.outstanding_bytes;
        }
        let mut lost = BTreeMap::new();
        if self.scenario == "lossy" && self.tick > 3 {
            lost.insert(Loss::AcquireDropped.into(), self.tick * 411);
            lost.insert(Loss::ReleaseBusy.into(), self.tick * 3);
        }
        let found = match (self.scenario.as_str(), self.tick) {
            // Too early to judge.
            (_, 0..5) | ("quiet", _) => Vec::new(),
            (scenario, tick) => findings::findings(&sites, tick, scenario == "suspects"),
        };
        let ended = self.scenario == "exits" && self.tick > 8;
        Report {
            targets: vec![Target {
                pid: 4121,
                parent: None,
                since_s: None,
                exe: Some("/opt/gateway/bin/uws-gateway".into()),
                cmdline: Vec::new(),
                rss_bytes: Some((900 << 20) + self.tick * 860_160),
                fd_limit: Some(1024),
                exited: ended.then_some(Exit { status: None, signal: Some(11) }),
                zombies: Vec::new(),
            }],
            window: Window {
                started_at: "2030-01-01T00:00:00Z".to_owned(),
                duration_s: self.tick as f64,
                attach_ms: 310,
            },
            accounting: Accounting {
                events: self.tick * 182_000,
                events_per_s: 182_000.0 + (self.tick % 7) as f64 * 311.0,
                lost,
                unknown_frees: 1204,
                truncated_stacks: self.tick * 3,
                collector: Collector {
                    cpu_s: self.tick as f64 * 0.031,
                    cpu_percent: Some(3.1),
                    rss_bytes: Some(48 << 20),
                    peak_rss_bytes: Some(51 << 20),
                    kernel_bytes: Some(61 << 20),
                    kernel_unwind_bytes: Some(9 << 20),
                },
                ..Accounting::default()
            },
            probes: probes(),
            answer: findings::answer(&found, self.tick),
            findings: found,
            memory: Some(findings::memory(self.tick)),
            limits: findings::limits(self.tick),
            totals,
            sites,
            fds: self.serves().then(|| self.fds()),
            connections: self.serves().then(|| self.connections()),
            ..fixtures::empty()
        }
    }
}

fn probes() -> Vec<Probe> {
    ["malloc", "calloc", "realloc", "free", "mmap", "munmap", "je_malloc", "reallocarray"]
        .iter()
        .enumerate()
        .map(|(number, function)| Probe {
            function: (*function).to_owned(),
            object: Some("/usr/lib/libc.so.6".to_owned()),
            offset: None,
            emulated: Some(number != 5),
            hits: 1,
            status: match number {
                6 => ProbeStatus::Missing,
                7 => ProbeStatus::Refused,
                _ => ProbeStatus::On,
            },
            why: (number == 7).then(|| "no return probe on this kernel".to_owned()),
        })
        .collect()
}
