//! Probes and allocators as the report shows them.
//!
//! Takes the scene and a snapshot's hits, hands on plain data.

use super::Scene;
use crate::{
    collect::Snapshot,
    format::file_name,
    probes::{Absent, Probe, allocator::Allocator, catalog::throws},
    report::ProbeStatus,
    target::Pid,
};

/// The allocators of all targets.
pub(super) fn allocators(scene: &Scene) -> Vec<crate::report::Allocator> {
    let all = scene.allocators.iter();
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

/// What probing itself may do to a target.
pub(super) fn danger(scene: &Scene) -> Option<String> {
    let throwing = scene.probes.iter().find(|probe| {
        let mut names = std::iter::once(&probe.function.name).chain(&probe.aliases);
        probe.place.is_ok() && names.any(|name| throws(name))
    })?;
    let object = throwing.object.as_ref().map(|(_, path)| path.to_string_lossy().into_owned());
    Some(format!(
        "while `operator new` of {} is probed, its exception when memory runs out (std::bad_alloc) ends the \
         target, even where the target would catch it",
        object.as_deref().map_or("the target", file_name),
    ))
}

/// The probes of all targets, with their hits.
pub(super) fn probes(scene: &Scene, snapshot: &Snapshot) -> Vec<crate::report::Probe> {
    let shown = scene.probes.iter().map(|probe| shown(scene, probe, snapshot));
    shown.collect()
}

fn shown(scene: &Scene, probe: &Probe, snapshot: &Snapshot) -> crate::report::Probe {
    let path = probe.object.as_ref().map(|(_, path)| path.to_string_lossy().into_owned());
    let place = probe.place.as_ref().ok();
    let hits = snapshot.hits.get(usize::from(probe.number)).map_or(0, |(hits, _)| *hits);
    let (status, why) = match (&probe.place, scene.refused.get(&probe.number)) {
        (Err(Absent::Missing | Absent::Forwards), _) => (ProbeStatus::Missing, None),
        (Err(Absent::Refused(why)), _) | (Ok(_), Some(why)) => {
            (ProbeStatus::Refused, Some(why.clone()))
        }
        (Ok(place), None) => (ProbeStatus::On, remark(probe, place.emulated)),
    };
    crate::report::Probe {
        function: probe.function.name.clone().into_owned(),
        object: path,
        offset: place.map(|place| format!("{:#x}", place.offset)),
        emulated: place.map(|place| place.emulated),
        hits: if place.is_some() { hits } else { 0 },
        status,
        why,
    }
}

/// What is special about a probe that is on.
fn remark(probe: &Probe, emulated: bool) -> Option<String> {
    let mut remarks = Vec::new();
    if !probe.aliases.is_empty() {
        remarks.push(format!("also {}: the same code", probe.aliases.join(", ")));
    }
    if !emulated {
        remarks.push("no emulated instruction while arguments and stack are in place".to_owned());
    }
    (!remarks.is_empty()).then(|| remarks.join("; "))
}
