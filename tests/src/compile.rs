//! Compiles victims on demand, if the source is newer than the product.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};

use crate::{fetched::cargo, target_dir, workspace};

/// Keeps frame pointers and calls, and keeps the compiler from optimizing `malloc` away as a builtin.
const FLAGS: [&str; 10] = [
    "-O2",
    "-g",
    "-fno-omit-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-fno-builtin",
    "-fno-ipa-icf",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pthread",
];

/// Flags of a witness.
const SHARED: [&str; 7] =
    ["-O2", "-fno-builtin", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"];

/// Headers of victims; any victim may include any of them.
pub(crate) const HEADERS: [&str; 3] = ["victim", "connections", "leaks"];

/// Tests run in parallel and may compile the same victim: each compiles to a file of its own, and the rename is atomic,
/// so that no test starts a partial program.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Returns the compiled victim `name`.
pub fn victim(name: &str) -> Result<PathBuf> {
    victim_with(name, name, &[])
}

/// The victim `name` compiled as `product` with extra flags.
pub fn victim_with(name: &str, product: &str, flags: &[&str]) -> Result<PathBuf> {
    let sources = workspace().join("tests/victims");
    let c = sources.join(format!("{name}.c"));
    let cxx = sources.join(format!("{name}.cpp"));
    let (compiler, standard, source) =
        if c.exists() { ("gcc", "-std=gnu17", c) } else { ("g++", "-std=c++17", cxx) };
    let libraries: &[&str] = match name {
        "http_server" | "deep" | "leaks_libevent" => &["-levent"],
        "leaks_libzmq" | "queues_libzmq" => &["-lzmq"],
        "leaks_cares" => &["-lcares"],
        "leaks_uv" => &["-luv"],
        "tls_sessions" => &["-lssl", "-lcrypto"],
        "tls_server" | "leaks_openssl" => &["-levent", "-levent_openssl", "-lssl", "-lcrypto"],
        _ => &[],
    };
    build(compiler, product, &source, &[&[standard], &FLAGS[..], flags].concat(), libraries)
}

/// The victim `name` compiled as `product` with another compiler, extra flags, and libraries to link.
pub fn victim_by(
    compiler: &str,
    name: &str,
    product: &str,
    flags: &[&str],
    libraries: &[&str],
) -> Result<PathBuf> {
    let sources = workspace().join("tests/victims");
    let c = sources.join(format!("{name}.c"));
    let cxx = sources.join(format!("{name}.cpp"));
    let (standard, source) = if c.exists() { ("-std=gnu17", c) } else { ("-std=c++17", cxx) };
    build(compiler, product, &source, &[&[standard], &FLAGS[..], flags].concat(), libraries)
}

/// A victim in Rust, compiled as `product` with extra flags.
pub fn rust_victim(name: &str, product: &str, flags: &[&str]) -> Result<PathBuf> {
    let source = workspace().join(format!("tests/victims/{name}.rs"));
    let flags = [&["--edition=2024", "--crate-name", name], flags].concat();
    build("rustc", product, &source, &flags, &[])
}

/// The program of the package `tests/FOLDER`, built by cargo with its dependencies.
pub fn cargo_victim(folder: &str) -> Result<PathBuf> {
    let products = target_dir().join("victims/cargo");
    let output = cargo()
        .args(["build", "--release", "--locked", "--message-format=short", "--manifest-path"])
        .arg(workspace().join("tests").join(folder).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&products)
        .output()
        .context("could not run `cargo build`")?;
    if !output.status.success() {
        bail!("could not build `tests/{folder}`:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(products.join("release").join(folder))
}

/// The path of a static library, as the compiler finds it.
pub fn archive(name: &str) -> Result<String> {
    let output = Command::new("gcc").arg(format!("-print-file-name={name}")).output()?;
    let path = String::from_utf8(output.stdout)?.trim().to_owned();
    if !Path::new(&path).is_absolute() {
        bail!("no `{name}`; help: cargo xtask test installs it");
    }
    Ok(path)
}

/// The witness `preload_count` as a shared object.
pub fn witness() -> Result<PathBuf> {
    witness_with("libpreload_count.so", &[])
}

/// The witness that also counts library objects.
pub fn objects_witness() -> Result<PathBuf> {
    witness_with("libpreload_count_objects.so", &["-DCOUNT_OBJECTS"])
}

fn witness_with(product: &str, flags: &[&str]) -> Result<PathBuf> {
    let source = workspace().join("tests/victims/preload_count.c");
    build("gcc", product, &source, &[&SHARED, flags].concat(), &[])
}

/// The witness of the exam as a shared object.
pub fn exam_witness() -> Result<PathBuf> {
    let source = workspace().join("tests/exam/witness.c");
    build("gcc", "libexam_witness.so", &source, &SHARED, &[])
}

/// Flags of programs of the exam, compiled as servers are: optimized, without frame pointers.
const EXAM: [&str; 6] = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"];

/// A program of the exam, linked with these of its own shared objects.
pub(crate) fn exam_program(source: &Path, name: &str, linked: &[PathBuf]) -> Result<PathBuf> {
    let is_c = source.extension().is_some_and(|end| end == "c");
    let (compiler, standard) = if is_c { ("gcc", "-std=gnu11") } else { ("g++", "-std=c++17") };
    let linked: Vec<&str> = linked.iter().filter_map(|object| object.to_str()).collect();
    let product = format!("exam_{name}");
    build(compiler, &product, source, &[&[standard], &EXAM[..]].concat(), &linked)
}

/// A shared object of a program of the exam: its plugin, or a library that it is linked with. It is beside the program, and
/// its name begins with the program's.
pub(crate) fn exam_object(source: &Path, program: &str) -> Result<PathBuf> {
    let name = source.file_stem().unwrap_or_default().to_string_lossy();
    let product = format!("exam_{program}_{name}.so");
    let flags = [&["-std=gnu11", "-shared", "-fPIC"], &EXAM[..]].concat();
    build("gcc", &product, source, &flags, &[])
}

/// Compiles `source` to `product`, unless the product is up to date.
pub(crate) fn build(
    compiler: &str,
    product: &str,
    source: &Path,
    flags: &[&str],
    libraries: &[&str],
) -> Result<PathBuf> {
    let folder = target_dir().join("victims");
    fs::create_dir_all(&folder)?;
    let product_path = folder.join(product);
    let headers = headers(source)?;
    let archives = libraries.iter().map(Path::new).filter(|library| library.is_absolute());
    let headers_and_source = headers.iter().map(PathBuf::as_path).chain([source]);
    let sources: Vec<&Path> = headers_and_source.chain(archives).collect();
    if is_current(&product_path, &sources) {
        return Ok(product_path);
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let unfinished = folder.join(format!("{product}.{}.{number}", std::process::id()));
    let output = Command::new(compiler)
        .args(flags)
        .arg(source)
        .arg("-o")
        .arg(&unfinished)
        .args(libraries)
        .output()
        .with_context(|| {
            format!("could not run `{compiler}`; help: cargo xtask test installs it")
        })?;
    if !output.status.success() {
        bail!(
            "could not compile `{}`:\n{}",
            source.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::rename(&unfinished, &product_path)?;
    Ok(product_path)
}

/// Other files that a victim depends on: shared headers, and headers whose names start with the victim's name. Programs
/// of the exam share a header in the folder above, and their shared objects in the one above that.
fn headers(source: &Path) -> Result<Vec<PathBuf>> {
    let folder = source.parent().unwrap_or(Path::new("."));
    let name = source.file_stem().unwrap_or_default().to_string_lossy();
    let exam = ["../exam.h", "../../exam.h"].map(|header| folder.join(header));
    let mut found: Vec<PathBuf> = exam.into_iter().filter(|header| header.exists()).collect();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(header) = file.to_str().and_then(|file| file.strip_suffix(".h")) else { continue };
        if HEADERS.contains(&header) || header.starts_with(&format!("{name}_")) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether `product` is newer than all its sources.
pub(crate) fn is_current(product: &Path, sources: &[&Path]) -> bool {
    modified(product) > sources.iter().filter_map(|source| modified(source)).max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}
