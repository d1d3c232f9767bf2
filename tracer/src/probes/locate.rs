//! Functions of the catalog → places in an object.
//!
//! Takes an object's bytes and the functions wanted, hands on a probe per function, attached or not. A
//! missing function is information, not a failure.

use std::collections::HashSet;

use super::{
    Absent, Function, Object, Probe, catalog,
    object::{Body, Functions, Target},
    place,
};

/// A longer function does more than to pass its request on.
const FORWARDER_BYTES: usize = 256;

/// Names of all functions that an object defines.
pub fn names(bytes: &[u8]) -> Vec<String> {
    let all = Functions::parse(bytes);
    all.iter().flat_map(Functions::names).map(str::to_owned).collect()
}

/// A probe for each function, numbered from `first`; those that are the same code as an earlier one
/// become its aliases, those that pass everything on to another are not probed. Only what has a place has
/// a number of its own.
pub fn locate(object: &Object<'_>, functions: &[Function], first: u8) -> Vec<Probe> {
    let parsed = Functions::parse(object.bytes);
    let found = |function: &Function| {
        parsed.as_ref().map_or(Err(Absent::Missing), |all| all.body(&function.name))
    };
    let known = Known::of(functions.iter().filter_map(|one| Some((one, found(one).ok()?))));
    let mut probes: Vec<Probe> = Vec::new();
    let mut next = first;
    for function in functions {
        let place = found(function).and_then(|body| {
            let passes_on =
                parsed.as_ref().is_some_and(|all| known.is_forwarder(function, &body, all));
            if passes_on {
                return Err(Absent::Forwards);
            }
            Ok(place::choose(body.code, body.offset, function.shape, function.arguments))
        });
        let same = |probe: &&mut Probe| matches!((&probe.place, &place), (Ok(one), Ok(other)) if one.offset == other.offset);
        if let Some(earlier) = probes.iter_mut().find(same) {
            earlier.aliases.push(function.name.clone());
            continue;
        }
        let (number, place) = match place {
            // The last number would leave no room for how many there are.
            Ok(_) if next == u8::MAX => {
                (0, Err(Absent::Refused("all numbers of probes are taken".to_owned())))
            }
            Ok(place) => {
                next += 1;
                (next - 1, Ok(place))
            }
            absent => (0, absent),
        };
        let object =
            (!matches!(place, Err(Absent::Missing))).then(|| (object.file, object.path.clone()));
        probes.push(Probe {
            number,
            function: function.clone(),
            aliases: Vec::new(),
            object,
            place,
        });
    }
    probes
}

/// The functions of one object that may be probed, to tell what others lead to.
struct Known<'a> {
    acquiring: (HashSet<&'a str>, HashSet<u64>),
    releasing: (HashSet<&'a str>, HashSet<u64>),
}

impl<'a> Known<'a> {
    fn of(functions: impl Iterator<Item = (&'a Function, Body<'a>)>) -> Self {
        let mut known = Self { acquiring: Default::default(), releasing: Default::default() };
        for (function, body) in functions {
            let only_releases = function.shape.releases() && !function.shape.needs_return();
            let kept = if only_releases { &mut known.releasing } else { &mut known.acquiring };
            kept.0.insert(&function.name);
            kept.1.insert(body.address);
        }
        known
    }

    /// Whether `function` leaves all its work to another that is probed: probed as well, a release would
    /// be seen twice, and a return probe on a throwing `operator new` would be in an exception's way.
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
    fn this_machines_libc_has_the_whole_family_at_cheap_places() {
        let (path, bytes) = own_libc();
        let object = Object { file: FileId { device: (0, 0), inode: 1 }, path, bytes: &bytes };
        let probes = locate(&object, &LIBC, 10);
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
        let numbers: Vec<u8> =
            probes.iter().filter(|probe| probe.place.is_ok()).map(|probe| probe.number).collect();
        assert_eq!(numbers, (10..10 + u8::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_that_run_out_are_said() {
        let (path, bytes) = own_libc();
        let object = Object { file: FileId { device: (0, 0), inode: 1 }, path, bytes: &bytes };
        let probes = locate(&object, &LIBC, 254);
        assert_eq!(probes.iter().filter(|probe| probe.place.is_ok()).count(), 1);
        assert!(probes.iter().any(|probe| matches!(probe.place, Err(Absent::Refused(_)))));
    }

    #[test]
    fn a_file_that_is_no_object_has_nothing() {
        let object = Object {
            file: FileId { device: (0, 0), inode: 1 },
            path: PathBuf::new(),
            bytes: b"#!/bin/sh\n",
        };
        assert!(locate(&object, &LIBC, 0).iter().all(|probe| probe.place == Err(Absent::Missing)));
    }
}
