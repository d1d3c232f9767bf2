//! Shows the screen with a made-up server that leaks: for looking at it without root.
//!
//! `cargo run --example screen [SITES] [quiet|lossy|exits|stops|panics|waits]`; with
//! `time` instead of a mood it measures receiving, sorting, filtering and drawing, and leaves.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a tool for developers, never shipped"
)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leaktrace::{
    report::{
        Accounting, Age, Collector, Exit, Frame, Host, Probe, ProbeStatus, Report, SCHEMA, Site,
        Target, Total, Verdict, VerdictClass, Window,
    },
    tui::{self, Screen},
};
use tokio::sync::watch;
use tracer_common::kind::Kind;

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
        address: format!("{:#x}", 0x40_1000 + number * 16),
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

struct Server {
    stacks: Vec<Arc<[Frame]>>,
    trends: Vec<Vec<u64>>,
    tick: u64,
    mood: String,
}

impl Server {
    fn new(sites: usize, mood: &str) -> Self {
        let stacks = (0..sites).map(stack).collect();
        Self { stacks, trends: vec![Vec::new(); sites], tick: 0, mood: mood.to_owned() }
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
            id: u32::try_from(number).unwrap_or(0) + 1,
            pid: 4121,
            kind: if number % 7 == 3 { Kind::Mmap } else { Kind::Heap },
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
            verdict: Verdict {
                class,
                confidence,
                reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            },
            truncated: number % 6 == 4,
            truncated_why: (number % 6 == 4).then(|| "no unwind table for libssl.so.3".to_owned()),
            headline: 0,
            frames: Arc::clone(&self.stacks[number]),
            trend_bytes: self.trends[number].clone(),
        }
    }

    fn report(&mut self) -> Report {
        self.tick += 1;
        let mut sites: Vec<Site> = (0..self.stacks.len()).map(|number| self.site(number)).collect();
        sites.sort_by(|a, b| {
            b.growth_bytes_per_s.unwrap_or(0.0).total_cmp(&a.growth_bytes_per_s.unwrap_or(0.0))
        });
        let mut totals: BTreeMap<Kind, Total> = BTreeMap::new();
        for site in &sites {
            let total = totals.entry(site.kind).or_default();
            total.outstanding_count += site.outstanding_count;
            total.outstanding_bytes += site.outstanding_bytes;
        }
        let mut lost = BTreeMap::new();
        if self.mood == "lossy" && self.tick > 3 {
            lost.insert("acquire_dropped".to_owned(), self.tick * 411);
            lost.insert("release_busy".to_owned(), self.tick * 3);
        }
        let ended = self.mood == "exits" && self.tick > 8;
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
                exe: Some("/opt/gateway/bin/uws-gateway".into()),
                cmdline: Vec::new(),
                rss_bytes: Some((900 << 20) + self.tick * 860_160),
                fd_limit: Some(1024),
                exited: ended.then_some(Exit { status: None, signal: Some(11) }),
            }],
            window: Window {
                started_at: "2030-01-01T00:00:00Z".to_owned(),
                duration_s: self.tick as f64,
                attach_ms: 310,
            },
            allocators: Vec::new(),
            warnings: Vec::new(),
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
                },
                ..Accounting::default()
            },
            probes: probes(),
            totals,
            sites,
            modules: Vec::new(),
            light: None,
            fds: None,
            connections: None,
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

fn measure(sites: usize) {
    use ratatui::buffer::Buffer;
    use ratatui::layout::Rect;
    use tui::{draw::screen, keys::Key, state, theme::Theme, update};
    let mut server = Server::new(sites, "quiet");
    for _ in 0..60 {
        server.report();
    }
    let report = Arc::new(server.report());
    let mut view = state::ViewState::new(state::Size { columns: 120, rows: 40 });
    let mut buffer = Buffer::empty(Rect::new(0, 0, 120, 40));
    let time = |what: &str, runs: u32, work: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        (0..runs).for_each(|_| work());
        println!("{what:<34} {:>9.3} ms", start.elapsed().as_secs_f64() * 1e3 / f64::from(runs));
    };
    time("receive a report, worst first", 20, &mut || {
        view.receive(Arc::clone(&report));
    });
    time("draw 120x40", 200, &mut || screen::draw(&view, Theme::Colored, &mut buffer));
    time("next sort column", 14, &mut || {
        update::update(&mut view, Key::SortRight);
    });
    time("cursor down", 200, &mut || {
        update::update(&mut view, Key::Down);
    });
    time("mark", 5, &mut || {
        update::update(&mut view, Key::Mark);
    });
    update::update(&mut view, Key::Filter);
    for letter in "expand".chars() {
        time(&format!("filter letter {letter}"), 1, &mut || {
            update::update(&mut view, Key::Typed(letter));
        });
    }
    time("receive a report, filtered", 5, &mut || {
        view.receive(Arc::clone(&report));
    });
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let sites = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(60);
    let mood = arguments.next().unwrap_or_default();
    if mood == "time" {
        measure(sites);
        return Ok(());
    }
    let (send, reports) = watch::channel(None);
    let (halt, mut stop) = watch::channel(false);
    std::thread::spawn(move || {
        let mut server = Server::new(sites, &mood);
        let pause = Duration::from_millis(if mood == "waits" { 600_000 } else { 1000 });
        std::thread::sleep(pause);
        loop {
            let report = server.report();
            assert!(!(mood == "panics" && server.tick > 3), "made-up panic");
            let last = report.window.duration_s > 20.0 && mood == "stops";
            if send.send(Some(Arc::new(report))).is_err() || last && halt.send(true).is_err() {
                return;
            }
            std::thread::sleep(pause);
        }
    });
    let mut screen = Screen::enter()?;
    let room = |report: &Report| report.window.duration_s <= 30.0;
    let saved = || std::path::PathBuf::from("leaktrace-4121.json");
    let shown = screen.show(reports, |report| room(report).then(saved).ok_or("disk full".into()));
    let left =
        tokio::select! { left = shown => Some(left?), _ = stop.wait_for(|stop| *stop) => None };
    drop(screen);
    println!("left: {left:?}");
    Ok(())
}
