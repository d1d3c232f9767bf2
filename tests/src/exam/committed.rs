//! The committed tapes: those that are small.
//!
//! Takes recordings, copies some of them into `tests/exam/tapes`. It judges nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
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
        Group::HeldOut => 13 << 17,
        Group::Open => 5 << 20,
        Group::Library => 43 << 17,
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
/// writes them beside the tapes. With `of_some`, these are some of all plays, and those of the others are weighed as they
/// are.
pub fn replace(recordings: &[Recording], of_some: bool) -> Result<String> {
    for recording in recordings {
        // Before anything is replaced.
        recording.is_anonymous()?;
    }
    let folder = folder();
    fs::create_dir_all(&folder)?;
    let played: BTreeSet<String> = recordings.iter().map(Recording::name).collect();
    let mut kept = Vec::new();
    for old in Recording::all(&folder)? {
        if of_some && !played.contains(&old.name()) {
            kept.push(old);
        } else {
            remove(&old)?;
        }
    }
    let mut others = BTreeMap::new();
    if of_some && folder.join(LEFT_OUT).exists() {
        let listed = left_out()?;
        let listed = listed.lines().filter_map(|line| line.split_once(' '));
        others.extend(listed.map(|(name, size)| (name.to_owned(), size.to_owned())));
        others.retain(|name, _| !played.contains(name));
    }
    let mut by_size = Vec::new();
    for recording in recordings.iter().chain(&kept) {
        by_size.push((fs::metadata(&recording.tape)?.len(), recording));
    }
    by_size.sort_by_key(|(bytes, _)| *bytes);
    for group in Group::ALL {
        let mut sum = 0;
        for (bytes, recording) in by_size.iter().filter(|(_, one)| one.group == group) {
            sum += bytes;
            let is_committed = recording.tape.parent() == Some(&folder);
            if *bytes > MOST_BYTES || sum > most_bytes_together(group) {
                others.insert(recording.name(), format!("({} KiB)", bytes.div_ceil(1024)));
                if is_committed {
                    remove(recording)?;
                }
            } else if !is_committed {
                for file in [recording.tape.clone(), recording.tape.with_extension("json")] {
                    copy(&file, &folder.join(file.file_name().context("a name")?))?;
                }
            }
        }
    }
    let others: Vec<_> = others.iter().map(|(name, size)| format!("{name} {size}")).collect();
    let others = others.join("\n");
    fs::write(folder.join(LEFT_OUT), &others)?;
    Ok(others)
}

/// Removes a tape and its truth.
fn remove(recording: &Recording) -> Result<()> {
    fs::remove_file(&recording.tape)?;
    Ok(fs::remove_file(recording.tape.with_extension("json"))?)
}

/// Copies what a file contains: the tape's mode is for its owner only.
fn copy(from: &Path, to: &Path) -> Result<()> {
    Ok(fs::write(to, fs::read(from)?)?)
}
