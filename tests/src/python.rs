//! Programs in Python, and packages of the Python Package Index for them.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{target_dir, workspace};

/// Debian's, which the packages are for: a user may have another one before it.
const INTERPRETER: &str = "/usr/bin/python3";
/// Packages are what their hashes say; what they depend on is in the list, too. Of socketify there are
/// sources only, which have the library in them: Debian's own tools pack them.
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

/// Starts `tests/python/PROGRAM.py`, which finds packages in `site`.
pub fn program(name: &str, site: &Path) -> Command {
    let mut command = interpreter(site);
    command.arg(workspace().join(format!("tests/python/{name}.py")));
    command
}

/// The interpreter, which finds packages in `site`.
pub fn interpreter(site: &Path) -> Command {
    let mut command = Command::new(INTERPRETER);
    // Nothing of the user's own comes in, and none of our sources gets a folder beside it.
    command
        .env("PYTHONPATH", site)
        .env("PYTHONNOUSERSITE", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The folder of the packages that `tests/python/NAME.txt` lists, fetched the first time.
///
/// Tests may come at once: each installs into a folder of its own, and the renaming at the end is atomic.
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
