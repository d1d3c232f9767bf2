//! Limits that several processes share: those of their control groups, of their users, and of the system.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use procfs::{
    Current as _, LoadAverage, Meminfo, ProcessCGroups,
    process::{LimitValue, Process, Status},
};

use super::{
    Bounded, LimitedBy,
    cgroup::{Groups, Hierarchies},
};
use crate::target::{Pid, open};

/// Counting a user's threads reads every process of the system.
const USERS_EVERY: Duration = Duration::from_secs(10);
/// The system's file table matters when a tenth of it is used: it is thousands of times larger than any process's.
const FILES_SHARE: u64 = 10;
/// The capabilities that lift the limit of a user's threads: `CAP_SYS_ADMIN` and `CAP_SYS_RESOURCE`.
const LIFTING: u64 = 1 << 21 | 1 << 24;

/// Reads what processes share, and remembers what is read seldom.
#[derive(Debug, Default)]
pub struct SharedReader {
    hierarchies: Option<Hierarchies>,
    /// Threads by user, and when they are counted again.
    users: Option<(Instant, Vec<Bounded>)>,
}

impl SharedReader {
    /// The limits that these processes share with each other and with the rest of the system.
    pub fn read(&mut self, pids: &[Pid]) -> Vec<Bounded> {
        let processes: Vec<Process> = pids.iter().filter_map(|pid| open(*pid).ok()).collect();
        let hierarchies = self.hierarchies.get_or_insert_with(|| {
            let mounts = Process::myself().and_then(|own| own.mountinfo());
            mounts.map(|mounts| Hierarchies::new(&mounts)).unwrap_or_default()
        });
        let mut groups = Groups::default();
        for process in &processes {
            if let Ok(ProcessCGroups(of)) = process.cgroups() {
                hierarchies.add(&of, &mut groups);
            }
        }
        let mut limits = groups.limits();
        let now = Instant::now();
        let users = self.users.take().filter(|(next, _)| now < *next);
        let users = users.unwrap_or_else(|| (now + USERS_EVERY, user_threads(&processes)));
        limits.extend(users.1.iter().cloned());
        self.users = Some(users);
        limits.extend(system());
        limits
    }
}

/// Threads of the users that these processes run as, where they are limited: against the lowest limit of each.
fn user_threads(processes: &[Process]) -> Vec<Bounded> {
    let mut lowest: BTreeMap<u32, u64> = BTreeMap::new();
    for process in processes {
        let (Ok(status), Ok(limits)) = (process.status(), process.limits()) else { continue };
        if let Some(limit) = thread_limit(&status, limits.max_processes.soft_limit) {
            let known = lowest.entry(status.ruid).or_insert(limit);
            *known = limit.min(*known);
        }
    }
    if lowest.is_empty() {
        return Vec::new();
    }
    let mut threads: BTreeMap<u32, u64> = BTreeMap::new();
    for process in procfs::process::all_processes().into_iter().flatten().flatten() {
        // One may end meanwhile.
        if let Ok(status) = process.status() {
            *threads.entry(status.ruid).or_default() += status.threads;
        }
    }
    let bounded = |(user, limit)| Bounded {
        by: LimitedBy::UserThreads(user),
        used: threads.get(&user).copied(),
        limit,
    };
    lowest.into_iter().map(bounded).collect()
}

/// The limit of a user's threads, where the kernel enforces it for this process: not for root, and not for a process that
/// may exceed it.
const fn thread_limit(status: &Status, limit: LimitValue) -> Option<u64> {
    match limit {
        LimitValue::Value(limit) if status.ruid != 0 && status.capeff & LIFTING == 0 => Some(limit),
        _ => None,
    }
}

/// The system's own limits.
fn system() -> Vec<Bounded> {
    let mut limits = Vec::new();
    let mut add = |by, used, limit| limits.push(Bounded { by, used: Some(used), limit });
    if let Ok(load) = LoadAverage::current() {
        // The lower one is reached first.
        let threads = procfs::sys::kernel::threads_max().ok().map(u64::from);
        let ids = procfs::sys::kernel::pid_max().ok().and_then(|most| u64::try_from(most).ok());
        let used = load.max.into();
        match (threads, ids) {
            (Some(limit), Some(ids)) if ids < limit => add(LimitedBy::ThreadIds, used, ids),
            (None, Some(ids)) => add(LimitedBy::ThreadIds, used, ids),
            (Some(limit), _) => add(LimitedBy::SystemThreads, used, limit),
            (None, None) => {}
        }
    }
    if let Ok(Meminfo { mem_total, mem_available: Some(available), .. }) = Meminfo::current() {
        add(LimitedBy::SystemMemory, mem_total.saturating_sub(available), mem_total);
    }
    if let Ok(files) = procfs::sys::fs::file_nr() {
        let used = files.allocated.saturating_sub(files.free);
        if used >= files.max / FILES_SHARE {
            add(LimitedBy::SystemFiles, used, files.max);
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use procfs::FromBufRead as _;

    use super::*;

    #[test]
    fn the_system_has_memory_and_threads() {
        let limits = SharedReader::default().read(&[Pid::own()]);
        let find = |by: &LimitedBy| limits.iter().find(|one| one.by == *by);
        let memory = find(&LimitedBy::SystemMemory).unwrap();
        assert!(memory.used.unwrap() > 1 << 20 && memory.used.unwrap() < memory.limit);
        let threads = find(&LimitedBy::SystemThreads).or(find(&LimitedBy::ThreadIds)).unwrap();
        assert!(threads.used.unwrap() > 1 && threads.used.unwrap() < threads.limit);
    }

    #[test]
    fn only_an_ordinary_user_without_capabilities_has_a_limit_of_threads() {
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let status = |user: &str, capabilities: &str| {
            let line = |line: &str| match line.split_once(':') {
                Some(("Uid", _)) => format!("Uid:\t{user}\t{user}\t{user}\t{user}\n"),
                Some(("CapEff", _)) => format!("CapEff:\t{capabilities}\n"),
                _ => format!("{line}\n"),
            };
            Status::from_buf_read(own.lines().map(line).collect::<String>().as_bytes()).unwrap()
        };
        let limit = LimitValue::Value(100);
        let none = "0000000000000000";
        assert_eq!(thread_limit(&status("1000", none), limit), Some(100));
        assert_eq!(thread_limit(&status("1000", none), LimitValue::Unlimited), None);
        assert_eq!(thread_limit(&status("1000", "0000000001000000"), limit), None);
        assert_eq!(thread_limit(&status("0", none), limit), None);
    }
}
