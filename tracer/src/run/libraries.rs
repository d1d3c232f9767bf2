//! Functions of libraries that are about their objects: as probes have them, and as the programs are told of them.

use std::collections::HashSet;

use anyhow::Context as _;
use tracer_common::kind::Kind;

use crate::{
    kernel::Programs,
    packs::Pack,
    probes::{Function, Probe},
};

/// The functions of a pack that an object defines.
pub(super) fn of_objects(pack: &Pack, defined: &[&str]) -> Vec<Function> {
    let defined: HashSet<&str> = defined.iter().copied().collect();
    let functions = pack.functions(&|name| defined.contains(name)).into_iter();
    functions
        .map(|(name, shape, throws, of)| Function {
            name: name.into(),
            kind: Kind::Object,
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
