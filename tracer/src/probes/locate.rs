//! Functions of the catalog → places in an object.
//!
//! Takes an object's bytes, hands on a probe per function, attached or not. A missing function is
//! information, not a failure.

use std::{collections::HashMap, path::PathBuf};

use object::{Object as _, ObjectSegment as _, ObjectSymbol as _, Symbol, SymbolKind};

use super::{Absent, Function, Probe, place};
use crate::target::mappings::FileId;

/// Code bytes of a function looked at when its symbol has no size.
const UNSIZED_BYTES: u64 = 512;

/// An object file, open for reading.
pub struct Object<'data> {
    /// Which file it is.
    pub file: FileId,
    /// Its path as the target sees it.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: &'data [u8],
}

/// Whether the object defines `malloc` and `free`.
pub fn provides_allocator(bytes: &[u8]) -> bool {
    let Ok(file) = object::File::parse(bytes) else {
        return false;
    };
    let defined = defined_functions(&file);
    ["malloc", "free"].iter().all(|name| defined.contains_key(name))
}

/// A probe for each function, numbered from `first`; those that are the same code as an earlier one
/// become its aliases.
pub fn locate(object: &Object<'_>, functions: &'static [Function], first: u8) -> Vec<Probe> {
    let file = object::File::parse(object.bytes).ok();
    let defined = file.as_ref().map(defined_functions).unwrap_or_default();
    let mut probes: Vec<Probe> = Vec::new();
    for function in functions {
        let found = file.as_ref().zip(defined.get(function.name));
        let place = match found.map(|(file, symbol)| code_of(file, *symbol)) {
            None => Err(Absent::Missing),
            Some(None) => Err(Absent::Refused("its code is not in the file".to_owned())),
            Some(Some((offset, code))) => {
                Ok(place::choose(code, offset, function.shape, function.arguments))
            }
        };
        let same = |probe: &&mut Probe| matches!((&probe.place, &place), (Ok(one), Ok(other)) if one.offset == other.offset);
        if let Some(earlier) = probes.iter_mut().find(same) {
            earlier.aliases.push(function.name);
            continue;
        }
        let number = first.saturating_add(u8::try_from(probes.len()).unwrap_or(u8::MAX));
        let object = place.is_ok().then(|| (object.file, object.path.clone()));
        probes.push(Probe { number, function, aliases: Vec::new(), object, place });
    }
    probes
}

/// Address and size of every function that the object defines, by name without its version.
/// The dynamic table wins: it is what the dynamic linker binds callers to.
fn defined_functions<'data>(file: &object::File<'data>) -> HashMap<&'data str, (u64, u64)> {
    let mut defined = HashMap::new();
    let mut add = |symbol: &Symbol<'data, '_>| {
        if symbol.is_undefined() || symbol.kind() != SymbolKind::Text || symbol.address() == 0 {
            return;
        }
        if let Ok(name) = symbol.name() {
            let name = name.split('@').next().unwrap_or(name);
            defined.entry(name).or_insert((symbol.address(), symbol.size()));
        }
    };
    file.dynamic_symbols().for_each(|symbol| add(&symbol));
    file.symbols().filter(object::ObjectSymbol::is_global).for_each(|symbol| add(&symbol));
    defined
}

/// Offset in the file and code of the function at `address`.
fn code_of<'data>(
    file: &object::File<'data>,
    (address, size): (u64, u64),
) -> Option<(u64, &'data [u8])> {
    let segment = file.segments().find(|segment| {
        address >= segment.address() && address - segment.address() < segment.size()
    })?;
    let (start, length) = segment.file_range();
    let within = address - segment.address();
    let wanted = if size == 0 { UNSIZED_BYTES } else { size };
    let code = segment.data_range(address, wanted.min(length.checked_sub(within)?)).ok()??;
    Some((start + within, code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::catalog::LIBC;

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
        assert!(provides_allocator(&bytes));
        let object = Object { file: FileId { device: (0, 0), inode: 1 }, path, bytes: &bytes };
        let probes = locate(&object, &LIBC, 10);
        let on = |name: &str| {
            probes
                .iter()
                .find(|probe| probe.function.name == name || probe.aliases.contains(&name))
                .and_then(|probe| probe.place.as_ref().ok().map(|place| (probe.number, *place)))
        };
        for name in ["malloc", "calloc", "realloc", "free", "posix_memalign", "memalign"] {
            assert!(on(name).is_some_and(|(_, place)| place.emulated), "{name}: {:?}", on(name));
        }
        for name in ["reallocarray", "munmap", "mremap", "mmap", "valloc", "pvalloc"] {
            assert!(on(name).is_some(), "{name}");
        }
        let numbers: Vec<u8> = probes.iter().map(|probe| probe.number).collect();
        assert_eq!(numbers, (10..10 + u8::try_from(probes.len()).unwrap()).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_is_no_object_has_nothing() {
        assert!(!provides_allocator(b"#!/bin/sh\n"));
    }
}
