//! The code that a process has mapped since leaktrace traces it, also where other code has been since.
//!
//! Takes mappings with their times, passes on the addresses of stacks, so changed that each belongs to one mapping:
//! where code has taken the place of other code, the later one's addresses carry the number of its generation above
//! those bits that the processor uses. [`CodeHistory::with_unloaded`] has mappings for both. Pure.

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use tracer_common::stack::INTERRUPTED;

use super::{
    Pid,
    mappings::{Mapping, Mappings},
};
use crate::tape::{Redact, Redactor, redact};

/// Addresses of user space are below.
const SHIFT: u32 = 48;
/// Generations of code in a process, less than what fits between addresses and [`INTERRUPTED`]. Later code belongs to the
/// generation that was there first, as if nobody had said that it came.
const GENERATIONS: u32 = 1 << 14;
/// Loads whose time is known: a program that loads 100 plugins a second is remembered for 40 s. Resources are in the ledger
/// after less than one.
const RECENT: usize = 1 << 12;

/// Code that a process has mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The process.
    pub pid: Pid,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// The mapping.
    pub mapping: Arc<Mapping>,
}

impl Redact for Load {
    fn redacted(&self, _: &mut Redactor) -> Self {
        let path = self.mapping.path.as_deref().map(redact::os_path);
        Self { mapping: Arc::new(Mapping { path, ..(*self.mapping).clone() }), ..self.clone() }
    }
}

impl Mapping {
    /// A mapping of code of a file: path, device and inode.
    pub fn of_code(
        (start, bytes): (u64, u64),
        file_offset: u64,
        (path, device, inode): (PathBuf, (u32, u32), u64),
    ) -> Self {
        Self {
            start,
            end: start.saturating_add(bytes),
            file_offset,
            readable: true,
            writable: false,
            executable: true,
            path: Some(path),
            deleted: false,
            device,
            inode,
            special: None,
        }
    }

    /// An address as the processor knows it, without generation.
    pub const fn without_generation(frame: u64) -> u64 {
        frame & (INTERRUPTED | ((1 << SHIFT) - 1))
    }

    /// Whether both have the same code at the same addresses.
    fn is_same_code(&self, other: &Self) -> bool {
        (self.start, self.end, self.file_offset, self.file())
            == (other.start, other.end, other.file_offset, other.file())
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// One mapping of code, whenever and however often it was there.
#[derive(Clone, Debug)]
struct Code {
    mapping: Arc<Mapping>,
    /// 0 for what was first at its addresses.
    generation: u32,
}

/// The code of one process.
#[derive(Clone, Debug, Default)]
pub struct CodeHistory {
    all: Vec<Code>,
    /// When each was mapped, and its index; in the order of time.
    recent: VecDeque<(u64, usize)>,
    generations: u32,
}

impl CodeHistory {
    /// Adds what was mapped; `current` are the mappings before. Returns whether it was not known.
    pub fn add(&mut self, load: &Load, current: &Mappings) -> bool {
        let mapping = &load.mapping;
        let known = self.all.iter().position(|code| code.mapping.is_same_code(mapping));
        let at = known.unwrap_or_else(|| {
            // What was there before anybody reported code is the first generation.
            let replaced = current.iter().filter(|old| {
                old.executable
                    && old.path.is_some()
                    && old.overlaps(mapping)
                    && !old.is_same_code(mapping)
                    && self.all.iter().all(|code| !code.mapping.overlaps(old))
            });
            let replaced: Vec<Code> = replaced
                .map(|old| Code { mapping: Arc::new(old.clone()), generation: 0 })
                .collect();
            self.all.extend(replaced);
            let is_first = self.all.iter().all(|code| !code.mapping.overlaps(mapping));
            let generation = if is_first || self.generations == GENERATIONS {
                0
            } else {
                self.generations += 1;
                self.generations
            };
            self.all.push(Code { mapping: Arc::clone(mapping), generation });
            self.all.len() - 1
        });
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((load.time_ns, at));
        known.is_none()
    }

    /// Whether code has taken the place of other code.
    pub const fn has_generations(&self) -> bool {
        self.generations > 0
    }

    /// A stack at that time, each address with the number of its generation.
    pub fn stack(&self, frames: &[u64], time_ns: u64) -> Arc<[u64]> {
        let generation = |frame: u64| u64::from(self.generation(frame, time_ns)) << SHIFT;
        frames.iter().map(|frame| frame | generation(*frame)).collect()
    }

    /// The generation of the code that is called from at a return address.
    fn generation(&self, frame: u64, time_ns: u64) -> u32 {
        let call =
            if frame & INTERRUPTED == 0 { frame.wrapping_sub(1) } else { frame & !INTERRUPTED };
        let earlier = self.recent.iter().rev().filter(|(since_ns, _)| *since_ns <= time_ns);
        let mut mapped = earlier.filter_map(|(_, at)| self.all.get(*at));
        mapped.find(|code| code.mapping.contains(call)).map_or(0, |code| code.generation)
    }

    /// The mappings that name every address of every generation; `current` are the present ones.
    pub fn with_unloaded(&self, current: &Mappings) -> Mappings {
        let known =
            |mapping: &Mapping| self.all.iter().find(|code| code.mapping.is_same_code(mapping));
        // Memory that nobody reported has taken the place: it may be generated code.
        let is_taken = |code: &Code| {
            let mut over = current.iter().filter(|mapping| mapping.overlaps(&code.mapping));
            over.any(|mapping| mapping.executable && known(mapping).is_none())
        };
        let first: Vec<&Code> =
            self.all.iter().filter(|code| code.generation == 0 && !is_taken(code)).collect();
        let others = current.iter().filter(|mapping| {
            first.iter().all(|code| !code.mapping.overlaps(mapping))
                && known(mapping).is_none_or(|code| code.generation == 0)
        });
        let later = self.all.iter().filter(|code| code.generation > 0).map(|code| {
            let above = u64::from(code.generation) << SHIFT;
            let Mapping { start, end, .. } = *code.mapping;
            Mapping { start: start | above, end: end | above, ..(*code.mapping).clone() }
        });
        first
            .iter()
            .map(|code| (*code.mapping).clone())
            .chain(others.cloned())
            .chain(later)
            .collect()
    }

    /// The present mappings with code that is no longer mapped, where nothing else has been since: a library that is loaded
    /// again is known from its first call on.
    pub fn with_returning(&self, current: &Mappings) -> Mappings {
        let apart = |code: &&Code| {
            let others = self.all.iter().filter(|other| other.mapping.overlaps(&code.mapping));
            others.count() == 1 && !current.overlap(code.mapping.start, code.mapping.end)
        };
        let returning = self.all.iter().filter(apart).map(|code| (*code.mapping).clone());
        current.iter().cloned().chain(returning).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "1000-2000 r-xp 00000000 08:01 1 /opt/host\n";

    fn load(time_ns: u64, start: u64, inode: u64) -> Load {
        let file = (PathBuf::from(format!("/opt/{inode}.so")), (8, 1), inode);
        let mapping = Arc::new(Mapping::of_code((start, 0x1000), 0x1000, file));
        Load { pid: Pid(7), time_ns, mapping }
    }

    #[test]
    fn each_stack_belongs_to_the_code_of_its_time() {
        let host = Mappings::parse(HOST.as_bytes());
        let mut history = CodeHistory::default();
        assert!(history.add(&load(10, 0x8000, 2), &host) && !history.has_generations());
        assert_eq!(history.stack(&[0x8010, 0x1010], 15)[..], [0x8010, 0x1010]);
        assert!(history.add(&load(20, 0x8000, 3), &host) && history.has_generations());
        assert!(!history.add(&load(30, 0x8000, 2), &host));
        let at = |time_ns| history.stack(&[0x8010, 0x1010, 0x8000], time_ns);
        let first = [0x8010, 0x1010, 0x8000];
        assert_eq!((&at(15)[..], &at(35)[..]), (&first[..], &first[..]));
        let second = at(25);
        // The last address is behind a call that ends before the mapping begins.
        assert_eq!(second[..], [0x1_0000_0000_8010, 0x1010, 0x8000]);
        let interrupted = history.stack(&[INTERRUPTED | 0x8000], 25);
        assert_eq!(Mapping::without_generation(interrupted[0]), INTERRUPTED | 0x8000);
        // Both have a mapping, and so has all that is there now.
        let all = history.with_unloaded(&host);
        let inode = |address: u64| all.find(address & !INTERRUPTED).map(|mapping| mapping.inode);
        assert_eq!(inode(0x8010), Some(2));
        assert_eq!(inode(second[0]), Some(3));
        assert_eq!(inode(0x1010), Some(1));
        assert_eq!(all.find(second[0]).unwrap().file_offset_of(second[0]), Some(0x1010));
    }

    #[test]
    fn code_from_before_is_the_first_generation() {
        let text = format!("{HOST}8000-9000 r-xp 00001000 08:01 2 /opt/2.so\n");
        let before = Mappings::parse(text.as_bytes());
        let mut history = CodeHistory::default();
        history.add(&load(20, 0x8000, 3), &before);
        assert_eq!(history.stack(&[0x8010], 19)[..], [0x8010]);
        let later = history.stack(&[0x8010], 21);
        let now = format!("{HOST}8000-9000 r-xp 00001000 08:01 3 /opt/3.so\n");
        let all = history.with_unloaded(&Mappings::parse(now.as_bytes()));
        assert_eq!(all.find(0x8010).map(|mapping| mapping.inode), Some(2));
        assert_eq!(all.find(later[0]).map(|mapping| mapping.inode), Some(3));
        assert_eq!(all.iter().count(), 3);
    }

    #[test]
    fn code_that_may_return_is_where_nothing_else_has_been() {
        let host = Mappings::parse(HOST.as_bytes());
        let mut history = CodeHistory::default();
        history.add(&load(10, 0x8000, 2), &host);
        history.add(&load(20, 0xa000, 4), &host);
        assert_eq!(history.with_returning(&host).iter().count(), 3);
        history.add(&load(30, 0x8800, 3), &host);
        let all = history.with_returning(&host);
        assert_eq!(all.find(0xa010).map(|mapping| mapping.inode), Some(4));
        assert_eq!(all.find(0x8010), None);
    }

    #[test]
    fn generated_code_takes_the_place_of_a_library() {
        let mut history = CodeHistory::default();
        history.add(&load(10, 0x8000, 2), &Mappings::parse(HOST.as_bytes()));
        let now = format!("{HOST}8000-9000 rwxp 00000000 00:00 0\n");
        let all = history.with_unloaded(&Mappings::parse(now.as_bytes()));
        assert_eq!(all.find(0x8010).map(|mapping| mapping.inode), Some(0));
    }
}
