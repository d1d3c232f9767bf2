//! Programs of Debian packages, unpacked into a folder of the tests.
//!
//! Nothing is installed: no maintainer script runs and no service starts, so running the tests leaves no tor service on
//! a developer's machine.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::target_dir;

/// The files of a package and of its dependencies that this machine lacks.
#[derive(Debug, Clone)]
pub struct Unpacked {
    root: PathBuf,
}

/// The packages `names` with their dependencies, fetched the first time.
///
/// Tests may call this concurrently: each unpacks into a folder of its own, and the final rename is atomic. apt's own
/// lock is not taken, since nothing is installed.
pub fn debian(names: &[&str]) -> Result<Unpacked> {
    let folder = target_dir().join("e2e/debian");
    let root = folder.join(names.join("+"));
    if root.is_dir() {
        return Ok(Unpacked { root });
    }
    let unfinished = folder.join(format!("{}.{}", names.join("+"), std::process::id()));
    let archives = unfinished.with_extension("archives");
    let outcome = fetch(names, &archives).and_then(|()| unpack(&archives, &unfinished));
    // Missing if apt failed before it created the folder.
    drop(fs::remove_dir_all(&archives));
    outcome?;
    // Another test may have been faster, with the same files.
    if let Err(error) = fs::rename(&unfinished, &root) {
        fs::remove_dir_all(&unfinished)?;
        ensure!(root.is_dir(), "could not rename `{}`: {error}", unfinished.display());
    }
    Ok(Unpacked { root })
}

/// Fetches the packages of each list ahead of time: a server's network namespace leads nowhere.
pub fn fetch_all(lists: &[&[&str]]) -> Result<()> {
    // apt has one lock.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    lists.iter().try_for_each(|names| debian(names).map(drop))
}

impl Unpacked {
    /// A file, by its path in the package.
    pub fn path(&self, path: &str) -> Result<PathBuf> {
        let found = self.root.join(path.trim_start_matches('/'));
        if !found.exists() {
            bail!("no `{path}` in `{}`", self.root.display());
        }
        Ok(found)
    }

    /// `LD_LIBRARY_PATH` for the package's programs.
    pub fn libraries(&self) -> Result<OsString> {
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        let folders = ["usr/lib", "lib"].map(|folder| self.root.join(folder).join(&triplet));
        Ok(std::env::join_paths(folders)?)
    }
}

/// Has apt download the packages into `archives`. The named ones are downloaded even if they are installed, so that the
/// result does not depend on the machine.
fn fetch(names: &[&str], archives: &Path) -> Result<()> {
    fs::create_dir_all(archives.join("partial"))?;
    let mut cache = OsString::from("Dir::Cache::archives=");
    cache.push(fs::canonicalize(archives)?);
    let words = [
        "install",
        "-y",
        "--reinstall",
        "--no-install-recommends",
        "--download-only",
        "-o",
        "Debug::NoLocking=true",
        // Another user's folder, which apt's own user cannot enter.
        "-o",
        "APT::Sandbox::User=root",
        "-o",
    ];
    let mut arguments: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    arguments.push(&cache);
    arguments.extend(names.iter().map(OsStr::new));
    if apt(&arguments).is_err() {
        // The package lists may be out of date.
        apt(&[OsStr::new("update")])?;
        apt(&arguments)?;
    }
    Ok(())
}

fn apt(arguments: &[&OsStr]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("could not run `apt-get`; help: these tests need a Debian")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "apt-get {arguments:?}:\n{said}");
    Ok(())
}

fn unpack(archives: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    for entry in fs::read_dir(archives)? {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("deb")) {
            continue;
        }
        let output = Command::new("dpkg").arg("-x").arg(&path).arg(root).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "could not unpack `{}`: {said}", path.display());
    }
    Ok(())
}
