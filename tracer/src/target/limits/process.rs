//! Memory and limits of one process.

use std::collections::BTreeMap;

use procfs::process::{LimitValue, Process, Status};

use super::{Bounded, LimitedBy, ProcessReading, stacks::Stacks};
use crate::target::{
    Pid,
    mappings::{self, Mapping, Mappings},
    open,
    usage::Usage,
};

/// Reads processes, and remembers what is read seldom.
#[derive(Debug, Default)]
pub struct ProcessReader {
    stacks: BTreeMap<Pid, Stacks>,
    /// Memory maps that were read for another purpose a moment ago.
    mappings: BTreeMap<Pid, Mappings>,
}

impl ProcessReader {
    /// Keeps a memory map that was just read for the next reading of the process.
    pub fn keep(&mut self, pid: Pid, mappings: Mappings) {
        self.mappings.insert(pid, mappings);
    }

    /// Forgets a process that has ended.
    pub fn forget(&mut self, pid: Pid) {
        self.stacks.remove(&pid);
        self.mappings.remove(&pid);
    }

    /// The figures of a process; `None` if it has ended. Descriptors are counted if `count` is set.
    pub fn read(&mut self, pid: Pid, count: bool) -> Option<ProcessReading> {
        let kept = self.mappings.remove(&pid);
        let process = open(pid).ok()?;
        let status = process.status().ok()?;
        let memory = memory(&status);
        memory.rss?;
        let limits = process.limits().ok();
        let soft = |limit: procfs::process::Limit| match limit.soft_limit {
            LimitValue::Value(limit) => Some(limit),
            LimitValue::Unlimited => None,
        };
        let mut bounds = Vec::new();
        let mut add = |by, used: Option<u64>, limit: Option<u64>| {
            bounds.extend(limit.map(|limit| Bounded { by, used, limit }));
        };
        if let Some(limits) = &limits {
            let open = if count { Some(descriptors(&process)?) } else { None };
            add(LimitedBy::OpenFiles, open, soft(limits.max_open_files));
            let size = status.vmsize.map(bytes);
            add(LimitedBy::AddressSpace, size, soft(limits.max_address_space));
            add(LimitedBy::Data, memory.data, soft(limits.max_data_size));
        }
        // One that cannot be read has ended, or hides its memory.
        let mappings = kept.or_else(|| mappings::read(pid).ok());
        let mut stacks = None;
        if let Some(mappings) = mappings {
            let used = mappings.iter().filter(|one| is_counted(one)).count() as u64;
            add(LimitedBy::Mappings, Some(used), procfs::sys::vm::max_map_count().ok());
            let limit = limits.as_ref().and_then(|limits| soft(limits.max_stack_size));
            let known = self.stacks.entry(pid).or_default();
            stacks = known.resident_bytes(pid, &mappings, limit);
        }
        Some(ProcessReading { memory, stacks, limits: bounds })
    }
}

const fn bytes(kib: u64) -> u64 {
    kib.saturating_mul(1024)
}

/// The memory of a process.
fn memory(status: &Status) -> Usage {
    Usage {
        rss: status.vmrss.map(bytes),
        anonymous: status.rssanon.map(bytes),
        file: status.rssfile.map(bytes),
        shared: status.rssshmem.map(bytes),
        swapped: status.vmswap.map(bytes),
        data: status.vmdata.map(bytes),
        brk: None,
    }
}

/// Number of open descriptors. Before Linux 6.2 the kernel does not say it, and they are listed.
fn descriptors(process: &Process) -> Option<u64> {
    process.fd_count().ok().map(|count| count as u64)
}

/// Whether a line of the memory map counts for `vm.max_map_count`: the one of `[vsyscall]` stands for no mapping of the
/// process.
fn is_counted(mapping: &Mapping) -> bool {
    mapping.special.as_deref() != Some("[vsyscall]")
}

#[cfg(test)]
mod tests {
    use procfs::FromBufRead as _;

    use super::*;

    fn used(reading: &ProcessReading, by: &LimitedBy) -> Option<(u64, u64)> {
        let found = reading.limits.iter().find(|one| one.by == *by)?;
        Some((found.used?, found.limit))
    }

    #[test]
    fn our_own_figures_follow_our_usage() {
        let mut reader = ProcessReader::default();
        let before = reader.read(Pid::own(), true).unwrap();
        let (files, limit) = used(&before, &LimitedBy::OpenFiles).unwrap();
        assert!(files >= 3 && files < limit);
        let (mapped, most) = used(&before, &LimitedBy::Mappings).unwrap();
        assert!(mapped > 10 && mapped < most);
        assert!(before.memory.rss.unwrap() > before.memory.anonymous.unwrap());
        let not_counted = reader.read(Pid::own(), false).unwrap();
        let open = not_counted.limits.iter().find(|one| one.by == LimitedBy::OpenFiles);
        assert_eq!(open.unwrap().used, None);
    }

    #[test]
    fn a_kept_memory_map_is_used_once() {
        let mut reader = ProcessReader::default();
        let three = b"10000-20000 rw-p 00000000 00:00 0 \n20000-30000 r--p 00000000 00:00 0 \n\
                      ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n";
        reader.keep(Pid::own(), Mappings::parse(three));
        let mapped = |reading: &ProcessReading| used(reading, &LimitedBy::Mappings).unwrap().0;
        assert_eq!(mapped(&reader.read(Pid::own(), true).unwrap()), 2);
        assert!(mapped(&reader.read(Pid::own(), true).unwrap()) > 2);
    }

    #[test]
    fn a_process_that_has_ended_has_no_figures() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid(child.id());
        crate::target::watch::Watch::new(pid).unwrap().wait().unwrap();
        assert_eq!(ProcessReader::default().read(pid, true), None, "a zombie");
        child.wait().unwrap();
        assert_eq!(ProcessReader::default().read(pid, true), None);
    }

    #[test]
    fn unlimited_is_no_limit() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max data size             unlimited            unlimited            bytes     \n";
        // The crate that parses it wants every line; what matters is the word.
        drop(procfs::process::Limits::from_buf_read(text.as_bytes()));
        let own = open(Pid::own()).unwrap().limits().unwrap();
        let finite = matches!(own.max_address_space.soft_limit, LimitValue::Value(_));
        let reading = ProcessReader::default().read(Pid::own(), true).unwrap();
        assert_eq!(used(&reading, &LimitedBy::AddressSpace).is_some(), finite);
    }
}
