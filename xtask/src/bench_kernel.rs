//! The cost of a tracer's BPF programs, from the kernel's own statistics.

use std::{collections::BTreeMap, fs, io, os::fd::OwnedFd};

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};

/// Run statistics of programs since they were loaded, while the kernel's statistics were enabled.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    /// Their run time, nanoseconds.
    pub ns: u64,
    /// Number of runs.
    pub hits: u64,
}

/// Enables the kernel's program statistics until dropped. They cost time (two clock readings per hit), so no other
/// figure may be measured meanwhile.
pub(crate) fn counting() -> Result<OwnedFd> {
    enable_stats(Stats::RunTime).context("could not enable statistics of BPF programs")
}

/// The statistics of all programs that this process holds.
pub(crate) fn of(pid: u32) -> Result<Work> {
    let folder = format!("/proc/{pid}/fdinfo");
    let mut programs = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("could not read `{folder}`"))? {
        match fs::read_to_string(entry?.path()) {
            Ok(text) => programs.extend(program(&text)),
            // The descriptor was closed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("could not read `{folder}`")),
        }
    }
    Ok(programs.values().fold(Work::default(), |sum, one| sum.plus(*one)))
}

impl Work {
    fn plus(self, other: Self) -> Self {
        Self { ns: self.ns + other.ns, hits: self.hits + other.hits }
    }

    /// Nanoseconds per hit since `before`; `None` without a hit.
    pub(crate) fn per_hit_since(self, before: Self) -> Option<f64> {
        let hits = self.hits.checked_sub(before.hits).filter(|hits| *hits > 0)?;
        Some(self.ns.checked_sub(before.ns)? as f64 / hits as f64)
    }
}

/// Id and statistics of the program behind a file descriptor; `None` for other files, including links to programs.
fn program(fdinfo: &str) -> Option<(u32, Work)> {
    let value = |key: &str| fdinfo.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let work =
        Work { ns: value("run_time_ns:")?.parse().ok()?, hits: value("run_cnt:")?.parse().ok()? };
    Some((value("prog_id:")?.parse().ok()?, work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_statistics_and_a_link_has_none() {
        let text = "pos:\t0\nflags:\t02000002\nprog_type:\t2\nprog_jited:\t1\nprog_id:\t91105\n\
                    run_time_ns:\t1200\nrun_cnt:\t4\nrecursion_misses:\t0\n";
        assert_eq!(program(text), Some((91105, Work { ns: 1200, hits: 4 })));
        assert_eq!(program("pos:\t0\nlink_type:\tperf\nlink_id:\t7\nprog_id:\t91105\n"), None);
    }

    #[test]
    fn work_per_hit_is_of_what_was_done_since() {
        let (before, after) = (Work { ns: 100, hits: 10 }, Work { ns: 700, hits: 12 });
        assert_eq!(after.per_hit_since(before), Some(300.0));
        assert_eq!(after.per_hit_since(after), None);
    }
}
