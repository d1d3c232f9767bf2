//! Reads the page tables of a process and the flags of page frames.
//!
//! Takes addresses, passes on whether each page has anonymous memory, and the size of the folio that one fault
//! made resident. The formats: `Documentation/admin-guide/mm/pagemap.rst` of the kernel.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::OnceLock};

use tracer_common::kind::PAGE_BYTES;

use super::Pid;

/// Bit of an entry: the page is in memory.
const PRESENT: u64 = 1 << 63;
/// Bit of an entry: the page is swapped out.
const SWAPPED: u64 = 1 << 62;
/// Bit of an entry: the page belongs to a file or to shared memory.
const FILE: u64 = 1 << 61;
/// Bits of an entry: the page frame number, if the page is in memory.
const FRAME: u64 = (1 << 55) - 1;

/// Flag of a frame: the first frame of a folio.
const HEAD: u64 = 1 << 15;
/// Flag of a frame: a further frame of a folio.
const TAIL: u64 = 1 << 16;
/// Flag of a frame: part of a transparent huge page, which one fault maps as a whole.
const HUGE: u64 = 1 << 22;
/// Frames of the largest folio that a fault makes resident: 2 MiB, aligned.
const LARGEST: usize = 512;

/// Entries read by one system call: entries between two requested pages are read, too, and ignored.
const AT_ONCE: usize = 4096;

/// The entry of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    /// From the bytes of the file.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_ne_bytes(bytes))
    }

    /// Whether the process has this page, in memory or swapped out: reading it makes no new one.
    pub const fn is_mapped(self) -> bool {
        self.0 & (PRESENT | SWAPPED) != 0
    }

    /// Whether it is swapped out.
    pub const fn is_swapped(self) -> bool {
        self.0 & SWAPPED != 0
    }

    /// Whether the page has anonymous memory. A page that was only read has none: the kernel maps the same zero page
    /// for all such pages.
    pub fn is_anonymous(self) -> bool {
        let resident = self.0 & PRESENT != 0 && self.0 & FILE == 0;
        let swapped = self.0 & SWAPPED != 0 && self.0 & FILE == 0;
        swapped || resident && Some(self.frame()) != zero_frame()
    }

    /// Whether the page has anonymous memory that is resident.
    pub fn is_resident(self) -> bool {
        self.0 & PRESENT != 0 && self.is_anonymous()
    }

    const fn frame(self) -> u64 {
        self.0 & FRAME
    }
}

/// The page tables of one process.
#[derive(Debug)]
pub struct PageTable(File);

impl PageTable {
    /// The page tables of a process; reading them needs root.
    pub fn open(pid: Pid) -> io::Result<Self> {
        File::open(pid.proc_path("pagemap")).map(Self)
    }

    /// Passes the entry of each of `pages` (addresses, ascending) to `visit`, with its index. Ends early if the process
    /// has no memory any more.
    pub fn look(&self, pages: &[u64], mut visit: impl FnMut(usize, Entry)) -> io::Result<()> {
        let mut bytes = vec![0; AT_ONCE * 8];
        let mut from = 0;
        while let Some(first) = pages.get(from) {
            let near = |page: &&u64| **page - first < AT_ONCE as u64 * PAGE_BYTES;
            let count = pages.iter().skip(from).take_while(near).count();
            let last = pages.get(from + count - 1).unwrap_or(first);
            let length = ((last - first) / PAGE_BYTES + 1) * 8;
            let buffer = bytes.get_mut(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
            if self.0.read_at(buffer, first / PAGE_BYTES * 8)? < buffer.len() {
                return Ok(());
            }
            for (index, page) in pages.iter().enumerate().skip(from).take(count) {
                let at = usize::try_from((page - first) / PAGE_BYTES * 8).unwrap_or(0);
                let word = buffer.get(at..).and_then(|rest| rest.first_chunk());
                visit(index, Entry::from_bytes(*word.unwrap_or(&[0; 8])));
            }
            from += count;
        }
        Ok(())
    }
}

/// The page frames of the machine.
#[derive(Debug)]
pub struct Frames(Option<File>);

impl Frames {
    /// Opens the flags of frames, if the kernel lets us read them.
    pub fn open() -> Self {
        Self(File::open("/proc/kpageflags").ok())
    }

    /// The start and size in bytes of the memory that one fault at `page` has made resident.
    pub fn piece(&self, page: u64, entry: Entry) -> (u64, u64) {
        let single = (page, PAGE_BYTES);
        if entry.0 & PRESENT == 0 {
            return single;
        }
        let frame = entry.frame();
        let Some([flags]) = self.flags::<1>(frame) else { return single };
        if flags & HUGE == 0 {
            return single;
        }
        let before = frame % LARGEST as u64;
        let Some(all) = self.flags::<LARGEST>(frame - before) else {
            return single;
        };
        folio(&all, before).map_or(single, |(before, length)| {
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

/// Whether the kernel lets us read frame numbers and flags: that needs `CAP_SYS_ADMIN`.
pub fn frames_are_shown() -> bool {
    zero_frame().is_some() && Frames::open().0.is_some()
}

/// The index of the frame at `at` within its folio, and the number of frames of that folio.
fn folio(flags: &[u64], at: u64) -> Option<(u64, u64)> {
    let at = usize::try_from(at).ok()?;
    let head = flags.get(..=at)?.iter().rposition(|flags| flags & HEAD != 0)?;
    let tails = flags.get(head + 1..)?.iter().take_while(|flags| **flags & TAIL != 0).count();
    (head + tails >= at).then_some(((at - head) as u64, 1 + tails as u64))
}

/// The zero page's frame, which the kernel maps for all pages that were only read: read from a page of our own.
fn zero_frame() -> Option<u64> {
    static ZEROS: OnceLock<Option<u64>> = OnceLock::new();
    *ZEROS.get_or_init(|| {
        // Large enough for a mapping of its own, which is still untouched.
        let memory = std::hint::black_box(vec![0_u8; 1 << 20]);
        let middle = std::hint::black_box(memory.get(memory.len() / 2)?);
        let page = (std::ptr::from_ref(middle).addr() as u64) & !(PAGE_BYTES - 1);
        std::hint::black_box(*middle);
        let mut frame = None;
        let visit = |_, entry: Entry| {
            frame = (entry.0 & PRESENT != 0).then(|| entry.frame()).filter(|frame| *frame != 0);
        };
        PageTable::open(Pid::own()).ok()?.look(&[page], visit).ok()?;
        frame
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// Whether each of the first four whole pages of `memory` has anonymous memory.
    fn anonymous_pages(memory: &[u8]) -> Vec<bool> {
        let first = (memory.as_ptr().addr() as u64).next_multiple_of(PAGE_BYTES);
        let pages: Vec<u64> = (0..4).map(|page| first + page * PAGE_BYTES).collect();
        let mut found = vec![false; 4];
        let table = PageTable::open(Pid::own()).unwrap();
        table.look(&pages, |index, entry| found[index] = entry.is_anonymous()).unwrap();
        found
    }

    #[test]
    fn written_pages_are_anonymous_and_read_or_untouched_ones_are_not() {
        // Only root can read frame numbers.
        if !root() {
            return;
        }
        let mut memory = vec![0_u8; 8 << 20];
        let first = (memory.as_ptr().addr()).next_multiple_of(4096) - memory.as_ptr().addr();
        assert_eq!(anonymous_pages(&memory), [false; 4]);
        memory[first + 4096] = std::hint::black_box(1);
        std::hint::black_box(memory[first + 2 * 4096]);
        assert_eq!(anonymous_pages(&memory), [false, true, false, false]);
        assert!(frames_are_shown());
    }

    #[test]
    fn a_folio_is_found_from_any_of_its_frames() {
        let mut flags = vec![0; 512];
        assert_eq!(folio(&flags, 3), None);
        flags[4] = HEAD | HUGE;
        flags[5..8].fill(TAIL | HUGE);
        assert_eq!(folio(&flags, 4), Some((0, 4)));
        assert_eq!(folio(&flags, 7), Some((3, 4)));
        assert_eq!(folio(&flags, 8), None);
        flags[0] = HEAD;
        flags[1..].fill(TAIL);
        assert_eq!(folio(&flags, 511), Some((511, 512)));
    }

    #[test]
    fn swapped_pages_are_anonymous_and_file_pages_are_not() {
        assert!(Entry(SWAPPED).is_anonymous());
        assert!(!Entry(PRESENT | FILE | 0x4d).is_anonymous());
        assert!(!Entry(0).is_anonymous());
    }
}
