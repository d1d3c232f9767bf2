//! Python programs, and packages of the Python Package Index for them.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{target_dir, workspace};

/// Debian's interpreter, which the packages are for: the user's PATH may have another one first.
const INTERPRETER: &str = "/usr/bin/python3";
/// Hashes pin the packages; the list includes dependencies. socketify has only a source distribution, which contains
/// the library: Debian's own tools build it.
const INSTALL: [&str; 12] = [
    "-m",
    "pip",
    "install",
    "--quiet",
    "--no-deps",
    "--no-build-isolation",
    "--require-hashes",
    "--no-compile",
    "--only-binary",
    ":all:",
    "--no-binary",
    "socketify",
];

/// Starts `tests/python/PROGRAM.py` with the packages in `site`.
pub fn program(name: &str, site: &Path) -> Command {
    let mut command = interpreter(site);
    command.arg(workspace().join(format!("tests/python/{name}.py")));
    command
}

/// The interpreter with the packages in `site`.
pub fn interpreter(site: &Path) -> Command {
    let mut command = Command::new(INTERPRETER);
    // Ignores the user's own packages, and writes no bytecode folder next to our sources.
    command
        .env("PYTHONPATH", site)
        .env("PYTHONNOUSERSITE", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The folder of the packages that `tests/python/NAME.txt` lists, fetched the first time.
///
/// Tests may call this concurrently: each installs into a folder of its own, and the final rename is atomic.
pub fn packages(name: &str) -> Result<PathBuf> {
    let list = workspace().join(format!("tests/python/{name}.txt"));
    let text = fs::read_to_string(&list)
        .with_context(|| format!("could not read `{}`", list.display()))?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let folder = target_dir().join("e2e/python");
    fs::create_dir_all(&folder)?;
    let site = fs::canonicalize(&folder)?.join(format!("{name}-{:016x}", hasher.finish()));
    if site.is_dir() {
        return Ok(site);
    }
    let unfinished = site.with_extension(std::process::id().to_string());
    let output = Command::new(INTERPRETER)
        .args(INSTALL)
        .arg("--target")
        .arg(&unfinished)
        .arg("--requirement")
        .arg(&list)
        .output()
        .with_context(|| format!("could not run `{INTERPRETER}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "pip; help: cargo xtask test installs it:\n{said}");
    // Another test may have been faster, with the same files.
    if let Err(error) = fs::rename(&unfinished, &site) {
        fs::remove_dir_all(&unfinished)?;
        ensure!(site.is_dir(), "could not rename `{}`: {error}", unfinished.display());
    }
    Ok(site)
}
