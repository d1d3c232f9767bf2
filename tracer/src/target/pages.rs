//! What the kernel's page tables say of a process's memory.
//!
//! Takes addresses, hands on whether anonymous memory is there, and how large the piece is that one fault
//! made resident. The formats: `Documentation/admin-guide/mm/pagemap.rst` of the kernel.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::OnceLock};

use tracer_common::kind::PAGE_BYTES;

use super::Pid;

/// In an entry: the page is in memory.
const PRESENT: u64 = 1 << 63;
/// The page is swapped out.
const SWAPPED: u64 = 1 << 62;
/// It is a file's, or shared memory's.
const FILE: u64 = 1 << 61;
/// The bits of an entry that number the page frame, if the page is in memory.
const FRAME: u64 = (1 << 55) - 1;

/// In a frame's flags: the first of several that are one.
const HEAD: u64 = 1 << 15;
/// Another of these.
const TAIL: u64 = 1 << 16;
/// Such a piece of memory was made to be mapped at once.
const HUGE: u64 = 1 << 22;
/// Frames of the largest piece that a fault makes resident: 2 MiB, aligned.
const LARGEST: usize = 512;

/// Entries read at once: what lies between two pages asked for is read in vain.
const AT_ONCE: usize = 4096;

/// The entry of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    /// Whether there is memory that no file holds. A page that was only read is none: the kernel
    /// shows the same page of zeros for all of them.
    pub fn is_anonymous(self) -> bool {
        let resident = self.0 & PRESENT != 0 && self.0 & FILE == 0;
        self.0 & SWAPPED != 0 && self.0 & FILE == 0 || resident && Some(self.frame()) != zeros()
    }

    const fn frame(self) -> u64 {
        self.0 & FRAME
    }
}

/// The page tables of one process.
#[derive(Debug)]
pub struct PageTable(File);

impl PageTable {
    /// Those of a process; reading them takes root.
    pub fn open(pid: Pid) -> io::Result<Self> {
        File::open(pid.proc_path("pagemap")).map(Self)
    }

    /// Tells the entry of each of `pages` (addresses, ascending) to `tell`, with its index. Ends early when
    /// the process has no memory any more.
    pub fn look(&self, pages: &[u64], mut tell: impl FnMut(usize, Entry)) -> io::Result<()> {
        let mut bytes = vec![0; AT_ONCE * 8];
        let mut from = 0;
        while let Some(first) = pages.get(from) {
            let near = |page: &&u64| **page - first < AT_ONCE as u64 * PAGE_BYTES;
            let count = pages.iter().skip(from).take_while(near).count();
            let last = pages.get(from + count - 1).unwrap_or(first);
            let length = ((last - first) / PAGE_BYTES + 1) * 8;
            let room = bytes.get_mut(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
            if self.0.read_at(room, first / PAGE_BYTES * 8)? < room.len() {
                return Ok(());
            }
            for (index, page) in pages.iter().enumerate().skip(from).take(count) {
                let at = usize::try_from((page - first) / PAGE_BYTES * 8).unwrap_or(0);
                let word = room.get(at..).and_then(|rest| rest.first_chunk());
                tell(index, Entry(u64::from_ne_bytes(*word.unwrap_or(&[0; 8]))));
            }
            from += count;
        }
        Ok(())
    }
}

/// The frames of the machine.
#[derive(Debug)]
pub struct Frames(Option<File>);

impl Frames {
    /// Frames whose flags can be read, if the kernel shows them.
    pub fn open() -> Self {
        Self(File::open("/proc/kpageflags").ok())
    }

    /// Where the memory begins that one fault at `page` has made resident, and its bytes.
    pub fn piece(&self, page: u64, entry: Entry) -> (u64, u64) {
        let one = (page, PAGE_BYTES);
        if entry.0 & PRESENT == 0 {
            return one;
        }
        let frame = entry.frame();
        let Some([flags]) = self.flags::<1>(frame) else { return one };
        if flags & HUGE == 0 {
            return one;
        }
        let before = frame % LARGEST as u64;
        let Some(all) = self.flags::<LARGEST>(frame - before) else {
            return one;
        };
        piece(&all, before).map_or(one, |(before, length)| {
            (page.wrapping_sub(before * PAGE_BYTES), length * PAGE_BYTES)
        })
    }

    fn flags<const COUNT: usize>(&self, first: u64) -> Option<[u64; COUNT]> {
        let mut bytes = vec![0; COUNT * 8];
        self.0.as_ref()?.read_exact_at(&mut bytes, first * 8).ok()?;
        let mut flags = [0; COUNT];
        for (flag, word) in flags.iter_mut().zip(bytes.chunks_exact(8)) {
            *flag = u64::from_ne_bytes(*word.first_chunk()?);
        }
        Some(flags)
    }
}

/// Whether the kernel shows us which frames there are: it takes `CAP_SYS_ADMIN`.
pub fn frames_are_shown() -> bool {
    zeros().is_some() && Frames::open().0.is_some()
}

/// How many frames of the piece that holds the one at `at` lie before it, and how many it has.
fn piece(flags: &[u64], at: u64) -> Option<(u64, u64)> {
    let at = usize::try_from(at).ok()?;
    let head = flags.get(..=at)?.iter().rposition(|flags| flags & HEAD != 0)?;
    let tails = flags.get(head + 1..)?.iter().take_while(|flags| **flags & TAIL != 0).count();
    (head + tails >= at).then_some(((at - head) as u64, 1 + tails as u64))
}

/// The frame of zeros that all pages show that were only read: as one of our own shows it.
fn zeros() -> Option<u64> {
    static ZEROS: OnceLock<Option<u64>> = OnceLock::new();
    *ZEROS.get_or_init(|| {
        // Large enough to be mapped for itself, and so untouched.
        let room = std::hint::black_box(vec![0_u8; 1 << 20]);
        let middle = std::hint::black_box(room.get(room.len() / 2)?);
        let page = (std::ptr::from_ref(middle).addr() as u64) & !(PAGE_BYTES - 1);
        std::hint::black_box(*middle);
        let mut frame = None;
        let tell = |_, entry: Entry| {
            frame = (entry.0 & PRESENT != 0).then(|| entry.frame()).filter(|frame| *frame != 0);
        };
        PageTable::open(Pid::own()).ok()?.look(&[page], tell).ok()?;
        frame
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// What is there at the pages of `room`, in order.
    fn there(room: &[u8]) -> Vec<bool> {
        let first = (room.as_ptr().addr() as u64).next_multiple_of(PAGE_BYTES);
        let pages: Vec<u64> = (0..4).map(|page| first + page * PAGE_BYTES).collect();
        let mut found = vec![false; 4];
        let table = PageTable::open(Pid::own()).unwrap();
        table.look(&pages, |index, entry| found[index] = entry.is_anonymous()).unwrap();
        found
    }

    #[test]
    fn what_is_written_is_there_and_what_is_read_or_left_alone_is_not() {
        // Numbers of frames are for root.
        if !root() {
            return;
        }
        let mut room = vec![0_u8; 8 << 20];
        let first = (room.as_ptr().addr()).next_multiple_of(4096) - room.as_ptr().addr();
        assert_eq!(there(&room), [false; 4]);
        room[first + 4096] = std::hint::black_box(1);
        std::hint::black_box(room[first + 2 * 4096]);
        assert_eq!(there(&room), [false, true, false, false]);
        assert!(frames_are_shown());
    }

    #[test]
    fn pieces_are_as_large_as_they_say() {
        let mut flags = vec![0; 512];
        assert_eq!(piece(&flags, 3), None);
        flags[4] = HEAD | HUGE;
        flags[5..8].fill(TAIL | HUGE);
        assert_eq!(piece(&flags, 4), Some((0, 4)));
        assert_eq!(piece(&flags, 7), Some((3, 4)));
        assert_eq!(piece(&flags, 8), None);
        flags[0] = HEAD;
        flags[1..].fill(TAIL);
        assert_eq!(piece(&flags, 511), Some((511, 512)));
    }

    #[test]
    fn swapped_pages_are_there_and_those_of_files_are_not_anonymous() {
        assert!(Entry(SWAPPED).is_anonymous());
        assert!(!Entry(PRESENT | FILE | 0x4d).is_anonymous());
        assert!(!Entry(0).is_anonymous());
    }
}
