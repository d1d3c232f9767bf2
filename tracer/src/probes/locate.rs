//! Locates functions of the catalog in an object.
//!
//! Takes an object's bytes and the wanted functions, passes on a probe per function, with or without a place. A missing
//! function is information, not a failure.

use std::collections::HashSet;

use tracer_common::{attach::ProbeNumber, limits::PROBES};

use super::{
    Absent, Function, Object, Outcome, Probe, Role, Why, catalog,
    object::{Body, Functions, Target},
    returns,
};
use crate::arch::{Architecture as _, Host};

/// Size limit of a forwarding function: a longer one does more than call another one.
const FORWARDER_BYTES: usize = 256;

/// A probe for each function that `wanted` returns, given the functions that the object defines and its build ID.
/// Probes are numbered from `first`, releases first; only those with a place have a number of their own. A function
/// with the same code as an earlier one becomes its alias; one that only forwards to another one is not probed.
/// `without` is why no function may have a return probe, if so.
pub fn locate(
    object: &Object<'_>,
    wanted: impl FnOnce(&[&str], Option<&[u8]>) -> Vec<Function>,
    first: ProbeNumber,
    without: Option<Why>,
) -> Vec<Probe> {
    let parsed = Functions::parse(object.bytes);
    let names: Vec<&str> = parsed.iter().flat_map(Functions::names).collect();
    let functions = wanted(&names, parsed.as_ref().and_then(Functions::build_id));
    let found = |function: &Function| {
        parsed.as_ref().map_or(Err(Absent::Missing), |all| all.body(&function.name))
    };
    let allocator = functions.iter().filter(|one| one.object.is_none());
    let known = Known::of(allocator.filter_map(|one| Some((one, found(one).ok()?))));
    let mut probes: Vec<Probe> = Vec::new();
    for function in &functions {
        let mut function = function.clone();
        let mut outcome = Outcome::None;
        let place = found(&function).and_then(|body| {
            let all = parsed.as_ref().ok_or(Absent::Missing)?;
            if function.object.is_none() && known.is_forwarder(&function, &body, all) {
                return Err(Absent::Forwards);
            }
            // The code may throw under another name.
            function.throws |= known.throwing.contains(&body.address);
            let mut place = Host::place(body.code, body.offset, &function.uses())
                .map_err(|unsupported| Absent::Refused(unsupported.to_string()))?;
            outcome = known.outcome(&function, &body, all, without)?;
            if function.is_by_first_block()
                && !place.emulated
                && let Some(cheap) = Host::deeper_place(body.code, body.offset, &function.uses())
            {
                (place, outcome) = (cheap, Outcome::FirstBlock);
            }
            // The kernel single-steps return instructions.
            place.emulated &= !matches!(outcome, Outcome::Instructions(..));
            Ok(place)
        });
        let same = |probe: &&mut Probe| matches!((&probe.place, &place), (Ok(one), Ok(other)) if one.offset == other.offset);
        if let Some(earlier) = probes.iter_mut().find(same) {
            earlier.aliases.push(function.name);
            continue;
        }
        let object =
            (!matches!(place, Err(Absent::Missing))).then(|| (object.file, object.path.clone()));
        let aliases = Vec::new();
        probes.push(Probe { number: 0, function, aliases, object, place, outcome });
    }
    number(&mut probes, first);
    probes
}

/// Numbers the probes that have a place. If numbers run out, acquisitions are left out before releases.
fn number(probes: &mut [Probe], first: ProbeNumber) {
    let mut next = first;
    for role in Role::ALL {
        let of_role = |probe: &&mut Probe| Role::of(&probe.function) == role;
        for probe in probes.iter_mut().filter(of_role).filter(|probe| probe.place.is_ok()) {
            if u32::from(next) < PROBES {
                probe.number = next;
                next += 1;
            } else {
                let why = format!("{PROBES} functions are probed already, which is the maximum");
                probe.place = Err(Absent::Refused(why));
            }
        }
    }
}

/// The allocator functions of one object, to recognize functions that forward to them.
struct Known<'a> {
    acquiring: (HashSet<&'a str>, HashSet<u64>),
    releasing: (HashSet<&'a str>, HashSet<u64>),
    throwing: HashSet<u64>,
}

impl<'a> Known<'a> {
    fn of(functions: impl Iterator<Item = (&'a Function, Body<'a>)>) -> Self {
        let mut known = Self {
            acquiring: Default::default(),
            releasing: Default::default(),
            throwing: HashSet::new(),
        };
        for (function, body) in functions {
            let only_releases = function.shape.releases() && !function.shape.needs_return();
            let kept = if only_releases { &mut known.releasing } else { &mut known.acquiring };
            kept.0.insert(&function.name);
            kept.1.insert(body.address);
            if function.throws {
                known.throwing.insert(body.address);
            }
        }
        known
    }

    /// How the probes learn the outcome of `function`.
    fn outcome(
        &self,
        function: &Function,
        body: &Body<'_>,
        all: &Functions<'_>,
        without: Option<Why>,
    ) -> Result<Outcome, Absent> {
        if !function.shape.needs_return() {
            return Ok(Outcome::None);
        }
        let Some(why) = function.throws.then_some(Why::Throws).or(without) else {
            return Ok(Outcome::ReturnProbe);
        };
        let seen = |name: &str| self.acquiring.0.contains(name);
        match returns::of(all, body.address, seen) {
            Ok(ends) => Ok(Outcome::Instructions(ends, why)),
            Err(cannot) => Err(Absent::Refused(format!(
                "its return instructions cannot all be found: {cannot}; {}",
                why.no_return_probe(),
            ))),
        }
    }

    /// Whether `function` only forwards to another one that is probed. A probe on both would see a release twice, and a
    /// return probe on a throwing `operator new` would stop its exception.
    fn is_forwarder(&self, function: &Function, body: &Body<'_>, all: &Functions<'_>) -> bool {
        let leads_to = |(names, addresses): &(HashSet<&str>, HashSet<u64>), target: &Target<'_>| {
            match target {
                Target::Import(name) => names.contains(name),
                Target::Code(address) => *address != body.address && addresses.contains(address),
            }
        };
        if catalog::is_operator_new(function) {
            return all.branches_out(body).iter().any(|target| leads_to(&self.acquiring, target));
        }
        if function.shape.needs_return() || body.code.len() > FORWARDER_BYTES {
            return false;
        }
        let targets = all.branches_out(body);
        let own = |target: &Target<'_>| {
            matches!(target, Target::Code(_)) && !leads_to(&self.releasing, target)
        };
        targets.iter().any(|target| leads_to(&self.releasing, target)) && !targets.iter().any(own)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{probes::catalog::LIBC, target::mappings::FileId};

    fn own_libc() -> (PathBuf, Vec<u8>) {
        let maps = crate::target::mappings::read(crate::target::Pid::own()).unwrap();
        let libc = maps
            .objects()
            .into_iter()
            .find(|object| object.path.to_string_lossy().contains("libc.so"))
            .unwrap();
        (libc.path.to_owned(), std::fs::read(libc.path).unwrap())
    }

    #[test]
    fn the_hosts_libc_has_the_whole_family_at_cheap_places() {
        let (path, bytes) = own_libc();
        let object = Object { file: FileId { device: (0, 0), inode: 1 }, path, bytes: &bytes };
        let probes = locate(&object, |_, _| LIBC.to_vec(), 10, None);
        let on = |name: &str| {
            probes
                .iter()
                .find(|probe| {
                    probe.function.name == name || probe.aliases.iter().any(|one| one == name)
                })
                .and_then(|probe| probe.place.as_ref().ok().map(|place| (probe.number, *place)))
        };
        for name in ["malloc", "calloc", "realloc", "free", "posix_memalign", "memalign"] {
            assert!(on(name).is_some_and(|(_, place)| place.emulated), "{name}: {:?}", on(name));
        }
        for name in ["reallocarray", "munmap", "mremap", "mmap", "valloc", "pvalloc"] {
            assert!(on(name).is_some(), "{name}");
        }
        let mut numbers: Vec<ProbeNumber> =
            probes.iter().filter(|probe| probe.place.is_ok()).map(|probe| probe.number).collect();
        numbers.sort_unstable();
        let count = ProbeNumber::try_from(numbers.len()).unwrap();
        assert_eq!(numbers, (10..10 + count).collect::<Vec<_>>());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn all_return_instructions_of_the_hosts_libc_are_found() {
        let (path, bytes) = own_libc();
        let object = Object { file: FileId { device: (0, 0), inode: 1 }, path, bytes: &bytes };
        let probes = locate(&object, |_, _| LIBC.to_vec(), 0, Some(Why::Requested));
        for probe in probes.iter().filter(|probe| probe.place != Err(Absent::Missing)) {
            let place = probe.place.as_ref().unwrap();
            let Outcome::Instructions(ends, Why::Requested) = &probe.outcome else {
                assert!(!probe.function.shape.needs_return(), "{probe:?}");
                continue;
            };
            assert!(!place.emulated && probe.function.shape.needs_return());
            for end in ends {
                // ret, ret n, jmp, or one of these after a prefix
                let at = &bytes[usize::try_from(end.offset).unwrap()..];
                let code = at.iter().find(|byte| !matches!(byte, 0xf2 | 0xf3)).unwrap();
                let is_end =
                    matches!((end.first_argument, code), (false, 0xc3 | 0xc2) | (true, 0xe9));
                assert!(is_end, "{}: {end:?}", probe.function.name);
            }
        }
    }

    #[test]
    fn functions_beyond_the_last_number_are_refused() {
        let (path, bytes) = own_libc();
        let object = Object { file: FileId { device: (0, 0), inode: 1 }, path, bytes: &bytes };
        let first = ProbeNumber::try_from(PROBES).unwrap() - 1;
        let probes = locate(&object, |_, _| LIBC.to_vec(), first, None);
        let on: Vec<_> = probes.iter().filter(|probe| probe.place.is_ok()).collect();
        assert_eq!(on.len(), 1);
        assert_eq!(on[0].function.name, "free", "releases come first");
        assert!(probes.iter().any(|probe| matches!(probe.place, Err(Absent::Refused(_)))));
    }

    #[test]
    fn a_file_that_is_not_an_object_defines_nothing() {
        let object = Object {
            file: FileId { device: (0, 0), inode: 1 },
            path: PathBuf::new(),
            bytes: b"#!/bin/sh\n",
        };
        assert!(
            locate(&object, |_, _| LIBC.to_vec(), 0, None)
                .iter()
                .all(|probe| probe.place == Err(Absent::Missing))
        );
    }
}
