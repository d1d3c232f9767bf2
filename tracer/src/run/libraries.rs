//! Functions of packs: turns them into functions to probe, and describes them to the BPF programs.
//!
//! Takes packs and probes, passes on functions, descriptions, object types and liveness checks.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use anyhow::Context as _;
use tracer_common::{attach::ProbeNumber, kind::ResourceKind};

use crate::{
    collector::Probed,
    format::hex,
    kernel::Programs,
    lib_objects::{fields::ObjectUses, internals::OwningPacks},
    packs::{FieldRole, ObjectFile, Pack},
    probes::{Function, Probe, threads::ThreadStart},
    reconcile::caller_allocated::{LivenessCheck, LivenessChecks},
};

/// The functions of these packs that an object file defines.
pub(super) fn object_functions(
    packs: &[&Pack],
    defined: &[&str],
    build_id: Option<&[u8]>,
) -> Vec<Function> {
    let defined: HashSet<&str> = defined.iter().copied().collect();
    let build_id = build_id.map(hex);
    let defines = |name: &str| defined.contains(name);
    let file = ObjectFile { defines: &defines, build_id: build_id.as_deref() };
    packs
        .iter()
        .flat_map(|pack| pack.functions(&file))
        .map(|(name, shape, throws, of)| Function {
            name: name.into(),
            kind: ResourceKind::Object,
            shape,
            arguments: [0; 3],
            throws,
            object: Some(of),
        })
        .collect()
}

/// Describes to the BPF programs what functions do to objects, before their first hit. `described` is the number of
/// `probes` that are described already.
pub(super) fn describe(
    programs: &mut Programs,
    probes: &[Probe],
    described: &mut usize,
) -> anyhow::Result<()> {
    for probe in probes.iter().skip(*described).filter(|probe| probe.place.is_ok()) {
        if let Some(of) = &probe.function.object {
            programs
                .set_object_function(probe.number, of.function)
                .context("could not describe a library's functions to the BPF programs")?;
        }
    }
    *described = probes.len();
    Ok(())
}

/// What the collector needs to know about these probes, which use `numbers` probe numbers.
pub(super) fn probed(
    numbers: ProbeNumber,
    probes: &[Probe],
    starts: &[ThreadStart],
    packs: &[Pack],
) -> Probed {
    let in_file = |start: &ThreadStart| (start.file, (start.offset, start.length));
    Probed {
        numbers,
        liveness: liveness_checks(probes),
        uses: object_uses(probes),
        thread_starts: starts.iter().map(in_file).collect(),
        owning_packs: owning_packs(probes, packs),
    }
}

/// The packs whose objects own what their library acquires by itself, by the files in which probes have found the library.
fn owning_packs(probes: &[Probe], packs: &[Pack]) -> OwningPacks {
    let owns = |pack: &&Pack| pack.kinds.iter().any(|kind| kind.owns_within.is_some());
    let shared = |pack: &Pack| (Arc::clone(&pack.name), Arc::new(pack.clone()));
    let owning: HashMap<Arc<str>, Arc<Pack>> = packs.iter().filter(owns).map(shared).collect();
    let found = |probe: &Probe| {
        let pack = owning.get(&probe.function.object.as_ref()?.kind.library)?;
        Some((probe.object.as_ref()?.0, Arc::clone(pack)))
    };
    probes.iter().filter_map(found).collect()
}

/// Liveness checks for the caller-allocated objects that these probes see: fields that their pack describes.
fn liveness_checks(probes: &[Probe]) -> LivenessChecks {
    let check = |probe: &Probe| {
        let kind = &probe.function.object.as_ref().filter(|of| of.is_by_memory())?.kind;
        let pending = kind.only(FieldRole::Pending)?;
        let offset = |role| kind.only(role).map(|field| field.offset);
        let check = LivenessCheck {
            number: (pending.offset, pending.bytes),
            mask: pending.mask,
            word: offset(FieldRole::Callback),
            owner: offset(FieldRole::Owner),
        };
        Some((probe.number, check))
    };
    probes.iter().filter(|probe| probe.place.is_ok()).filter_map(check).collect()
}

/// What these probes' functions do to library objects.
fn object_uses(probes: &[Probe]) -> ObjectUses {
    let used = |probe: &Probe| Some((probe.number, Arc::clone(probe.function.object.as_ref()?)));
    probes.iter().filter(|probe| probe.place.is_ok()).filter_map(used).collect()
}
