//! mimalloc to link into a program, compiled from sources that a crate carries: Debian packages only the shared
//! library.

use anyhow::{Context as _, Result};

use crate::{compile::build, fetched};

/// The flags of mimalloc's own build for its object file that overrides `malloc`.
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

/// The object file of a generation, `v2` or `v3`. Linked as an object, not from an archive, it overrides any other
/// `malloc`.
pub fn object(generation: &str) -> Result<String> {
    let folder =
        fetched::sources("mimalloc", "libmimalloc-sys")?.join("c_src/mimalloc").join(generation);
    let include = format!("-I{}", folder.join("include").display());
    let product = format!("mimalloc-{generation}.o");
    let flags = [&FLAGS[..], &[&include]].concat();
    let object = build("gcc", &product, &folder.join("src/static.c"), &flags, &[])?;
    object.into_os_string().into_string().ok().context("a path in UTF-8")
}
