//! The committed tapes: those that are small.
//!
//! Takes recordings, copies some of them into `tests/exam/tapes`. It judges nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::recording::{Group, Recording};
use crate::workspace;

/// Largest committed tape: of a minute with some six hundred blocks a second that outlive a drain.
const MOST_BYTES: u64 = 1 << 20;

/// Bytes of the tapes of each group: 12 MiB together, which a clone of the repository can bear.
const fn most_bytes_together(group: Group) -> u64 {
    match group {
        Group::HeldOut => 2 << 20,
        Group::Open => 4 << 20,
        Group::Library => 6 << 20,
    }
}

/// The list of the others.
const LEFT_OUT: &str = "left_out.txt";

/// Where they are.
pub fn folder() -> PathBuf {
    workspace().join("tests/exam/tapes")
}

/// Names of the plays whose tapes are not committed, with their sizes.
pub fn left_out() -> Result<String> {
    Ok(fs::read_to_string(folder().join(LEFT_OUT))?)
}

/// Replaces the committed tapes by the small ones of these, the smallest first; returns the names of the others, and
/// writes them beside the tapes.
pub fn replace(recordings: &[Recording]) -> Result<String> {
    let mut by_size = Vec::new();
    for recording in recordings {
        // Before anything is replaced.
        recording.is_anonymous()?;
        by_size.push((fs::metadata(&recording.tape)?.len(), recording));
    }
    by_size.sort_by_key(|(bytes, _)| *bytes);
    let folder = folder();
    fs::create_dir_all(&folder)?;
    for old in Recording::all(&folder)? {
        fs::remove_file(&old.tape)?;
        fs::remove_file(old.tape.with_extension("json"))?;
    }
    let mut others = Vec::new();
    for group in Group::ALL {
        let mut sum = 0;
        for (bytes, recording) in by_size.iter().filter(|(_, one)| one.group == group) {
            sum += bytes;
            if *bytes > MOST_BYTES || sum > most_bytes_together(group) {
                others.push(format!("{} ({} KiB)", recording.name(), bytes.div_ceil(1024)));
                continue;
            }
            let name = recording.tape.file_name().context("a name")?;
            copy(&recording.tape, &folder.join(name))?;
            let truth = recording.tape.with_extension("json");
            copy(&truth, &folder.join(truth.file_name().context("a name")?))?;
        }
    }
    others.sort();
    let others = others.join("\n");
    fs::write(folder.join(LEFT_OUT), &others)?;
    Ok(others)
}

/// Copies what a file contains: the tape's mode is for its owner only.
fn copy(from: &Path, to: &Path) -> Result<()> {
    Ok(fs::write(to, fs::read(from)?)?)
}
