//! mimalloc to be linked into a program, compiled from the sources that a crate carries: Debian has it as a
//! shared library only.

use anyhow::{Context as _, Result};

use crate::{compile::build, fetched};

/// As mimalloc's own build makes its object for overriding `malloc`.
const FLAGS: [&str; 10] = [
    "-std=gnu11",
    "-O2",
    "-g",
    "-c",
    "-DMI_MALLOC_OVERRIDE",
    "-DMI_STATIC_LIB",
    "-DMI_BUILD_RELEASE",
    "-fvisibility=hidden",
    "-fno-builtin-malloc",
    "-ftls-model=initial-exec",
];

/// The object file of a generation, `v2` or `v3`. Linked as it is, not in an archive, it overrides `malloc`
/// whoever else has one.
pub fn object(generation: &str) -> Result<String> {
    let folder =
        fetched::sources("mimalloc", "libmimalloc-sys")?.join("c_src/mimalloc").join(generation);
    let include = format!("-I{}", folder.join("include").display());
    let product = format!("mimalloc-{generation}.o");
    let flags = [&FLAGS[..], &[&include]].concat();
    let object = build("gcc", &product, &folder.join("src/static.c"), &flags, &[])?;
    object.into_os_string().into_string().ok().context("a path in UTF-8")
}
