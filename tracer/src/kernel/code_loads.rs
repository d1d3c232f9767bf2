//! Code that processes map, as the kernel reports it at that moment: files with executable mappings, for perf's tools.
//!
//! Takes nothing, passes on each mapping with its time. A library that is unloaded a moment later is never in
//! `/proc/PID/maps` when somebody looks. One ring for each processor; a full one loses reports, which only means that
//! code is known from `/proc`. See `perf_event_open(2)`, `PERF_RECORD_MMAP2`.

use std::{
    cell::RefCell,
    ffi::OsString,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::PathBuf,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{cpus, event};

/// Bytes of a page of memory.
const PAGE: usize = 4096;
/// Bytes of a ring without its first page: some 1,700 reports of all processes, where a starting program causes ten, between
/// two looks 50 ms apart. A power of two, less than what the kernel grants every user for each processor (516 KiB).
const RING: usize = 64 * PAGE;
/// `PERF_RECORD_MMAP2`.
const MMAP2: u32 = 10;
/// Offsets in the first page: how far the kernel has written, and how far we have read.
const WRITTEN: usize = 0x400;
const READ: usize = 0x408;
/// Bytes before the file's name in a report, and of the time at its end.
const FIXED: usize = 72;
const TIME: usize = 8;

/// Code that a process has mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeLoad {
    /// The process.
    pub pid: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// First address.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
    /// Offset of `start` in the file.
    pub file_offset: u64,
    /// Major and minor number of the file's device, and its inode there.
    pub file: (u32, u32, u64),
    /// Its path as the process sees it.
    pub path: PathBuf,
}

/// The rings of all processors.
pub struct CodeLoads {
    rings: Vec<Ring>,
    /// Reports that were read and not taken.
    kept: RefCell<Vec<CodeLoad>>,
}

struct Ring {
    event: OwnedFd,
    base: NonNull<u8>,
}

// SAFETY: the mapping belongs to the ring alone, which is used by one thread at a time.
unsafe impl Send for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped by `Ring::open` with this size; nothing refers to it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), PAGE + RING) };
    }
}

impl CodeLoads {
    /// Starts reporting for all processes.
    pub fn open() -> io::Result<Self> {
        let all = cpus::online()?;
        let rings = all.into_iter().map(Ring::open).collect::<io::Result<_>>()?;
        Ok(Self { rings, kept: RefCell::default() })
    }

    /// Empties the rings; returns whether code was mapped by a process for which `wanted` returns true.
    pub fn look(&self, wanted: impl Fn(u32) -> bool) -> bool {
        let mut kept = self.kept.borrow_mut();
        for ring in &self.rings {
            let (reports, written) = ring.reports();
            kept.extend(reports.filter(|load| wanted(load.pid)));
            // The kernel may overwrite what was read.
            ring.counter(READ).store(written, Ordering::Release);
        }
        !kept.is_empty()
    }

    /// Takes all reports about processes for which `wanted` returns true, in the order of time.
    pub fn take(&self, wanted: impl Fn(u32) -> bool) -> Vec<CodeLoad> {
        self.look(wanted);
        let mut all = self.kept.take();
        all.sort_by_key(|load| load.time_ns);
        all
    }
}

impl Ring {
    fn open(cpu: u32) -> io::Result<Self> {
        let event = event::of_code_mappings(cpu)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping of the event's ring, at an address that the kernel chooses.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), PAGE + RING, protection, flags, event.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { event, base })
    }

    /// One of the two counters of the first page.
    fn counter(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: aligned, within the first page, which lives as long as the ring; both sides access it atomically.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    /// The unread reports, and the counter behind them.
    fn reports(&self) -> (impl Iterator<Item = CodeLoad> + '_, u64) {
        let written = self.counter(WRITTEN).load(Ordering::Acquire);
        let mut at = self.counter(READ).load(Ordering::Relaxed);
        let records = std::iter::from_fn(move || {
            let header = (at < written).then(|| self.bytes(at, 8))?;
            let size = header.get(6..8)?.try_into().ok().map_or(0, u16::from_ne_bytes);
            let record = self.bytes(at, usize::from(size));
            // A damaged ring ends the list.
            at = if size < 8 { written } else { at + u64::from(size) };
            Some(record)
        });
        (records.filter_map(|record| parse(&record)), written)
    }

    /// Copies bytes of the ring, in which `at` counts on and on.
    fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let first = usize::try_from(at % RING as u64).unwrap_or(0);
        let place = |offset: usize| (first + offset) % RING;
        let byte = |offset: usize| {
            // SAFETY: within the ring; the kernel does not write there until the counter says that it was read.
            unsafe { self.base.as_ptr().add(PAGE + place(offset)).read_volatile() }
        };
        (0..length).map(byte).collect()
    }
}

impl std::fmt::Debug for CodeLoads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let events = self.rings.iter().map(|ring| &ring.event);
        f.debug_list().entries(events).finish()
    }
}

/// One report; `None` for any other record, and for memory that is not a file's.
fn parse(record: &[u8]) -> Option<CodeLoad> {
    let word = |at: usize| record.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let long = |at: usize| record.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
    if word(0)? != MMAP2 {
        return None;
    }
    let end = record.len().checked_sub(TIME)?;
    let name = record.get(FIXED..end)?.split(|byte| *byte == 0).next()?;
    // `//anon`, `[vdso]`.
    if !name.starts_with(b"/") || name.starts_with(b"//") {
        return None;
    }
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    Some(CodeLoad {
        pid: word(8)?,
        time_ns: long(end)?,
        start: long(16)?,
        bytes: long(24)?,
        file_offset: long(32)?,
        file: (word(40)?, word(44)?, long(48)?),
        path: PathBuf::from(OsString::from_vec(name.to_vec())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_parsed_and_others_are_not() {
        let record = |kind: u32, name: &[u8]| {
            let mut bytes = [kind.to_ne_bytes(), 0_u32.to_ne_bytes()].concat();
            bytes.extend([7_u32, 8].iter().flat_map(|word| word.to_ne_bytes()));
            bytes.extend([0x7000_u64, 0x2000, 0x1000].iter().flat_map(|long| long.to_ne_bytes()));
            bytes.extend([8_u32, 1].iter().flat_map(|word| word.to_ne_bytes()));
            bytes.extend([99_u64, 0].iter().flat_map(|long| long.to_ne_bytes()));
            bytes.extend([5_u32, 2].iter().flat_map(|word| word.to_ne_bytes()));
            bytes.extend(name);
            bytes.extend(vec![0; 8 - name.len() % 8]);
            bytes.extend(123_u64.to_ne_bytes());
            parse(&bytes)
        };
        let load = record(MMAP2, b"/opt/plugin.so (deleted)").unwrap();
        assert_eq!((load.pid, load.time_ns, load.start, load.bytes), (7, 123, 0x7000, 0x2000));
        assert_eq!((load.file_offset, load.file), (0x1000, (8, 1, 99)));
        assert_eq!(load.path, PathBuf::from("/opt/plugin.so"));
        assert_eq!(record(MMAP2, b"//anon"), None);
        assert_eq!(record(MMAP2, b"[vdso]"), None);
        assert_eq!(record(1, b"/opt/plugin.so"), None);
        assert_eq!(parse(&[1, 2, 3]), None);
    }
}
