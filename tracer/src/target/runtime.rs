//! Detects runtimes that move the stacks of their threads.
//!
//! Takes mapped objects, passes on the one with such a runtime. A return probe replaces a return address on the
//! stack; a runtime that copies or reads its stack then finds an address that it does not know, and aborts the
//! process. So such a process must not be probed at all.

use std::{fs::File, path::PathBuf};

use object::{Object as _, ObjectSection as _, ReadCache};

use super::{
    Pid,
    mappings::{Mappings, open_path},
};

/// Sections that Go's linker writes to programs and shared objects (`-buildmode=c-shared`). Each one alone identifies
/// Go, and stripping keeps the first two.
const GO_SECTIONS: [&str; 3] = [".go.buildinfo", ".note.go.buildid", ".gopclntab"];

/// The path of the first object of a process whose runtime moves stacks, as the process sees it.
pub fn moving_stacks(pid: Pid, mappings: &Mappings) -> Option<PathBuf> {
    mappings
        .objects()
        .into_iter()
        .find(|object| File::open(open_path(pid, object.code)).is_ok_and(is_go))
        .map(|object| object.path.to_owned())
}

/// Reads the section headers only.
fn is_go(file: File) -> bool {
    let cache = ReadCache::new(file);
    let Ok(file) = object::File::parse(&cache) else { return false };
    file.sections().any(|section| section.name().is_ok_and(|name| GO_SECTIONS.contains(&name)))
}
