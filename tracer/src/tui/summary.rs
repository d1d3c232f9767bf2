//! Summary of a report, computed once per report: the header reads it on each draw.
//!
//! Pure: takes a report, returns a [`Summary`].

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    alike::{self, Differences},
    model::{ColumnId, Needs},
};
use crate::report::{
    Connection, FdType, Fds, Finding, Leaving, LibraryObject, Light, Report, Resource,
    VerdictClass, Word,
};

/// Totals and flags of a report as a whole, for the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Growth by kind, bytes per second; without call sites that have too little history.
    pub growth: BTreeMap<Resource, f64>,
    /// Outstanding bytes of all call sites at the last refreshes, oldest first.
    pub trend: Vec<u64>,
    /// Call sites with a proven leak.
    pub leaks: usize,
    /// Call sites that are suspects.
    pub suspects: usize,
    /// Whether any call site has a verdict.
    pub judged: bool,
    /// Findings that are listed only on request.
    pub growing: usize,
    /// Call sites that belong to no finding.
    pub quiet: usize,
    /// Outstanding bytes of each finding's call sites at the last refreshes, oldest first.
    pub finding_trends: Vec<Vec<u64>>,
    /// What columns need, as far as this report or one before it had it.
    pub met: HashSet<Needs>,
    /// What distinguishes call sites that would look alike, by their index.
    pub alike_sites: Differences,
    /// The same of findings.
    pub alike_findings: Differences,
    /// Indexes of the call sites, by their number.
    pub site_at: HashMap<u32, usize>,
    /// Descriptors by type, most open first.
    pub types: Vec<TypeRow>,
    /// Resources that closed connections left behind, by function, those of most connections first.
    pub leaving: Vec<Leaving>,
    /// Open descriptors that the peer has closed.
    pub fds_without_peer: usize,
    /// Open connections that the peer has closed.
    pub connections_without_peer: usize,
    /// Objects whose release was requested.
    pub asked: usize,
    /// Columns with a known value for any object.
    pub known: HashSet<ColumnId>,
    /// Length of the longest object type name; 0 if there are no objects.
    pub longest_type_name: usize,
}

/// Whether nothing can be judged in the mode of this report.
pub fn judges_nothing(report: &Report) -> bool {
    report.findings.is_empty() && (report.light.is_some() || report.accounting.estimated)
}

/// Whether a value is known for an object.
type Has = fn(&LibraryObject) -> bool;

/// Descriptors of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeRow {
    /// The type.
    pub fd_type: Word<FdType>,
    /// Open descriptors.
    pub open: u64,
    /// Opened since the start, if that is traced.
    pub opened: Option<u64>,
    /// Closed since the start, if that is traced.
    pub closed: Option<u64>,
    /// Change in open descriptors per second, if known.
    pub growth_per_s: Option<f64>,
}

impl Summary {
    /// The row of this call site's function, if resources of this call site were left behind.
    pub fn leaving(&self, site: u32) -> Option<&Leaving> {
        self.leaving.iter().find(|one| one.sites.contains(&site))
    }

    /// One pass over the call sites.
    pub fn of(report: &Report) -> Self {
        let mut summary = Self::default();
        let mut states_known = false;
        let longest = report.sites.iter().map(|site| site.trend_bytes.len()).max().unwrap_or(0);
        summary.trend = vec![0; longest];
        summary.types =
            report.fds.as_ref().map(|fds| types(fds, report.light.as_ref())).unwrap_or_default();
        for fd in report.fds.iter().flat_map(|fds| &fds.table) {
            states_known |= fd.state.is_some();
            summary.fds_without_peer += usize::from(fd.is_peer_gone());
        }
        summary.leaving =
            report.connections.iter().flat_map(|all| all.leaving(&report.sites)).collect();
        let open = report.connections.iter().flat_map(|connections| &connections.table);
        summary.connections_without_peer = open.filter(|one| Connection::is_peer_gone(one)).count();
        summary.look_at_objects(report);
        for (at, site) in report.sites.iter().enumerate() {
            summary.site_at.insert(site.id, at);
            if let Some(rate) = site.growth_bytes_per_s {
                *summary.growth.entry(site.kind.clone()).or_default() += rate;
            }
            add(&mut summary.trend, &site.trend_bytes);
            match site.verdict.class {
                VerdictClass::Leak => summary.leaks += 1,
                VerdictClass::Suspect => summary.suspects += 1,
                VerdictClass::Growing
                | VerdictClass::Steady
                | VerdictClass::Settling
                | VerdictClass::Unknown => {}
            }
            summary.judged |= site.verdict.class != VerdictClass::Unknown;
        }
        summary.look_at_findings(report);
        summary.alike_sites = alike::of_sites(&report.sites);
        summary.alike_findings = alike::of_findings(&report.findings);
        let any = |is: fn(&Finding) -> bool| report.findings.iter().any(is);
        let met = [
            (Needs::Verdict, summary.judged),
            (Needs::ManyTargets, report.targets.len() > 1),
            (Needs::ManyProcesses, any(|finding| finding.processes > 1)),
            (Needs::Faults, any(|finding| finding.fault.is_some())),
            (Needs::FindingClients, any(|finding| !finding.clients.is_empty())),
            (Needs::States, states_known),
            (Needs::Orphans, !summary.leaving.is_empty()),
            (Needs::TypeGrowth, summary.types.iter().any(|one| one.growth_per_s.is_some())),
        ];
        summary.met.extend(met.into_iter().filter(|(_, is_met)| *is_met).map(|(need, _)| need));
        summary
    }

    /// Keeps the columns of the report before: one that comes and goes would move all others with each report.
    pub fn keep_columns_of(&mut self, before: &Self) {
        self.met.extend(&before.met);
        self.known.extend(&before.known);
        self.longest_type_name = self.longest_type_name.max(before.longest_type_name);
    }

    fn look_at_findings(&mut self, report: &Report) {
        self.growing =
            report.findings.iter().filter(|one| one.class == VerdictClass::Growing).count();
        let of_findings: HashSet<u32> =
            report.findings.iter().flat_map(|one| one.sites.iter().copied()).collect();
        self.quiet = report.sites.iter().filter(|site| !of_findings.contains(&site.id)).count();
        for finding in &report.findings {
            let sites = finding.sites.iter().filter_map(|id| self.site_at.get(id));
            let trends = sites.filter_map(|at| report.sites.get(*at)).map(|site| &site.trend_bytes);
            let longest = trends.clone().map(Vec::len).max().unwrap_or(0);
            let mut sum = vec![0; longest];
            trends.for_each(|trend| add(&mut sum, trend));
            self.finding_trends.push(sum);
        }
    }

    fn look_at_objects(&mut self, report: &Report) {
        let Some(objects) = &report.objects else { return };
        let names = objects.types.iter().map(|kind| kind.name.chars().count());
        self.longest_type_name = names.max().unwrap_or(0);
        let asked: u64 = objects.types.iter().filter_map(|kind| kind.release_asked).sum();
        self.asked = usize::try_from(asked).unwrap_or(usize::MAX);
        let there: [(ColumnId, Has); 6] = [
            (ColumnId::Fd, |one| one.fd.is_some()),
            (ColumnId::Peer, |one| one.peer.is_some()),
            (ColumnId::Owner, |one| one.owner.is_some()),
            (ColumnId::References, |one| one.references.is_some()),
            (ColumnId::Queued, |one| one.queued_bytes.is_some()),
            (ColumnId::Pending, |one| one.pending.is_some()),
        ];
        self.known.extend(
            there.iter().filter(|(_, has)| objects.table.iter().any(has)).map(|(by, _)| by),
        );
    }
}

/// Adds a trend, which may be shorter, to the sum: a call site that began later held nothing before.
fn add(sum: &mut [u64], trend: &[u64]) {
    for (sum, bytes) in sum.iter_mut().rev().zip(trend.iter().rev()) {
        *sum = sum.saturating_add(*bytes);
    }
}

/// The figures of each type: more if opening and closing are traced.
fn types(fds: &Fds, light: Option<&Light>) -> Vec<TypeRow> {
    let mut types: BTreeMap<&Word<FdType>, TypeRow> = BTreeMap::new();
    for (fd_type, open) in &fds.by_type {
        let row = TypeRow {
            fd_type: fd_type.clone(),
            open: *open,
            opened: None,
            closed: None,
            growth_per_s: light.and_then(|light| light.fds_growth_per_s(fd_type)),
        };
        types.insert(fd_type, row);
    }
    for (fd_type, one) in &fds.turnover_by_type {
        let row = TypeRow {
            fd_type: fd_type.clone(),
            open: one.open,
            opened: Some(one.opened),
            closed: Some(one.closed),
            growth_per_s: one.growth_per_s,
        };
        types.insert(fd_type, row);
    }
    let mut types: Vec<TypeRow> = types.into_values().collect();
    types.sort_by_key(|one| std::cmp::Reverse(one.open));
    types
}
