//! Findings: what leaks, or may, one for each cause.
//!
//! Takes call sites with their verdicts and names, hands on [`Finding`]s and the answer to the question whether the
//! targets leak. Which call sites have one cause is in `causes.rs`, the function to look at in `function.rs`, the text in
//! `words.rs`. Pure: it judges nothing by itself but what only names show (`pools.rs`), and asks nothing from outside.

mod answer;
mod causes;
mod function;
mod pools;
mod words;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    ledger::Lives,
    report::{
        Amount, Fault, Finding, FindingClient, FindingCohort, FindingOwner, FindingPart,
        FindingRate, PerConnection, Site, VerdictClass, Word,
    },
    verdict::Judged,
};

pub use answer::{Judging, answer};
use function::Functions;
pub use pools::excuse;

/// Clients that a finding lists.
const CLIENTS: usize = 5;
/// Of resources, at least this share was left behind by connections if a finding is tied to them.
const OF_CONNECTIONS: f64 = 0.5;

/// What is known of a call site, beside its report.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// The report on it.
    pub site: &'a Site,
    /// Its verdict.
    pub judged: &'a Judged,
    /// How its resources live.
    pub lives: Option<&'a Lives>,
    /// The call site that creates the objects which its resources are parts of.
    pub owner: Option<u32>,
    /// Where it creates objects of a library.
    pub objects: Option<ObjectCase<'a>>,
    /// Where its objects own what their library has acquired by itself: those with most bytes, and how many there are.
    pub owning: Option<(&'a [FindingOwner], u64)>,
}

impl Case<'_> {
    /// Whether nothing is wrong with the objects of this call site but what belongs to them.
    fn is_innocent_owner(&self) -> bool {
        self.owning.is_some() && !self.site.verdict.class.is_finding()
    }
}

/// What is known of a call site that creates objects.
#[derive(Clone, Copy, Debug)]
pub struct ObjectCase<'a> {
    /// Name of the library's pack.
    pub library: &'a str,
    /// Objects whose release was requested; `None` without a known function that requests it.
    pub release_requested: Option<u64>,
}

/// What findings need to know of the targets.
pub struct Targets<'a> {
    /// The executable of each process.
    pub executables: &'a HashMap<u32, &'a str>,
    /// Returns the clients of a call site's resources, those of most resources first.
    pub clients: &'a dyn Fn(u32) -> Vec<FindingClient>,
    /// The time that cohorts count from, seconds after tracing began; negative if before.
    pub cohorts_from_s: f64,
}

/// The findings on all call sites, worst first.
pub fn find(cases: &[Case<'_>], targets: &Targets<'_>) -> Vec<Finding> {
    let functions = Functions::of(cases, targets.executables);
    let mut findings: Vec<Finding> = causes::of(cases, &functions)
        .iter()
        .filter_map(|cause| finding(cause, &functions, targets))
        .collect();
    findings.sort_by(|one, other| {
        (one.class.rank().cmp(&other.class.rank()))
            .then(harm_per_s(other).total_cmp(&harm_per_s(one)))
            .then(other.outstanding.bytes.cmp(&one.outstanding.bytes))
            .then(other.outstanding.count.cmp(&one.outstanding.count))
            .then(one.id.cmp(&other.id))
    });
    findings
}

/// How much memory a descriptor is worth, bytes: the usual limit is 1,024 of them, which weigh as much as 64 MiB.
const DESCRIPTOR: f64 = 65_536.0;

/// The same of a thread that nobody joins: it keeps a stack, of which that much is usually resident.
const THREAD: f64 = 16_384.0;

/// How fast a finding does harm, in bytes per second.
fn harm_per_s(finding: &Finding) -> f64 {
    let Some(rate) = finding.rate else { return 0.0 };
    let weight = |part: &FindingPart| match &part.kind {
        kind if kind.is_thread() => THREAD,
        kind if kind.is_descriptor() => DESCRIPTOR,
        _ => 0.0,
    };
    let weights = finding.parts.iter().map(|part| part.count as f64 * weight(part));
    let mean = weights.sum::<f64>() / finding.outstanding.count.max(1) as f64;
    rate.bytes_per_s + rate.count_per_s * mean
}

/// Call sites with one cause: the one that owns the others' resources first.
#[derive(Debug)]
struct Cause<'a> {
    cases: Vec<&'a Case<'a>>,
    /// The function that calls the headline's, where only some of its callers are concerned.
    caller: Option<String>,
}

impl<'a> Cause<'a> {
    /// The case whose function is the headline.
    fn head(&self) -> Option<&'a Case<'a>> {
        self.cases.first().copied()
    }

    /// The objects of the first case, where a library has acquired by itself what another case is about.
    fn owners(&self) -> &'a [FindingOwner] {
        let Some((head, rest)) = self.cases.split_first() else { return &[] };
        let is_owned = rest.iter().any(|case| case.site.owner == Some(head.site.id));
        head.owning.filter(|_| is_owned).map_or(&[], |(owners, _)| owners)
    }

    /// The case whose verdict counts: the worst, then the surest.
    fn worst(&self) -> Option<&'a Case<'a>> {
        let verdict = |case: &Case<'_>| {
            let verdict = &case.site.verdict;
            (Reverse(verdict.class.rank()), verdict.confidence)
        };
        self.cases.iter().copied().reduce(|best, one| {
            let ((best_rank, best_sure), (rank, sure)) = (verdict(best), verdict(one));
            let better = rank.cmp(&best_rank).then(sure.total_cmp(&best_sure)).is_gt();
            if better { one } else { best }
        })
    }
}

/// The finding on a cause; every cause has a case, and so a finding.
fn finding(cause: &Cause<'_>, functions: &Functions<'_>, targets: &Targets<'_>) -> Option<Finding> {
    let (head, worst) = (cause.head()?, cause.worst()?);
    let verdict = &worst.site.verdict;
    let sites: Vec<&Site> = cause.cases.iter().map(|case| case.site).collect();
    let parts = parts(&sites);
    let rate = rate(&cause.cases);
    let fault = fault(head);
    let per = per(&cause.cases, verdict.class);
    let headline = functions.headline(head.site);
    let description = words::Description {
        head,
        worst,
        frame: head.site.frames.get(headline),
        caller: cause.caller.as_deref(),
        parts: &parts,
        owners: cause.owners(),
        per: per.as_ref(),
        fault,
    };
    let mut reasons = verdict.reasons.clone();
    reasons.extend(description.more_reasons());
    Some(Finding {
        id: id(head.site, headline),
        class: verdict.class,
        confidence: verdict.confidence,
        since: cause.cases.iter().filter_map(|case| case.site.verdict.since).reduce(f64::min),
        title: description.title(),
        reasons,
        kind: head.site.kind.clone(),
        fault: fault.map(Word::from),
        look_at: description.look_at(),
        outstanding: sites.iter().fold(Amount::default(), |sum, site| Amount {
            count: sum.count + site.outstanding_count,
            bytes: sum.bytes + site.outstanding_bytes,
        }),
        rate,
        per,
        parts,
        owners: cause.owners().to_vec(),
        sites: sites.iter().map(|site| site.id).collect(),
        headline,
        frames: Arc::clone(&head.site.frames),
        cohorts: cohorts(worst, targets),
        clients: clients(&sites, targets),
        processes: processes(&sites),
    })
}

/// Processes that hold something acquired at one of the call sites; a call site lists only those that hold most.
fn processes(sites: &[&Site]) -> u64 {
    let listed = sites.iter().flat_map(|site| {
        let several = site.by_process.iter().map(|one| one.pid);
        several.chain(site.pid.filter(|_| site.by_process.is_empty()))
    });
    let listed = listed.collect::<BTreeSet<u32>>().len() as u64;
    sites.iter().map(|site| u64::from(site.processes)).max().unwrap_or(0).max(listed)
}

/// The resources by kind: the head's first, then those of most bytes.
fn parts(sites: &[&Site]) -> Vec<FindingPart> {
    let mut parts: Vec<FindingPart> = Vec::new();
    for site in sites {
        let (count, bytes) = (site.outstanding_count, site.outstanding_bytes);
        match parts.iter_mut().find(|part| part.kind == site.kind) {
            Some(part) => {
                part.count += count;
                part.bytes += bytes;
            }
            None => parts.push(FindingPart { kind: site.kind.clone(), count, bytes }),
        }
    }
    if let Some(rest) = parts.get_mut(1..) {
        rest.sort_by_key(|part| Reverse((part.bytes, part.count)));
    }
    parts
}

/// The rates of all call sites together.
fn rate(cases: &[&Case<'_>]) -> Option<FindingRate> {
    let rates = cases.iter().filter_map(|case| case.judged.evidence.as_ref()?.rate());
    rates.fold(None, |sum, one| {
        let sum =
            sum.unwrap_or(FindingRate { count_per_s: 0.0, bytes_per_s: 0.0, low: 0.0, high: 0.0 });
        Some(FindingRate {
            count_per_s: sum.count_per_s + one.count_per_s,
            bytes_per_s: sum.bytes_per_s + one.bytes_per_s,
            low: sum.low + one.low,
            high: sum.high + one.high,
        })
    })
}

/// Whose mistake it is. A library that was asked to release objects has them still; what the program acquired by itself,
/// or never asked to release, is the program's.
fn fault(head: &Case<'_>) -> Option<Fault> {
    if !head.site.verdict.class.is_accusation() {
        return None;
    }
    let Some(objects) = head.objects else {
        // A library's own block may be waiting for a call of the program's.
        let own = function::is_program_at(head.site, head.site.headline);
        return own.then_some(Fault::Program);
    };
    let requested = objects.release_requested?;
    if requested == 0 {
        return Some(Fault::Program);
    }
    // Half of the objects: then that is what usually happens.
    (2 * requested >= head.site.outstanding_count).then_some(Fault::Library)
}

/// What closed connections leave behind, if most of it was left behind by them.
fn per(cases: &[&Case<'_>], class: VerdictClass) -> Option<PerConnection> {
    if !class.is_accusation() {
        return None;
    }
    let orphans = |case: &&Case<'_>| case.site.orphans.filter(|orphans| orphans.count > 0);
    let left: u64 = cases.iter().filter_map(orphans).map(|orphans| orphans.count).sum();
    let all: u64 = cases.iter().map(|case| case.site.outstanding_count).sum();
    if left == 0 || (left as f64) < OF_CONNECTIONS * all as f64 {
        return None;
    }
    let most = cases.iter().filter_map(orphans).max_by_key(|orphans| orphans.connections)?;
    let bytes: u64 = cases.iter().filter_map(orphans).map(|orphans| orphans.bytes).sum();
    Some(PerConnection {
        what: "closed connection".to_owned(),
        share: most.share?,
        bytes: bytes as f64 / most.connections.max(1) as f64,
    })
}

/// The cohorts of a call site on the report's clock.
fn cohorts(case: &Case<'_>, targets: &Targets<'_>) -> Vec<FindingCohort> {
    // Of the first acquisitions some may have come while probes were attached.
    let at_s = |ms: u32| (targets.cohorts_from_s + f64::from(ms) / 1000.0).max(0.0);
    let cohorts = case.lives.map_or(&[][..], Lives::cohorts).iter().map(|one| FindingCohort {
        from_s: at_s(one.start_ms),
        to_s: at_s(one.end_ms),
        acquired: one.acquired,
        outstanding: one.outstanding.into(),
    });
    cohorts.collect()
}

/// The clients of all call sites together, those of most resources first.
fn clients(sites: &[&Site], targets: &Targets<'_>) -> Vec<FindingClient> {
    let mut all: Vec<FindingClient> = Vec::new();
    for client in sites.iter().flat_map(|site| (targets.clients)(site.id)) {
        match all.iter_mut().find(|one| one.address == client.address) {
            Some(one) => {
                one.count += client.count;
                one.bytes += client.bytes;
            }
            None => all.push(client),
        }
    }
    all.sort_by(|one, other| {
        (other.count, other.bytes, &one.address).cmp(&(one.count, one.bytes, &other.address))
    });
    all.truncate(CLIENTS);
    all
}

/// Functions from the headline up that a finding's number is made of: more would part what is one cause.
const OF_ID: usize = 3;

/// The number of a finding: of its kind and of its functions, so that it is the same in every run.
fn id(site: &Site, headline: usize) -> String {
    let mut hash = crc32fast::Hasher::new();
    hash.update(site.kind.name().as_bytes());
    for frame in site.frames.iter().skip(headline).take(OF_ID) {
        hash.update(b"\n");
        hash.update(frame.label().as_bytes());
    }
    format!("{:08x}", hash.finalize())
}

#[cfg(test)]
mod tests;
