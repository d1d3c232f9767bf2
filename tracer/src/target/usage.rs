//! Resource usage of a process, a target or leaktrace itself: memory, CPU time, and file descriptors by type.
//!
//! Takes a process id, passes on figures from `/proc`. Reading them does not stop the process.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader},
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{Pid, peak_rss_bytes, rss_bytes};

/// Memory and open descriptors of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Its memory.
    pub memory: Usage,
    /// Numbers of its open file descriptors by type; `None` if they cannot be listed.
    pub fds: Option<BTreeMap<String, u64>>,
}

crate::tape::redact::plain!(ProcessUsage, OwnUsage);

/// The usage of a process; `None` if it has ended.
pub fn read(pid: Pid) -> Option<ProcessUsage> {
    Some(ProcessUsage { memory: memory(pid)?, fds: descriptors(pid) })
}

/// leaktrace's own usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnUsage {
    /// CPU time of all threads, seconds.
    pub cpu_s: f64,
    /// Resident memory, bytes.
    pub rss_bytes: Option<u64>,
    /// Peak resident memory, bytes.
    pub peak_rss_bytes: Option<u64>,
}

/// leaktrace's own usage until now.
pub fn own() -> OwnUsage {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    OwnUsage {
        cpu_s: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        rss_bytes: rss_bytes(Pid::own()),
        peak_rss_bytes: peak_rss_bytes(Pid::own()),
    }
}

/// Memory, bytes. `None` where the kernel reports no figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Resident memory.
    pub rss: Option<u64>,
    /// The anonymous part of it.
    pub anonymous: Option<u64>,
    /// The file-backed part of it.
    pub file: Option<u64>,
    /// The shared-memory part of it.
    pub shared: Option<u64>,
    /// Swapped-out memory.
    pub swapped: Option<u64>,
    /// Mapped private writable memory, resident or not.
    pub data: Option<u64>,
    /// The `brk` heap.
    pub brk: Option<u64>,
}

/// The memory usage of a process; `None` if it has ended.
pub fn memory(pid: Pid) -> Option<Usage> {
    let status = fs::read_to_string(pid.proc_path("status")).ok()?;
    let mut usage = parse(&status);
    usage.rss?;
    usage.brk = brk(pid);
    Some(usage)
}

/// CPU time of all threads of a process, nanoseconds, with a resolution of a hundredth of a second. `None` if it has
/// ended.
pub fn cpu_ns(pid: Pid) -> Option<u64> {
    let stat = super::open(pid).ok()?.stat().ok()?;
    let ticks = stat.utime + stat.stime;
    Some(ticks.saturating_mul(1_000_000_000) / procfs::ticks_per_second())
}

fn parse(status: &str) -> Usage {
    let mut usage = Usage::default();
    for line in status.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let figure = match key {
            "VmRSS" => &mut usage.rss,
            "RssAnon" => &mut usage.anonymous,
            "RssFile" => &mut usage.file,
            "RssShmem" => &mut usage.shared,
            "VmSwap" => &mut usage.swapped,
            "VmData" => &mut usage.data,
            _ => continue,
        };
        let kib = value.trim().strip_suffix("kB").and_then(|kib| kib.trim().parse::<u64>().ok());
        *figure = kib.map(|kib| kib.saturating_mul(1024));
    }
    usage
}

/// Size of the `brk` heap, bytes; 0 for a process that has none.
fn brk(pid: Pid) -> Option<u64> {
    let mut maps = BufReader::new(File::open(pid.proc_path("maps")).ok()?);
    let mut line = Vec::new();
    // The heap follows the executable, so the kernel need not generate the rest of the file.
    while maps.read_until(b'\n', &mut line).ok()? > 0 {
        if line.ends_with(b"[heap]\n") {
            let text = String::from_utf8_lossy(&line);
            let (start, end) = text.split(' ').next()?.split_once('-')?;
            let address = |text| u64::from_str_radix(text, 16).ok();
            return address(end)?.checked_sub(address(start)?);
        }
        line.clear();
    }
    Some(0)
}

/// Numbers of open file descriptors by type; `None` if they cannot be listed.
pub fn descriptors(pid: Pid) -> Option<BTreeMap<String, u64>> {
    let mut by_type = BTreeMap::new();
    for link in super::descriptors::list(pid)?.values() {
        *by_type.entry(type_name(link).to_owned()).or_default() += 1;
    }
    Some(by_type)
}

/// The type of a descriptor by its link: `socket:[1]`, `anon_inode:[eventfd]`, `/a/file`.
fn type_name(link: &str) -> &str {
    if let Some(kind) = link.strip_prefix("anon_inode:") {
        // Newer kernels number some of them.
        let kind = kind.trim_matches(['[', ']']);
        return if kind.is_empty() { "anon_inode" } else { kind };
    }
    if link.starts_with('/') {
        return if link.starts_with("/memfd:") { "memfd" } else { "file" };
    }
    link.split_once(':').map_or("other", |(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_types_are_found_from_links() {
        for (link, kind) in [
            ("socket:[4711]", "socket"),
            ("pipe:[12]", "pipe"),
            ("anon_inode:[eventfd]", "eventfd"),
            ("anon_inode:[eventpoll]", "eventpoll"),
            ("anon_inode:inotify", "inotify"),
            ("anon_inode:", "anon_inode"),
            ("/dev/null", "file"),
            ("/memfd:buffer (deleted)", "memfd"),
            ("net:[4026531840]", "net"),
            ("?", "other"),
        ] {
            assert_eq!(type_name(link), kind, "{link}");
        }
    }

    #[test]
    fn a_status_is_parsed_to_bytes_and_missing_lines_are_unknown() {
        let usage = parse("Name:\tx\nVmRSS:\t  100 kB\nRssAnon:\t 60 kB\nVmData:\t 7 kB\n");
        assert_eq!((usage.rss, usage.anonymous), (Some(102_400), Some(61_440)));
        assert_eq!((usage.data, usage.swapped, usage.brk), (Some(7168), None, None));
    }

    #[test]
    fn our_own_figures_follow_our_usage() {
        let before = memory(Pid::own()).unwrap();
        let memory_in_use = std::hint::black_box(vec![1_u8; 32 << 20]);
        let after = memory(Pid::own()).unwrap();
        let grown = after.anonymous.unwrap() - before.anonymous.unwrap();
        assert!(grown >= 31 << 20, "{grown}, {before:?}, {after:?}");
        drop(memory_in_use);
        let sockets = || descriptors(Pid::own()).unwrap().get("socket").copied().unwrap_or(0);
        let pair = std::os::unix::net::UnixStream::pair().unwrap();
        let open = sockets();
        drop(pair);
        assert!(open >= 2);
    }

    #[test]
    fn a_process_that_does_not_exist_has_no_figures() {
        assert_eq!(memory(Pid(u32::MAX)), None);
        assert_eq!(descriptors(Pid(u32::MAX)), None);
    }
}
