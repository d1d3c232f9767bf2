//! Copies of the probed libraries, for the traced program only.
//!
//! A uprobe is attached to a file. On the system's files, the probes of two tools would slow down every process of the
//! machine, first of all the load clients.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{compile::is_current, target_dir};

/// Probed libraries, by prefix of the file name.
const PROBED: [&str; 5] = ["libc.so.", "libcrypto.", "libevent", "libssl.", "libzmq."];

/// Has `command` start its program with copies of the probed libraries. The copies stay, for other tests.
pub(super) fn libraries(command: &mut Command) -> Result<()> {
    let set = command.get_envs().find(|(name, _)| *name == "LD_LIBRARY_PATH");
    let own = set.and_then(|(_, value)| value).map(OsString::from).unwrap_or_default();
    let folder = target_dir().join("e2e/libraries");
    fs::create_dir_all(&folder)?;
    let folder = fs::canonicalize(folder)?;
    for library in needed(command.get_program().as_ref(), &own)? {
        let name = library.file_name().context("a library's name")?;
        let probed = |start: &&str| name.to_string_lossy().starts_with(*start);
        // Libraries unpacked from the package are already private.
        if !library.starts_with(target_dir()) && PROBED.iter().any(probed) {
            copy(&library, &folder.join(name))?;
        }
    }
    let folders = [folder].into_iter().chain(std::env::split_paths(&own));
    command.env("LD_LIBRARY_PATH", std::env::join_paths(folders)?);
    Ok(())
}

/// The libraries that the dynamic loader lists for `program`.
fn needed(program: &Path, libraries: &OsString) -> Result<Vec<PathBuf>> {
    let found = Command::new("which").arg(program).output()?.stdout;
    let program = String::from_utf8(found)?;
    let output = Command::new("ldd")
        .arg(program.trim())
        .env("LD_LIBRARY_PATH", libraries)
        .stderr(Stdio::inherit())
        .output()
        .context("could not run `ldd`")?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if is_current(to, &[from]) {
        return Ok(());
    }
    // Renamed once it is complete and on disk: another test may be starting a program with it.
    let unfinished = to.with_extension(std::process::id().to_string());
    fs::copy(from, &unfinished)?;
    File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, to)?;
    Ok(())
}
