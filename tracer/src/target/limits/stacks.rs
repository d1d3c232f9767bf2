//! Resident memory of a process's stacks.
//!
//! The kernel does not say which mappings are stacks, except the first thread's. It does say where the stack pointer of a
//! thread is that does not run, and the mapping around it is the stack. A thread that runs at this moment has the stack
//! that it had at an earlier reading. The pages are counted in the page table: a walk over all of the process's memory,
//! as for `smaps`, would take a while and make its own `mmap` wait.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use tracer_common::kind::PAGE_BYTES;

use crate::target::{
    Pid,
    mappings::{Mapping, Mappings},
    pages::PageTable,
};

/// Stacks hardly change: one reading in this time.
const EVERY: Duration = Duration::from_secs(10);
/// More threads would take more than 50 ms to read.
const MOST_THREADS: usize = 4096;
/// The size of a thread's stack where `RLIMIT_STACK` does not say it: the usual limit.
const USUAL_BYTES: u64 = 8 << 20;

/// The stacks of one process, as of the last reading.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    /// The first address of each thread's stack.
    threads: BTreeMap<u32, u64>,
    resident_bytes: Option<u64>,
    next: Option<Instant>,
}

impl Stacks {
    /// Resident bytes of all stacks, as of a short while ago; `None` if one of them is not known. `limit` is
    /// `RLIMIT_STACK`.
    pub(super) fn resident_bytes(
        &mut self,
        pid: Pid,
        mappings: &Mappings,
        limit: Option<u64>,
    ) -> Option<u64> {
        let now = Instant::now();
        if self.next.is_none_or(|next| now >= next) {
            self.next = Some(now + EVERY);
            self.resident_bytes = self.read(pid, mappings, limit.unwrap_or(USUAL_BYTES));
        }
        self.resident_bytes
    }

    fn read(&mut self, pid: Pid, mappings: &Mappings, limit: u64) -> Option<u64> {
        let mut threads = BTreeMap::new();
        let mut ranges = BTreeMap::new();
        let tasks = fs::read_dir(pid.proc_path("task")).ok()?;
        for (at, task) in tasks.flatten().enumerate() {
            if at >= MOST_THREADS {
                return None;
            }
            // A thread that ends meanwhile has no stack.
            let Ok(text) = fs::read_to_string(task.path().join("syscall")) else { continue };
            let tid: u32 = task.file_name().to_str()?.parse().ok()?;
            let known = self.threads.get(&tid).copied();
            let (start, end) = match stack_pointer(&text) {
                Some(pointer) => range(mappings.find(pointer)?, pointer, limit)?,
                None => {
                    let start = known?;
                    range(mappings.find(start)?, start, limit)?
                }
            };
            threads.insert(tid, start);
            ranges.insert(start, end);
        }
        let table = PageTable::open(pid).ok()?;
        let mut resident = 0;
        for (start, end) in ranges {
            let pages: Vec<u64> =
                (0..(end - start) / PAGE_BYTES).map(|page| start + page * PAGE_BYTES).collect();
            table.look(&pages, |_, page| resident += u64::from(page.is_resident())).ok()?;
        }
        self.threads = threads;
        Some(resident * PAGE_BYTES)
    }
}

/// The stack pointer in `/proc/PID/task/TID/syscall`: the last word but one, in a system call and elsewhere. `None` for a
/// thread that runs.
fn stack_pointer(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace().rev().skip(1);
    u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()
}

/// The addresses of the stack around a stack pointer. The kernel merges neighboring mappings, so a mapping that is larger
/// than a stack may be has other memory above it; `None` if the pointer is there.
fn range(mapping: &Mapping, pointer: u64, limit: u64) -> Option<(u64, u64)> {
    let end = mapping.end.min(mapping.start.saturating_add(limit));
    (mapping.writable && pointer <= end).then_some((mapping.start, end))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::target::mappings;

    #[test]
    fn the_stack_pointer_is_the_last_word_but_one() {
        let blocked = "202 0x7fa8d7be1688 0x89 0xffffffff 0x7ffff88ac840 0x0 0x7fffffffffff 0x7ffff88ac7d0 0x7fa8d7cb384f\n";
        assert_eq!(stack_pointer(blocked), Some(0x7fff_f88a_c7d0));
        assert_eq!(stack_pointer("-1 0x7ffc0 0x55d2\n"), Some(0x7_ffc0));
        assert_eq!(stack_pointer("running\n"), None);
        assert_eq!(stack_pointer(""), None);
    }

    #[test]
    fn a_mapping_larger_than_a_stack_is_one_up_to_the_limit() {
        let maps = Mappings::parse(
            b"10000-20000 rw-p 00000000 00:00 0 \n20000-90000 r--p 00000000 00:00 0 \n",
        );
        let of = |pointer, limit| range(maps.find(pointer).unwrap(), pointer, limit);
        assert_eq!(of(0x1_8000, 0x10_0000), Some((0x1_0000, 0x2_0000)));
        assert_eq!(of(0x1_3000, 0x8000), Some((0x1_0000, 0x1_8000)));
        assert_eq!(of(0x1_f000, 0x8000), None);
        assert_eq!(of(0x2_1000, 0x10_0000), None);
    }

    #[test]
    fn a_stack_counts_with_the_pages_that_were_touched() {
        fn touch(depth: u32) -> u64 {
            let page = std::hint::black_box([1_u8; 4096]);
            u64::from(page[7]) + if depth == 0 { 0 } else { touch(depth - 1) }
        }
        let (ready, is_ready) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            std::hint::black_box(touch(100));
            ready.send(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()).unwrap();
            assert!(may_go.recv().is_err());
        });
        let tid = is_ready.recv().unwrap();
        let syscall = format!("/proc/self/task/{tid}/syscall");
        let pointer = loop {
            if let Some(pointer) = stack_pointer(&fs::read_to_string(&syscall).unwrap()) {
                break pointer;
            }
            std::thread::yield_now();
        };
        let pid = Pid::own();
        let maps = mappings::read(pid).unwrap();
        let (start, end) = range(maps.find(pointer).unwrap(), pointer, USUAL_BYTES).unwrap();
        assert!((start..end).contains(&pointer));
        let pages: Vec<u64> = (start..end).step_by(4096).collect();
        let mut resident = 0_u64;
        let count =
            |_, page: crate::target::pages::Entry| resident += u64::from(page.is_resident());
        PageTable::open(pid).unwrap().look(&pages, count).unwrap();
        // Each call took a page at least; Rust's threads have stacks of 2 MiB.
        assert!((100..=512).contains(&resident), "{resident}");
        drop(go);
        thread.join().unwrap();
    }
}
