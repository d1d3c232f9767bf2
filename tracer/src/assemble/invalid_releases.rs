//! Releases of what is not there, by call site.
//!
//! Takes the call sites of a snapshot, passes on those of releases with their names. Such a call site acquires nothing:
//! what it counts as acquired and released are the calls.

use std::sync::Arc;

use tracer_common::attach::Shape;

use super::{Assembly, fds, naming::probe_of, processes};
use crate::{
    probes::Probe,
    report::{FdOrigin, InvalidRelease, WhyInvalid},
    snapshot::{SiteFigures, Snapshot},
};

/// Whether a call site releases what is not there, instead of acquiring.
pub(super) fn is_one(site: &SiteFigures, probe: Option<&Probe>) -> bool {
    fds::opener(site) == Some(FdOrigin::InvalidClose)
        || probe.is_some_and(|probe| probe.function.shape == Shape::Release)
}

/// The invalid releases of a snapshot, most frequent first.
pub(super) fn report(assembly: &mut Assembly, snapshot: &Snapshot) -> Vec<InvalidRelease> {
    let probes = &assembly.session.probes;
    let is_one = |site: &&SiteFigures| is_one(site, probe_of(probes, site.probe));
    let mut sites: Vec<&SiteFigures> = snapshot.sites.iter().filter(is_one).collect();
    if sites.is_empty() {
        return Vec::new();
    }
    sites.sort_by_key(|site| (std::cmp::Reverse(site.acquired.count), site.number));
    let Assembly { naming, answers, session, .. } = &mut *assembly;
    naming.look_up(answers, (&sites, &session.probes), usize::MAX, snapshot.last);
    sites.into_iter().map(|site| shown(assembly, site)).collect()
}

fn shown(assembly: &mut Assembly, site: &SiteFigures) -> InvalidRelease {
    let kind = assembly.kind(site);
    let Assembly { naming, answers, session, .. } = assembly;
    let probe = probe_of(&session.probes, site.probe);
    let stack = naming.shown(answers, site, probe);
    let closes = fds::opener(site).and_then(FdOrigin::name);
    let why = if closes.is_some() { WhyInvalid::NotOpen } else { WhyInvalid::AlreadyReleased };
    InvalidRelease {
        kind,
        why: why.into(),
        released_by: match (closes, probe) {
            (None, Some(probe)) => probe.function.name.clone().into_owned(),
            (name, _) => name.unwrap_or("?").to_owned(),
        },
        count: site.acquired.count,
        processes: processes::count(site),
        headline: stack.asked,
        frames: Arc::clone(&stack.frames),
    }
}
