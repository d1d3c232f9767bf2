//! Checks whether the dynamic loader has loaded a program's C library. Pure.

use crate::{
    format::file_name,
    target::{
        LIBC_NAMES,
        mappings::{MappedObject, Mappings},
    },
};

fn starts_with_any(object: &MappedObject<'_>, starts: &[&str]) -> bool {
    let path = object.path.to_string_lossy();
    starts.iter().any(|start| file_name(&path).starts_with(start))
}

/// Whether a program that is being loaded has its allocator: its libc, or no dynamic loader at all.
pub(super) fn is_loaded(mappings: &Mappings) -> bool {
    let objects = mappings.objects();
    let is_libc = |object: &MappedObject<'_>| starts_with_any(object, &LIBC_NAMES);
    let loader = |object: &MappedObject<'_>| starts_with_any(object, &["ld-linux", "ld-2."]);
    !objects.is_empty() && (objects.iter().any(is_libc) || !objects.iter().any(loader))
}
