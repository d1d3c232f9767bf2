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
mod findings;
mod invalid_releases;
pub mod journal;
mod light;
mod limits;
mod members;
mod memory;
mod names;
mod naming;
mod objects;
mod owners;
mod parts;
mod probed;
mod processes;
mod rates;
mod session;
mod threads;
mod totals;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    sync::Arc,
};

use tracer_common::{attach::ProbeNumber, kind::ResourceKind, stack::StackEnd};

use crate::{
    analyze::estimate::{self, Estimated, estimate},
    ledger::Sum,
    packs::ObjectType,
    probes::{Probe, allocator::Allocator},
    report::{
        Age, Amount, ConnectionsLog, Errors, Exit, LibraryObjects, Report, Resource, SCHEMA, Site,
        Target, Verdict, VerdictClass,
    },
    snapshot::{SiteFigures, Snapshot},
    suppressions::Suppressions,
    symbolize::wrappers,
    tape::{Answers, Fault, Question},
    target::Pid,
    verdict::Judge,
};

use naming::{Naming, probe_of};
use owners::Owners;
use processes::Processes;

pub use blocks::Blocks;
pub use members::Member;
pub use objects::unmatched_packs;
pub use session::{SessionInfo, redacted_allocators};

/// Creates reports. Stays on the thread that created it, as the namer does.
pub struct Assembly {
    session: SessionInfo,
    judge: Judge,
    /// All that reports need from outside.
    answers: Answers,
    naming: Naming,
    /// Call sites that several processes have.
    processes: Processes,
    exits: BTreeMap<Pid, Exit>,
    rss: BTreeMap<Pid, u64>,
    zombies: threads::AllZombies,
    /// Anonymous memory at the first report, and now.
    anonymous: Option<(u64, u64)>,
    descriptors: fds::Descriptors,
    /// The history of the kernel's figures.
    levels: light::Levels,
    /// The history of their limits, and of their memory.
    limits: limits::Limits,
    memory: memory::Memory,
    /// The history of connections.
    connection_history: connections::History,
    /// The history of objects.
    object_history: objects::History,
    /// Of leaktrace's own work.
    rates: rates::Rates,
}

impl Assembly {
    /// An assembly that has reported nothing yet. With a tape, it begins as the recorded one did.
    pub fn new(mut answers: Answers, live: Option<SessionInfo>) -> io::Result<Self> {
        let live = || live.ok_or_else(|| io::Error::other("there is nothing to report"));
        let mut session = answers.try_ask(Question::Session, live)?;
        session.blocks = Blocks::of(&session.packs);
        Ok(Self {
            session,
            naming: Naming::new(&answers),
            processes: Processes::default(),
            answers,
            judge: Judge::default(),
            exits: BTreeMap::new(),
            rss: BTreeMap::new(),
            zombies: threads::AllZombies::default(),
            anonymous: None,
            descriptors: fds::Descriptors::default(),
            levels: light::Levels::default(),
            limits: limits::Limits::default(),
            memory: memory::Memory::default(),
            connection_history: connections::History::default(),
            object_history: objects::History::default(),
            rates: rates::Rates::default(),
        })
    }

    /// Answers to questions about the next report.
    pub const fn answers(&mut self) -> &mut Answers {
        &mut self.answers
    }

    /// Why the last report is not the recorded one, if it is not: the tape has ended in it.
    pub const fn fault(&self) -> Option<Fault> {
        self.answers.fault()
    }

    /// Hides these findings, whatever those of the session are.
    pub fn suppress(&mut self, suppressions: Suppressions) {
        self.session.suppressions = suppressions;
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

    /// Takes over what a snapshot without a report of its own says of the past of call sites.
    pub fn learn(&mut self, seen: &Snapshot) {
        let seen = &*self.processes.merge(seen);
        let estimated = estimate(seen);
        self.push(estimated.as_ref().map_or(seen, |estimated| &estimated.snapshot));
    }

    /// Adds a snapshot to the past of call sites, and judges them.
    fn push(&mut self, snapshot: &Snapshot) {
        let probes = &self.session.probes;
        let is_block = |site: &SiteFigures| {
            probe_of(probes, site.probe)
                .is_some_and(|probe| probe.function.kind == ResourceKind::Heap)
        };
        self.judge.push(snapshot, self.session.started_ns, is_block);
    }

    /// Assembles the report of one snapshot.
    pub fn report(&mut self, seen: &Snapshot) -> Report {
        let seen = &*self.processes.merge(seen);
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
        self.naming.learn_mappings(&mut self.answers, snapshot, &self.session.probes);
        let members: HashSet<Pid> =
            self.session.targets.iter().map(|one| one.identity.pid).collect();
        for pid in snapshot.ended.iter().filter(|pid| members.contains(pid)) {
            self.exits.entry(*pid).or_insert(Exit { status: None, signal: None });
        }
        self.push(snapshot);
        let mut order: Vec<&SiteFigures> =
            snapshot.sites.iter().filter(|site| self.is_wanted(site)).collect();
        let objects = self.object_types(&snapshot.sites);
        let owners = Owners::of(snapshot, &objects);
        order.sort_by_cached_key(|site| {
            // An object ranks with its parts.
            let parts = owners.parts.get(&site.number).copied().unwrap_or_default();
            let bytes = site.aged.bytes + parts.bytes() + threads::resident(snapshot, site.number);
            let size = (bytes, site.aged.count, site.acquired.bytes);
            (self.rank(site.number), std::cmp::Reverse(size), site.number)
        });
        let top = self.session.options.top.unwrap_or(usize::MAX);
        let wanted = (order.as_slice(), self.session.probes.as_slice());
        self.naming.look_up(&mut self.answers, wanted, top, snapshot.last);
        let shown = order.iter().take(top).map(|site| site.number);
        let modules = self.naming.names.modules(&mut self.answers, shown);
        let mut sites = self.sites(&order, snapshot, errors);
        sites.iter_mut().for_each(|site| site.owner = owners.by_memory.get(&site.id).copied());
        let known =
            findings::Known { sites: &sites, figures: &order, owners: &owners, objects: &objects };
        let (findings, suppressed, answer) =
            findings::find(&known, &self.judge, &self.session, snapshot);
        let (light, fds, limits) = limits::figures(self, snapshot);
        let started_ns = self.session.started_ns;
        let connections = connections::report(snapshot, started_ns, &mut self.connection_history);
        let accounting = self.accounting(seen);
        let totals = totals::of(self, snapshot, errors);
        self.forget_ended(snapshot);
        // Before the warnings, which compare resident memory with the first report's.
        let targets = self.targets(snapshot);
        let mut warnings = self.warnings(snapshot);
        warnings.extend(accounting.connections_log.as_ref().and_then(ConnectionsLog::warning));
        Report {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.session.host.clone(),
            targets,
            window: self.session.window(snapshot.at_ns),
            allocators: probed::allocators(&self.session),
            // Before the warnings: it adds some.
            memory: memory::report(self, snapshot, &totals, &mut warnings),
            warnings,
            accounting,
            probes: probed::probes(&self.session, snapshot),
            answer,
            findings,
            suppressed,
            invalid_releases: invalid_releases::report(self, snapshot),
            limits,
            totals,
            sites,
            sites_left_out: 0,
            frames: Vec::new(),
            modules,
            light,
            fds,
            objects: self.objects(snapshot, objects, &owners.parts),
            connections,
        }
    }

    /// Forgets processes that have given back what they held, except the newest.
    fn forget_ended(&mut self, snapshot: &Snapshot) {
        let exits = &mut self.exits;
        for pid in members::forget_ended(&mut self.session.targets, |pid| exits.contains_key(&pid))
        {
            exits.remove(&pid);
        }
        let running = |pid: &Pid| snapshot.resident.contains_key(pid);
        // The last one's figures stay, and need names.
        if !self.session.options.children || snapshot.resident.is_empty() {
            return;
        }
        for pid in snapshot.ended.iter().filter(|pid| !running(pid)) {
            self.rss.remove(pid);
            self.zombies.forget(*pid);
            self.naming.names.forget(*pid);
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
        probe_of(&self.session.probes, number)
    }

    /// The object type that a call site creates, if it creates objects.
    fn object_type(&self, site: &SiteFigures) -> Option<&Arc<ObjectType>> {
        let SessionInfo { blocks, probes, .. } = &self.session;
        match &self.probe(site.probe)?.function.object {
            Some(of) => Some(of.kind(site.detail)),
            None => blocks.type_of(site, &self.naming.names, probes),
        }
    }

    /// The object types of the call sites that create objects, by their number.
    fn object_types(&self, sites: &[SiteFigures]) -> HashMap<u32, Arc<ObjectType>> {
        let of = |site: &SiteFigures| Some((site.number, Arc::clone(self.object_type(site)?)));
        sites.iter().filter_map(of).collect()
    }

    /// The objects of a snapshot, if objects are traced. `kinds` are their types and `parts` their parts, both by
    /// constructor call site.
    fn objects(
        &mut self,
        snapshot: &Snapshot,
        mut kinds: HashMap<u32, Arc<ObjectType>>,
        parts: &HashMap<u32, parts::Parts>,
    ) -> Option<LibraryObjects> {
        let seen = snapshot.objects.as_ref()?;
        for site in snapshot.sites.iter().filter(|site| self.is_library_internal(site)) {
            kinds.remove(&site.number);
        }
        let Self { object_history, naming, answers, .. } = self;
        Some(object_history.report((seen, snapshot), &kinds, parts, &mut naming.names, answers))
    }

    /// Whether a call site allocates objects inside the library's own structures.
    fn is_library_internal(&self, site: &SiteFigures) -> bool {
        let (probes, targets) = (&self.session.probes, &self.session.targets);
        let probe = self.probe(site.probe);
        blocks::is_library_internal(site, probe, &self.naming.names, probes, targets)
    }

    fn is_wanted(&self, site: &SiteFigures) -> bool {
        let asked = match self.kind(site) {
            Resource::Plain(kind) => self.session.options.kinds.contains(&kind),
            Resource::Object(_) => self.session.options.traces_objects(),
        };
        asked
            && fds::has_stack(site)
            && !invalid_releases::is_one(site, self.probe(site.probe))
            && !self.is_library_internal(site)
    }

    /// The call sites in this order.
    fn sites(
        &mut self,
        order: &[&SiteFigures],
        snapshot: &Snapshot,
        errors: Option<&Estimated>,
    ) -> Vec<Site> {
        let mut sites: Vec<Site> =
            order.iter().map(|site| self.site(site, snapshot, errors)).collect();
        wrappers::skip(&mut sites);
        findings::excuse(&mut sites);
        sites
    }

    fn site(
        &mut self,
        site: &SiteFigures,
        snapshot: &Snapshot,
        errors: Option<&Estimated>,
    ) -> Site {
        let probe = probe_of(&self.session.probes, site.probe);
        let shown = self.naming.shown(&mut self.answers, site, probe);
        let kind = self.kind(site);
        let unknown = if self.session.options.light { "page fault" } else { "?" };
        let opener = fds::opener(site);
        let acquired_by = match opener {
            Some(opener) => opener.name().unwrap_or(unknown),
            None => self.probe(site.probe).map_or(unknown, |probe| &probe.function.name),
        };
        let judged = self.judge.of(site.number);
        // What is all released does not grow; its history may still fall.
        let growth = judged.and_then(|judged| judged.trend).filter(|_| site.aged.count > 0);
        let seconds = |ms: u32| f64::from(ms) / 1000.0;
        let end = site.end;
        let truncated = end != StackEnd::Bottom;
        let arena = shown.arena.filter(|_| matches!(kind, Resource::Plain(_)));
        let (threads, resident_bytes) = threads::of(&kind, snapshot, site.number);
        Site {
            id: site.number,
            pid: site.pid.or_else(|| self.session.only_target()).map(|pid| pid.0),
            processes: processes::count(site),
            by_process: processes::listed(site),
            kind,
            acquired_by: acquired_by.to_owned(),
            fd_type: opener.map(|_| site.fd_type.into()),
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
            owner: None,
            resident_bytes,
            threads,
            arena,
            verdict: self.verdict(site.number),
            truncated,
            truncated_why: truncated.then(|| end.sentence().to_owned()),
            headline: shown.asked,
            frames: shown.frames,
            callers: Vec::new(),
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
        self.zombies.learn(snapshot);
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
                zombies: self.zombies.of(identity.pid),
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
        warnings.extend(self.quiet(snapshot).and_then(|quiet| quiet.warning()));
        warnings
    }
}

/// Converts errors to the report's type.
fn report_errors(errors: estimate::Errors) -> Errors {
    let amount = |sum: Sum| Amount { count: sum.count, bytes: sum.bytes };
    Errors { outstanding: errors.outstanding.map(amount), acquired: errors.acquired.map(amount) }
}

#[cfg(test)]
mod tests;
