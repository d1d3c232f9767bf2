//! The committed tapes: those that are small.
//!
//! Takes recordings, copies some of them into `tests/exam/tapes`. It judges nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::recording::Recording;
use crate::workspace;

/// Largest committed tape: a play of a minute with fewer than some two hundred blocks a second that outlive a drain.
const MOST_BYTES: u64 = 300 << 10;
/// All of them together: what a clone of the repository can bear.
const MOST_BYTES_TOGETHER: u64 = 12 << 20;

/// Where they are.
pub fn folder() -> PathBuf {
    workspace().join("tests/exam/tapes")
}

/// Replaces the committed tapes by the small ones of these, the smallest first; returns the names of the others.
pub fn replace(recordings: &[Recording]) -> Result<Vec<String>> {
    let folder = folder();
    fs::create_dir_all(&folder)?;
    for old in Recording::all(&folder)? {
        fs::remove_file(&old.tape)?;
        fs::remove_file(old.tape.with_extension("json"))?;
    }
    let mut by_size = Vec::new();
    for recording in recordings {
        by_size.push((fs::metadata(&recording.tape)?.len(), recording));
    }
    by_size.sort_by_key(|(bytes, _)| *bytes);
    let (mut sum, mut others) = (0, Vec::new());
    for (bytes, recording) in by_size {
        sum += bytes;
        if bytes > MOST_BYTES || sum > MOST_BYTES_TOGETHER {
            others.push(format!("{} ({} KiB)", recording.name(), bytes.div_ceil(1024)));
            continue;
        }
        recording.is_anonymous()?;
        let name = recording.tape.file_name().context("a name")?;
        copy(&recording.tape, &folder.join(name))?;
        let truth = recording.tape.with_extension("json");
        copy(&truth, &folder.join(truth.file_name().context("a name")?))?;
    }
    Ok(others)
}

/// Copies what a file contains: the tape's mode is for its owner only.
fn copy(from: &Path, to: &Path) -> Result<()> {
    Ok(fs::write(to, fs::read(from)?)?)
}
