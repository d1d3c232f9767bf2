//! Assembles figures, names and facts into a [`Report`].
//!
//! Takes snapshots in order, returns a report for each. Owns the names and the history of call sites. A report never
//! waits for names: a frame without one is shown as `module+0xoffset`, and later reports look it up within a time
//! budget. Only the last report waits. Reads no target memory, no `/proc` and no clock: the snapshot carries what it
//! needs.

mod accounting;
mod blocks;
mod connections;
mod fds;
pub mod journal;
mod light;
mod members;
mod naming;
mod objects;
mod parts;
mod probed;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tracer_common::{attach::ProbeNumber, kind::ResourceKind, stack::StackEnd};

use crate::{
    analyze::{
        estimate::{self, Estimated, estimate},
        quiet::Quiet,
    },
    ledger::Sum,
    options::TraceOptions,
    packs::Pack,
    probes::{Probe, allocator::Allocator},
    report::{
        Age, Amount, ConnectionsLog, Errors, Exit, Host, Report, Resource, SCHEMA, Site, Target,
        Total, Verdict, VerdictClass, Window,
    },
    snapshot::{SiteFigures, Snapshot},
    symbolize::Namer,
    target::{Pid, usage::OwnUsage},
    verdict::Judge,
};

pub use blocks::Blocks;
pub use members::Member;
pub use objects::unmatched_packs;

/// Facts about the tracing session, fixed or updated by [`Assembly::probed`].
pub struct SessionInfo {
    /// The host.
    pub host: Host,
    /// The traced processes.
    pub targets: Vec<Member>,
    /// Every probe, by number and address; those without a number at the end.
    pub probes: Vec<Probe>,
    /// Probes that the kernel refused, by number, with the reason.
    pub refused: BTreeMap<ProbeNumber, String>,
    /// Sentences about resources that are not traced because some of their releases cannot be seen.
    pub untraced: Vec<String>,
    /// The allocators of each target.
    pub allocators: BTreeMap<Pid, Vec<Allocator>>,
    /// When tracing began, RFC 3339.
    pub started_at: String,
    /// The same on the clock of the snapshots, nanoseconds.
    pub started_ns: u64,
    /// Milliseconds until all probes were attached.
    pub attach_ms: u64,
    /// Kernel memory of the BPF maps, bytes: all but unwind tables, then unwind tables.
    pub kernel_bytes: [Option<u64>; 2],
    /// Returns leaktrace's own usage: called late, so that it includes the work on the report itself.
    pub own_usage: fn() -> OwnUsage,
    /// Returns the state of the connection log, if there is one; its final state when called with `true`.
    pub log: Option<Box<dyn Fn(bool) -> ConnectionsLog + Send>>,
    /// What is traced, and how.
    pub options: TraceOptions,
    /// Blocks that libraries allocate internally.
    pub blocks: Blocks,
    /// Libraries whose objects are traced.
    pub packs: Vec<Pack>,
    /// Problems found at the start in the user's input, a line each.
    pub faults: Vec<String>,
}

/// Creates reports. Stays on the thread that created it, as [`Namer`] does.
pub struct Assembly {
    session: SessionInfo,
    judge: Judge,
    namer: Namer,
    stacks: HashMap<u32, naming::Stack>,
    exits: BTreeMap<Pid, Exit>,
    rss: BTreeMap<Pid, u64>,
    first_rss: Option<u64>,
    /// Time of the last report, and events by then.
    events_before: Option<(u64, u64)>,
    descriptors: fds::Descriptors,
    /// The history of the kernel's figures.
    levels: light::Levels,
    /// The history of connections.
    connection_history: connections::History,
    /// The history of objects.
    object_history: objects::History,
    /// Time of the last report, and processor time used by then, seconds.
    cpu_before: Option<(u64, f64)>,
}

impl Assembly {
    /// An assembly that has reported nothing yet.
    pub fn new(session: SessionInfo) -> Self {
        Self {
            session,
            judge: Judge::default(),
            namer: Namer::new(),
            stacks: HashMap::new(),
            exits: BTreeMap::new(),
            rss: BTreeMap::new(),
            first_rss: None,
            events_before: None,
            descriptors: fds::Descriptors::default(),
            levels: light::Levels::default(),
            connection_history: connections::History::default(),
            object_history: objects::History::default(),
            cpu_before: None,
        }
    }

    /// Records how a target that leaktrace started has ended.
    pub fn exited(&mut self, pid: Pid, exit: Exit) {
        self.exits.insert(pid, exit);
    }

    /// Updates the probes and the allocators found.
    pub fn probed(
        &mut self,
        probes: Vec<Probe>,
        refused: BTreeMap<ProbeNumber, String>,
        untraced: Vec<String>,
        allocators: BTreeMap<Pid, Vec<Allocator>>,
    ) {
        self.session.probes = probes;
        self.session.refused = refused;
        self.session.untraced = untraced;
        self.session.allocators = allocators;
    }

    /// Assembles the report of one snapshot.
    pub fn report(&mut self, seen: &Snapshot) -> Report {
        let estimated = estimate(seen);
        // Accounting covers the events seen; all else uses the estimates.
        let snapshot = estimated.as_ref().map_or(seen, |estimated| &estimated.snapshot);
        let errors = estimated.as_ref();
        for event in &snapshot.process_events {
            if event.parent.is_some() {
                // Its pid may have been another process's.
                self.exits.remove(&event.pid);
            }
            members::update(&mut self.session.targets, event);
        }
        self.learn_mappings(snapshot);
        for pid in &snapshot.ended {
            self.exits.entry(*pid).or_insert(Exit { status: None, signal: None });
        }
        self.judge.push(snapshot, self.session.started_ns);
        let mut order: Vec<&SiteFigures> =
            snapshot.sites.iter().filter(|site| self.is_wanted(site)).collect();
        let parts = parts::of(&snapshot.sites, |site| self.object_type(site).is_some());
        order.sort_unstable_by_key(|site| {
            // An object ranks with its parts.
            let parts = parts.get(&site.number).copied().unwrap_or_default();
            let bytes = site.aged.bytes + parts.blocks + parts.objects;
            let size = (bytes, site.aged.count, site.acquired.bytes);
            (self.rank(site.number), std::cmp::Reverse(size), site.number)
        });
        self.name(&order, snapshot.last);
        let shown = order
            .iter()
            .take(self.session.options.top.unwrap_or(usize::MAX))
            .map(|site| site.number);
        let modules = self.namer.modules(shown);
        let sites = order.iter().map(|site| self.site(site, snapshot, errors)).collect();
        let (light, fds) = self.light(snapshot);
        let fds = fds.or_else(|| self.descriptors(snapshot));
        let accounting = self.accounting(seen);
        // Before the warnings, which compare resident memory with the first report's.
        let targets = self.targets(snapshot);
        let mut warnings = self.warnings(snapshot);
        warnings.extend(accounting.connections_log.as_ref().and_then(ConnectionsLog::warning));
        Report {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.session.host.clone(),
            targets,
            window: Window {
                started_at: self.session.started_at.clone(),
                duration_s: snapshot.at_ns.saturating_sub(self.session.started_ns) as f64 / 1e9,
                attach_ms: self.session.attach_ms,
            },
            allocators: probed::allocators(&self.session),
            warnings,
            accounting,
            probes: probed::probes(&self.session, snapshot),
            totals: self.totals(snapshot, errors),
            sites,
            modules,
            light,
            fds,
            objects: self.objects(snapshot, &parts),
            connections: self.connections(snapshot),
        }
    }

    fn kind(&self, site: &SiteFigures) -> Resource {
        if let Some(kind) = fds::kind(site) {
            return kind.into();
        }
        if let Some(kind) = self.object_type(site) {
            return Resource::Object(Arc::clone(&kind.name));
        }
        // The unknown call site: almost all acquisitions are heap.
        let unknown =
            if self.session.options.light { ResourceKind::Pages } else { ResourceKind::Heap };
        self.probe(site.probe).map_or(unknown, |probe| probe.function.kind).into()
    }

    fn probe(&self, number: Option<ProbeNumber>) -> Option<&Probe> {
        self.session.probes.iter().find(|probe| Some(probe.number) == number && probe.place.is_ok())
    }

    fn is_wanted(&self, site: &SiteFigures) -> bool {
        let asked = match self.kind(site) {
            Resource::Plain(kind) => self.session.options.kinds.contains(&kind),
            Resource::Object(_) => self.session.options.traces_objects(),
        };
        asked && fds::has_stack(site) && !self.is_library_internal(site)
    }

    fn site(
        &mut self,
        site: &SiteFigures,
        snapshot: &Snapshot,
        errors: Option<&Estimated>,
    ) -> Site {
        let (frames, asked) = self.frames(site);
        let kind = self.kind(site);
        let unknown = if self.session.options.light { "page fault" } else { "?" };
        let opener = fds::opener(site);
        let acquired_by = match opener {
            Some(opener) => opener.name().unwrap_or(unknown),
            None => self.probe(site.probe).map_or(unknown, |probe| &probe.function.name),
        };
        let judged = self.judge.of(site.number);
        let growth = judged.and_then(|judged| judged.trend);
        let seconds = |ms: u32| f64::from(ms) / 1000.0;
        let end = site.end;
        let truncated = end != StackEnd::Bottom;
        Site {
            id: site.number,
            pid: site.pid.map_or(0, |pid| pid.0),
            kind,
            acquired_by: acquired_by.to_owned(),
            fd_type: opener.map(|_| site.sort.into()),
            outstanding_count: site.aged.count,
            outstanding_bytes: site.aged.bytes,
            acquired_count: site.acquired.count,
            acquired_bytes: site.acquired.bytes,
            inherited: Amount { count: site.inherited.count, bytes: site.inherited.bytes },
            released_count: site.released.count,
            released_bytes: site.released.bytes,
            error: errors.map(|of| report_errors(of.errors(site.number))),
            age_s: site.ages.map(|ages| Age {
                min: seconds(ages.min_ms),
                median: seconds(ages.median_ms),
                max: seconds(ages.max_ms),
            }),
            growth_bytes_per_s: growth.map(|growth| growth.bytes.per_s),
            growth_count_per_s: growth.map(|growth| growth.count.per_s),
            orphans: connections::orphans(snapshot, &site.orphans),
            lost: None,
            verdict: self.verdict(site.number),
            truncated,
            truncated_why: truncated.then(|| end.sentence().to_owned()),
            headline: asked,
            frames,
            trend_bytes: self.judge.recent_bytes(site.number),
        }
    }

    /// The place of a call site's class in the order of the report.
    fn rank(&self, site: u32) -> u8 {
        let judged = self.judge.of(site).filter(|_| !self.session.options.light);
        judged.map_or(VerdictClass::Unknown, |judged| judged.verdict.class).rank()
    }

    /// The verdict on a call site. In light mode pages are attributed, not what was allocated: nothing is judged.
    fn verdict(&self, site: u32) -> Verdict {
        let judged = self.judge.of(site).filter(|_| !self.session.options.light);
        judged.map_or_else(Verdict::unknown, |judged| judged.verdict.clone())
    }

    fn targets(&mut self, snapshot: &Snapshot) -> Vec<Target> {
        let mut targets = Vec::with_capacity(self.session.targets.len());
        for Member { identity, parent, since_ns } in &self.session.targets {
            let exited = self.exits.get(&identity.pid).copied();
            if exited.is_none()
                && let Some(bytes) = snapshot.resident.get(&identity.pid)
            {
                self.rss.insert(identity.pid, *bytes);
            }
            targets.push(Target {
                pid: identity.pid.0,
                parent: parent.map(|parent| parent.0),
                since_s: since_ns.map(|at| at.saturating_sub(self.session.started_ns) as f64 / 1e9),
                exe: identity.exe.clone(),
                cmdline: identity.cmdline.clone(),
                rss_bytes: self.rss.get(&identity.pid).copied(),
                fd_limit: identity.fd_limit,
                exited,
            });
        }
        targets
    }

    /// What to know before trusting the figures.
    fn warnings(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let mut warnings = self.session.untraced.clone();
        warnings.extend(self.session.faults.iter().cloned());
        warnings.extend(accounting::out_of_table_space(&snapshot.without_table));
        if self.session.options.light {
            warnings.extend(light::warnings(snapshot));
            return warnings;
        }
        if self.session.options.traces_objects() {
            warnings.extend(unmatched_packs(&self.session.packs, &self.session.probes));
        }
        let resident_bytes = self.rss.values().sum();
        let first_bytes = *self.first_rss.get_or_insert(resident_bytes);
        let hits = snapshot.hits.iter().map(|(hits, _)| hits).sum();
        let quiet = Quiet {
            traced: Duration::from_nanos(snapshot.at_ns.saturating_sub(self.session.started_ns)),
            hits,
            first_bytes,
            resident_bytes,
        };
        warnings.extend(quiet.warning());
        warnings
    }

    fn totals(&self, snapshot: &Snapshot, errors: Option<&Estimated>) -> BTreeMap<Resource, Total> {
        let mut totals: BTreeMap<Resource, Total> =
            self.plain_kinds().map(|kind| (kind.into(), Total::default())).collect();
        for site in snapshot.sites.iter().filter(|site| self.is_wanted(site)) {
            let total = totals.entry(self.kind(site)).or_default();
            total.outstanding_count += site.aged.count;
            total.outstanding_bytes += site.aged.bytes;
            total.acquired_count += site.acquired.count;
            total.acquired_bytes += site.acquired.bytes;
            total.inherited_count += site.inherited.count;
            total.inherited_bytes += site.inherited.bytes;
            total.released_count += site.released.count;
            total.released_bytes += site.released.bytes;
        }
        if let Some(errors) = errors {
            for (kind, total) in &mut totals {
                let of_kind = snapshot.sites.iter().filter(|site| self.kind(site) == *kind);
                let batches: Vec<_> = of_kind.filter_map(|site| site.batches.as_deref()).collect();
                total.error = Some(report_errors(errors.errors_of_sum(&batches)));
            }
        }
        totals
    }
}

/// Converts errors to the report's type.
fn report_errors(errors: estimate::Errors) -> Errors {
    let amount = |sum: Sum| Amount { count: sum.count, bytes: sum.bytes };
    Errors { outstanding: errors.outstanding.map(amount), acquired: errors.acquired.map(amount) }
}

#[cfg(test)]
mod tests;
