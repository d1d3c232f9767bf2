//! Stacks of threads: how much address space and how much memory each takes.
//!
//! Takes the addresses of structures that C libraries keep at the top of a thread's stack, passes on sizes from the
//! process's mappings and page tables.

use tracer_common::kind::PAGE_BYTES;

use super::{
    Pid,
    mappings::{self, Mapping, Mappings},
    pages::PageTable,
};

/// Longest stack. A program may have put its threads' stacks into a larger mapping, where only the next thread's
/// structure would end one. 64 MiB is eight times what threads have by default.
const LONGEST: u64 = 64 << 20;

/// Bytes of address space of a stack, and those that are resident.
pub type StackBytes = (u64, u64);

/// The stacks that have these addresses (ascending) at their top. Those of a process that has ended are empty.
pub fn read(pid: Pid, tops: &[u64]) -> Vec<StackBytes> {
    let none = || vec![StackBytes::default(); tops.len()];
    let Ok(mappings) = mappings::read(pid) else { return none() };
    let Ok(table) = PageTable::open(pid) else { return none() };
    let resident = |(start, end): (u64, u64)| {
        let count = (end - start) / PAGE_BYTES;
        let pages: Vec<u64> = (0..count).map(|page| start + page * PAGE_BYTES).collect();
        let mut count = 0;
        let looked = table.look(&pages, |_, entry| count += u64::from(entry.is_resident()));
        looked.map_or(0, |()| count * PAGE_BYTES)
    };
    let ranges = ranges(&mappings, tops).into_iter();
    ranges.map(|range| range.map_or((0, 0), |range| (range.1 - range.0, resident(range)))).collect()
}

/// The addresses of these stacks, page by page; `None` where there is no memory of a stack.
fn ranges(mappings: &Mappings, tops: &[u64]) -> Vec<Option<(u64, u64)>> {
    let page_after = |address: u64| (address & !(PAGE_BYTES - 1)) + PAGE_BYTES;
    let is_stack = |mapping: &&Mapping| mapping.writable && mapping.inode == 0;
    let mut before = 0;
    let range = |top: &u64| {
        let mapping = mappings.find(*top).filter(is_stack)?;
        // Another thread's stack may lie below, in the same mapping. The structure may be longer than a page.
        let start = mapping.start.max(before).max(mapping.end.saturating_sub(LONGEST));
        let shared = tops.iter().any(|other| other != top && mapping.contains(*other));
        let end = if shared { page_after(*top) } else { mapping.end };
        before = end;
        (start < end).then_some((start, end))
    };
    tops.iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_the_mapping_with_its_top_or_the_part_down_to_the_next_one() {
        let maps = "7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n\
                    7f0000001000-7f0000801000 rw-p 00000000 00:00 0 \n\
                    7f0000900000-7f0000910000 rw-p 00000000 00:00 0 \n\
                    7f0000a00000-7f0000b00000 rw-p 00000000 08:01 77 /data\n";
        let mappings = Mappings::parse(maps.as_bytes());
        let tops = [
            0x7f00_0000_0800,
            0x7f00_0080_06c0,
            0x7f00_0090_46c0,
            0x7f00_0090_f6c0,
            0x7f00_00a0_06c0,
        ];
        let own = Some((0x7f00_0000_1000, 0x7f00_0080_1000));
        let lower = Some((0x7f00_0090_0000, 0x7f00_0090_5000));
        let upper = Some((0x7f00_0090_5000, 0x7f00_0091_0000));
        assert_eq!(ranges(&mappings, &tops), [None, own, lower, upper, None]);
    }

    #[test]
    fn the_stack_of_a_thread_has_at_least_its_touched_pages() {
        let (sender, address) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let touched = [1_u8; 16 << 10];
            sender.send(std::hint::black_box(&touched).as_ptr() as u64).unwrap();
            _ = ended.recv();
        });
        let within = address.recv().unwrap();
        let [(space, resident)] = read(Pid::own(), &[within])[..] else { panic!("one stack") };
        assert!((1 << 20..=LONGEST).contains(&space), "{space}");
        // Without root, the kernel hides page frames, but not which pages are present.
        assert!(resident >= 16 << 10 && resident <= space, "{resident} of {space}");
        drop(end);
        thread.join().unwrap();
    }
}
