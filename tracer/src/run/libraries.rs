//! Functions of libraries that are about their objects: as probes have them, and as the programs are told of them.

use std::collections::HashSet;

use anyhow::Context as _;
use tracer_common::kind::ResourceKind;

use crate::{
    collect::caller_allocated::{LivenessCheck, LivenessChecks},
    format::hex,
    kernel::Programs,
    packs::{FieldRole, ObjectFile, Pack},
    probes::{Function, Probe},
};

/// The functions of these packs that an object defines.
pub(super) fn of_objects(
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

/// Tells the programs what the functions do that are about objects, before the first hit. `told` is how many `probes` they
/// know already.
pub(super) fn describe(
    programs: &mut Programs,
    probes: &[Probe],
    told: &mut usize,
) -> anyhow::Result<()> {
    for probe in probes.iter().skip(*told).filter(|probe| probe.place.is_ok()) {
        if let Some(of) = &probe.function.object {
            programs
                .describe(probe.number, of.function)
                .context("could not tell the programs what a library's functions do")?;
        }
    }
    *told = probes.len();
    Ok(())
}

/// How objects that some of these probes see placed tell that they are there: by fields that their pack knows.
pub(super) fn signs(probes: &[Probe]) -> LivenessChecks {
    let sign = |probe: &Probe| {
        let kind = &probe.function.object.as_ref().filter(|of| of.is_by_memory())?.kind;
        let waits = kind.only(FieldRole::Pending)?;
        let offset = |role| kind.only(role).map(|field| field.offset);
        let sign = LivenessCheck {
            number: (waits.offset, waits.bytes),
            mask: waits.mask,
            word: offset(FieldRole::Callback),
            owner: offset(FieldRole::Owner),
        };
        Some((probe.number, sign))
    };
    probes.iter().filter(|probe| probe.place.is_ok()).filter_map(sign).collect()
}
