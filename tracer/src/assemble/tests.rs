//! Reports of snapshots made by hand: the assembly reads no process, no `/proc` and no clock.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tracer_common::{attach::Shape, kind::Kind};

use super::*;
use crate::{
    ledger::{
        events::{Block, Handle},
        fds::OpenDescriptor,
    },
    lib_objects::ledger::{FieldSums, Fields, Objects, Shown, SiteObjects},
    options::TraceOptions,
    packs::{Pack, Use},
    probes::{Function, Outcome, Place},
    reconcile::fds::{FdDetails, SocketState},
    report::{Address, FdType as ReportedType, Host, ObjectState},
    snapshot::{Ages, LimitReadings, ProcessEvent, TargetUsage},
    suppressions::Suppressions,
    target::{
        Identity,
        limits::ProcessReading,
        mappings::FileId,
        sockets::Socket,
        usage::{OwnUsage, ProcessUsage, Usage},
    },
};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 100 * SECOND;
const PID: Pid = Pid(7);
/// Probe numbers: an allocator function, and constructors of one type, of two types, and of the first type again.
const MALLOC: ProbeNumber = 0;
const THING_NEW: ProbeNumber = 1;
const THING_OPEN: ProbeNumber = 2;
const THING_COPY: ProbeNumber = 3;

const PACK: &str = r#"
name = "small"
title = "a small library"
marks = ["thing_new"]

[[kind]]
name = "thing"
sentence = "a thing"
created_by = [
  { function = "thing_new" },
  { function = "thing_open", second = { kind = "other", argument = 1, mask = 1 } },
  { function = "thing_copy" },
]
released_by = ["thing_free"]

[[kind]]
name = "other"
sentence = "another thing"
"#;

fn probe(number: ProbeNumber, name: &'static str, object: Option<Arc<Use>>) -> Probe {
    let kind = if object.is_some() { ResourceKind::Object } else { ResourceKind::Heap };
    Probe {
        number,
        function: Function {
            name: name.into(),
            kind,
            shape: Shape::Size,
            arguments: [0; 3],
            throws: false,
            object,
        },
        aliases: Vec::new(),
        object: Some((FileId { device: (8, 1), inode: 5 }, PathBuf::from("/lib/libsmall.so"))),
        place: Ok(Place { offset: 16, behind_entry: 0, emulated: true, words: 0 }),
        outcome: Outcome::ReturnProbe,
    }
}

/// A live assembly.
fn begin(session: SessionInfo) -> Assembly {
    Assembly::new(Answers::live(None), Some(session)).unwrap()
}

fn session(kinds: &[ResourceKind], light: bool) -> SessionInfo {
    let pack = Pack::parse("small.toml", PACK).unwrap();
    let used = |name: &str| {
        let rule = pack.rules.iter().find(|rule| rule.names == [name]).unwrap();
        let (function, kind) = (rule.function, Arc::clone(&rule.kind));
        Some(Arc::new(Use { function, kind, second: rule.second.clone() }))
    };
    let probes = vec![
        probe(MALLOC, "malloc", None),
        probe(THING_NEW, "thing_new", used("thing_new")),
        probe(THING_OPEN, "thing_open", used("thing_open")),
        probe(THING_COPY, "thing_copy", used("thing_copy")),
    ];
    SessionInfo {
        host: Host {
            kernel: "6.12".to_owned(),
            arch: "x86_64".to_owned(),
            fd_backend: None,
            lockdown: None,
        },
        targets: vec![Member::named(identity(PID))],
        probes: if light { Vec::new() } else { probes },
        refused: BTreeMap::new(),
        untraced: vec!["mappings are not traced".to_owned()],
        allocators: BTreeMap::new(),
        started_at: "2026-01-01T00:00:00.000Z".to_owned(),
        started_ns: START,
        attach_ms: 40,
        kernel_bytes: [Some(1 << 20), None],
        own_usage: || OwnUsage {
            cpu_s: 1.5,
            rss_bytes: Some(1 << 20),
            peak_rss_bytes: Some(2 << 20),
        },
        log: None,
        options: TraceOptions { kinds: kinds.to_vec(), light, ..TraceOptions::default() },
        suppressions: Suppressions::default(),
        blocks: Blocks::of(&[]),
        packs: vec![pack],
        faults: Vec::new(),
    }
}

fn identity(pid: Pid) -> Identity {
    Identity {
        pid,
        exe: Some("/bin/server".to_owned()),
        cmdline: vec!["server".to_owned()],
        fd_limit: Some(100),
        start_time: 1,
    }
}

/// A call site with this many outstanding resources of 10 bytes each, and as many released.
fn site(number: u32, probe: ProbeNumber, detail: u8, count: u64) -> SiteFigures {
    let sum = Sum { count, bytes: count * 10 };
    SiteFigures {
        number,
        pid: Some(PID),
        probe: Some(probe),
        detail,
        frames: Arc::from([0x1000 + u64::from(number), 0x2000]),
        end: StackEnd::Bottom,
        acquired: Sum { count: 2 * count, bytes: 20 * count },
        released: sum,
        outstanding: sum,
        aged: sum,
        ages: Some(Ages { min_ms: 500, median_ms: 1000, max_ms: 2000 }),
        ..SiteFigures::default()
    }
}

/// A snapshot so long after the start.
fn snapshot(seconds: u64, sites: Vec<SiteFigures>) -> Snapshot {
    Snapshot {
        at_ns: START + seconds * SECOND,
        sites,
        hits: vec![(9, 1), (3, 0)],
        resident: BTreeMap::from([(PID, 50 << 20)]),
        ..Snapshot::default()
    }
}

fn shown(value: u64, site: u32, fields: Fields) -> Shown {
    let time_ns = START + SECOND;
    Shown {
        handle: Handle { pid: PID, kind: Kind::Heap, value },
        block: Block { size: 10, time_ns, position: 0, site, connection: 0 },
        release_requested_ns: None,
        word: 0,
        owner: Some(64),
        fd: Some(3),
        text: String::new(),
        owned: Sum { count: 2, bytes: 30 },
        fields,
    }
}

/// A snapshot with objects of both types.
fn with_objects() -> Snapshot {
    let values = Fields {
        fd: Some(9),
        queued: Some(500),
        references: Some(2),
        pending: Some(true),
        owner: Some(0),
    };
    let first = Shown { release_requested_ns: Some(START + 3 * SECOND), ..shown(4096, 11, values) };
    let second = shown(8192, 13, Fields { owner: Some(4096), ..Fields::default() });
    let of_site = |asked, oldest_ns, summed| SiteObjects {
        known: 3,
        asked,
        owned: Sum { count: 2, bytes: 30 },
        oldest_ns,
        summed,
    };
    let sums = |read, queued, pending| Some(FieldSums { read, queued, pending });
    let sites = BTreeMap::from([
        (11, of_site(1, START + SECOND, sums(3, Some(500), Some(1)))),
        (12, of_site(0, START + 2 * SECOND, sums(2, None, Some(2)))),
        (13, of_site(0, START + 4 * SECOND, None)),
    ]);
    let open = OpenDescriptor { pid: PID, fd: 9, site: 0, time_ns: START, position: 0 };
    let socket = Socket {
        protocol: "tcp",
        local: None,
        peer: Some("10.0.0.1:80".to_owned()),
        state: Some("ESTABLISHED"),
        traffic: None,
    };
    let socket = Some(SocketState { socket, since_ns: None });
    Snapshot {
        objects: Some(Objects { sites, shown: vec![first, second], owners: Vec::new() }),
        descriptors: vec![FdDetails { open, link: None, socket }],
        ..snapshot(
            5,
            vec![
                site(11, THING_NEW, 0, 3),
                site(12, THING_COPY, 0, 5),
                site(13, THING_OPEN, 1, 3),
                site(14, MALLOC, 0, 4),
            ],
        )
    }
}

#[test]
fn field_values_of_a_snapshot_are_in_the_report() {
    let mut assembly = begin(session(&[ResourceKind::Object], false));
    let report = assembly.report(&with_objects());
    let table = &report.objects.as_ref().unwrap().table;
    let first = &table[0];
    assert_eq!((first.type_name.as_str(), first.address), ("thing", Address(4096)));
    assert_eq!((first.fd, first.peer.as_deref()), (Some(9), Some("10.0.0.1:80")));
    assert_eq!(
        (first.queued_bytes, first.references, first.pending),
        (Some(500), Some(2), Some(true))
    );
    assert_eq!((first.age_s, first.release_asked_s, first.bytes), (4.0, Some(2.0), 10));
    // A field that is 0 names no owner; the programs know one.
    assert_eq!((first.owner, first.owned_bytes), (Some(Address(64)), 30));
    assert_eq!(first.state, ObjectState::ReleaseAsked);
    let second = &table[1];
    assert_eq!((second.type_name.as_str(), second.owner), ("other", Some(Address(4096))));
    // Without a value, the programs' descriptor.
    assert_eq!((second.fd, second.peer.as_deref()), (Some(3), None));
    assert_eq!((second.queued_bytes, second.references, second.pending), (None, None, None));
    assert_eq!(second.state, ObjectState::Live);
}

#[test]
fn sums_of_call_sites_add_up_by_object_type() {
    let mut assembly = begin(session(&[ResourceKind::Object], false));
    let report = assembly.report(&with_objects());
    let [thing, other] = report.objects.as_ref().unwrap().types.as_slice() else { panic!() };
    assert_eq!((thing.name.as_str(), thing.live, thing.bytes), ("thing", 8, 80));
    assert_eq!((thing.created, thing.destroyed, thing.release_asked), (16, 8, Some(1)));
    assert_eq!((thing.summed, thing.queued_bytes, thing.pending), (Some(5), Some(500), Some(3)));
    assert_eq!((thing.oldest_s, thing.owned_bytes, thing.site), (Some(4.0), 60, Some(12)));
    assert_eq!((other.name.as_str(), other.live, other.oldest_s), ("other", 3, Some(1.0)));
    assert_eq!((other.summed, other.queued_bytes, other.pending), (None, None, None));
    // The heap was not asked for.
    assert_eq!(report.sites.iter().map(|site| site.id).collect::<Vec<_>>(), [12, 11, 13]);
}

#[test]
fn objects_of_call_sites_without_a_type_are_left_out() {
    let mut session = session(&[ResourceKind::Object], false);
    session.probes.retain(|probe| probe.number != THING_OPEN);
    let report = begin(session).report(&with_objects());
    let objects = report.objects.unwrap();
    assert_eq!(objects.types.len(), 1);
    assert_eq!(objects.table.len(), 1);
    assert_eq!(objects.types[0].summed, Some(5));
}

#[test]
fn figures_of_call_sites_have_totals_and_growth() {
    let mut assembly = begin(session(&[ResourceKind::Heap], false));
    let mut report = None;
    for second in 1..=4 {
        let left = 12 - 3 * second;
        let falling = SiteFigures {
            acquired: Sum { count: 12, bytes: 120 },
            released: Sum { count: 12 - left, bytes: 10 * (12 - left) },
            ..site(3, MALLOC, 0, left)
        };
        let sites = vec![site(1, MALLOC, 0, 10 * second), site(2, MALLOC, 0, 5), falling];
        report = Some(assembly.report(&snapshot(second, sites)));
    }
    let report = report.unwrap();
    let first = &report.sites[0];
    assert_eq!((first.id, first.pid, first.acquired_by.as_str()), (1, Some(7), "malloc"));
    assert_eq!((first.outstanding_count, first.acquired_bytes), (40, 800));
    assert_eq!(first.age_s.map(|age| (age.min, age.max)), Some((0.5, 2.0)));
    assert!((first.growth_count_per_s.unwrap() - 10.0).abs() < 1e-9);
    assert_eq!(first.trend_bytes, [100, 200, 300, 400]);
    let fallen = report.sites.iter().find(|site| site.id == 3).unwrap();
    assert_eq!((fallen.outstanding_count, fallen.growth_count_per_s), (0, None));
    let total = &report.totals[&ResourceKind::Heap.into()];
    assert_eq!((total.outstanding_count, total.outstanding_bytes), (45, 450));
    assert!((report.window.duration_s - 4.0).abs() < 1e-9);
    assert_eq!(report.warnings, ["mappings are not traced"]);
    let accounting = &report.accounting;
    assert_eq!((accounting.events, accounting.failed_acquires), (3 * 45 + 24, 1));
    assert!((accounting.events_per_s - 33.0).abs() < 1e-9);
}

/// A reading of the target's anonymous memory.
fn anonymous(bytes: u64) -> LimitReadings {
    let memory = Usage { anonymous: Some(bytes), ..Usage::default() };
    let reading = ProcessReading { memory, ..ProcessReading::default() };
    LimitReadings { processes: BTreeMap::from([(PID, reading)]), ..LimitReadings::default() }
}

#[test]
fn growth_of_blocks_that_nobody_traces_is_no_news() {
    let mut assembly = begin(session(&[ResourceKind::Fd], false));
    assembly.report(&Snapshot { limits: Some(anonymous(50 << 20)), ..snapshot(1, Vec::new()) });
    let quiet =
        Snapshot { hits: Vec::new(), limits: Some(anonymous(60 << 20)), ..snapshot(6, Vec::new()) };
    let grown = assembly.report(&quiet);
    assert!(!grown.warnings.iter().any(|text| text.contains("no probe was hit")), "{grown:?}");
}

#[test]
fn resident_memory_comes_with_the_snapshot_and_stays_after_the_end() {
    let mut assembly = begin(session(&[ResourceKind::Heap], false));
    let begin = Snapshot { limits: Some(anonymous(50 << 20)), ..snapshot(1, Vec::new()) };
    let first = assembly.report(&begin);
    assert_eq!(first.targets[0].rss_bytes, Some(50 << 20));
    let quiet = Snapshot {
        hits: Vec::new(),
        resident: BTreeMap::from([(PID, 60 << 20)]),
        limits: Some(anonymous(60 << 20)),
        ..snapshot(6, Vec::new())
    };
    let grown = assembly.report(&quiet);
    assert!(grown.warnings.iter().any(|text| text.contains("grew by 10.0 MiB")), "{grown:?}");
    let ended = Snapshot { ended: vec![PID], resident: BTreeMap::new(), ..snapshot(7, Vec::new()) };
    let target = &assembly.report(&ended).targets[0];
    assert_eq!(target.rss_bytes, Some(60 << 20));
    assert_eq!(target.exited, Some(Exit { status: None, signal: None }));
}

#[test]
fn forked_children_become_targets_and_an_exec_renames_them() {
    let mut assembly = begin(session(&[ResourceKind::Heap], false));
    let event = |parent, identity, executed| ProcessEvent {
        pid: Pid(8),
        parent,
        identity,
        at_ns: START + SECOND,
        executed,
    };
    let born = Snapshot {
        process_events: vec![event(Some(PID), None, false)],
        resident: BTreeMap::from([(PID, 1 << 20), (Pid(8), 2 << 20)]),
        ..snapshot(2, Vec::new())
    };
    let report = assembly.report(&born);
    let child = &report.targets[1];
    assert_eq!((child.pid, child.parent, child.since_s), (8, Some(7), Some(1.0)));
    assert_eq!((child.exe.as_deref(), child.rss_bytes), (Some("/bin/server"), Some(2 << 20)));
    let other = Identity { exe: Some("/bin/other".to_owned()), ..identity(Pid(8)) };
    let executed = Snapshot {
        process_events: vec![event(None, Some(other), true)],
        ..snapshot(3, Vec::new())
    };
    let report = assembly.report(&executed);
    assert_eq!(report.targets.len(), 2);
    assert_eq!(report.targets[1].exe.as_deref(), Some("/bin/other"));
}

#[test]
fn own_usage_is_asked_for_and_has_a_rate_from_the_second_report_on() {
    static SPENT_MS: AtomicU64 = AtomicU64::new(1000);
    let own_usage = || OwnUsage {
        cpu_s: SPENT_MS.fetch_add(250, Relaxed) as f64 / 1e3,
        rss_bytes: Some(5),
        peak_rss_bytes: None,
    };
    let session = SessionInfo { own_usage, ..session(&[ResourceKind::Heap], false) };
    let mut assembly = begin(session);
    let first = assembly.report(&snapshot(1, Vec::new())).accounting.collector;
    assert_eq!((first.cpu_percent, first.rss_bytes, first.peak_rss_bytes), (None, Some(5), None));
    let second = assembly.report(&snapshot(2, Vec::new())).accounting.collector;
    assert!((second.cpu_s - 1.25).abs() < 1e-9);
    assert!((second.cpu_percent.unwrap() - 25.0).abs() < 1e-9);
    assert_eq!(second.kernel_bytes, Some(1 << 20));
}

fn usage(rss: u64, fds: &[(&str, u64)]) -> BTreeMap<Pid, ProcessUsage> {
    let memory = Usage { rss: Some(rss), ..Usage::default() };
    let fds = fds.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    BTreeMap::from([(PID, ProcessUsage { memory, fds: Some(fds) })])
}

#[test]
fn light_mode_reports_the_kernels_figures_of_the_snapshot() {
    let mut assembly = begin(session(&[ResourceKind::Pages], true));
    let start = Arc::new((START, usage(1000, &[("pipe", 4)])));
    let mut report = |seconds, now, frames_are_shown| {
        let usage = TargetUsage { start: Arc::clone(&start), now, frames_are_shown };
        let page = SiteFigures { probe: None, ..site(1, MALLOC, 0, 2) };
        assembly.report(&Snapshot { usage: Some(usage), ..snapshot(seconds, vec![page]) })
    };
    let first = report(1, usage(1500, &[("pipe", 6), ("socket", 3)]), true);
    let process = &first.light.as_ref().unwrap().processes[0];
    let rss = process.rss.unwrap();
    assert_eq!((process.pid, rss.now, rss.change, rss.growth_per_s), (7, 1500, 500, None));
    let fds = first.fds.as_ref().unwrap();
    assert_eq!((fds.open, fds.limit, fds.opened), (9, Some(100), None));
    let change = |report: &Report, fd_type: ReportedType| {
        let level = report.light.as_ref().unwrap().processes[0].fds_by_type[&fd_type.into()];
        (level.now, level.change)
    };
    assert_eq!(
        (change(&first, ReportedType::Pipe), change(&first, ReportedType::Socket)),
        ((6, 2), (3, 3))
    );
    assert_eq!(first.sites[0].acquired_by, "page fault");
    assert_eq!(first.sites[0].kind, ResourceKind::Pages.into());
    assert_eq!(first.warnings, ["mappings are not traced"]);
    // All sockets are closed, and the kernel does not show page frames.
    let second = report(2, usage(2000, &[("pipe", 6)]), false);
    assert_eq!(change(&second, ReportedType::Socket), (0, 0));
    let growth = second.light.as_ref().unwrap().processes[0].rss.unwrap().growth_per_s;
    assert_eq!(growth, Some(500.0));
    assert!(second.warnings[1].contains("CAP_SYS_ADMIN"), "{:?}", second.warnings);
}

#[test]
fn a_target_that_has_ended_keeps_its_last_figures_in_light_mode() {
    let mut assembly = begin(session(&[ResourceKind::Pages], true));
    let start = Arc::new((START, usage(1000, &[("pipe", 4)])));
    let of = |now| Some(TargetUsage { start: Arc::clone(&start), now, frames_are_shown: true });
    let before =
        assembly.report(&Snapshot { usage: of(usage(1500, &[])), ..snapshot(1, Vec::new()) });
    let (ended, usage) = (vec![PID], of(BTreeMap::new()));
    let after = assembly.report(&Snapshot { ended, usage, ..snapshot(2, Vec::new()) });
    assert_eq!((after.light, after.fds), (before.light, None));
    assert_eq!(before.fds.unwrap().by_type[&ReportedType::Pipe.into()], 0);
}
