//! Probes and allocators as the report shows them.
//!
//! Takes the session info and a snapshot's hits, returns plain data.

use super::SessionInfo;
use crate::{
    probes::{Absent, Outcome, Probe, allocator::Allocator},
    report::{Offset, ProbeStatus},
    snapshot::Snapshot,
    target::Pid,
};

/// The allocators of all targets.
pub(super) fn allocators(session: &SessionInfo) -> Vec<crate::report::Allocator> {
    let all = session.allocators.iter();
    let shown = |(pid, one): (&Pid, &Allocator)| crate::report::Allocator {
        pid: pid.0,
        sentence: one.sentence.clone(),
        name: one.name.clone(),
        version: one.version.clone(),
        object: one.object.to_string_lossy().into_owned(),
        in_use: one.in_use,
    };
    all.flat_map(|(pid, found)| found.iter().map(move |one| (pid, one))).map(shown).collect()
}

/// The probes of all targets, with their hits.
pub(super) fn probes(session: &SessionInfo, snapshot: &Snapshot) -> Vec<crate::report::Probe> {
    let shown = session.probes.iter().map(|probe| shown(session, probe, snapshot));
    shown.collect()
}

fn shown(session: &SessionInfo, probe: &Probe, snapshot: &Snapshot) -> crate::report::Probe {
    let path = probe.object.as_ref().map(|(_, path)| path.to_string_lossy().into_owned());
    let place = probe.place.as_ref().ok();
    let hits = snapshot.hits.get(usize::from(probe.number)).map_or(0, |(hits, _)| *hits);
    let (status, why) = match (&probe.place, session.refused.get(&probe.number)) {
        (Err(Absent::Missing | Absent::Forwards), _) => (ProbeStatus::Missing, None),
        (Err(Absent::Refused(why)), _) | (Ok(_), Some(why)) => {
            (ProbeStatus::Refused, Some(why.clone()))
        }
        (Err(Absent::NotRequested), _) => {
            (ProbeStatus::Refused, Some("not of the kinds asked for".to_owned()))
        }
        (Ok(place), None) => (ProbeStatus::On, remark(probe, place.emulated)),
    };
    crate::report::Probe {
        function: probe.function.name.clone().into_owned(),
        object: path,
        offset: place.map(|place| Offset(place.offset)),
        emulated: place.map(|place| place.emulated),
        hits: if place.is_some() { hits } else { 0 },
        status,
        why,
    }
}

/// What is special about an attached probe.
fn remark(probe: &Probe, emulated: bool) -> Option<String> {
    let mut remarks = Vec::new();
    if !probe.aliases.is_empty() {
        remarks.push(format!("also {}: the same code", probe.aliases.join(", ")));
    }
    if let Outcome::Instructions(_, why) = &probe.outcome {
        let why = why.no_return_probe();
        remarks.push(format!("outcome read at its return instructions: {why}"));
    } else if probe.outcome == Outcome::FirstBlock {
        remarks.push("the object is the first block acquired in it".to_owned());
    } else if !emulated {
        remarks.push("no emulated instruction while arguments and stack are in place".to_owned());
    }
    (!remarks.is_empty()).then(|| remarks.join("; "))
}
