//! Every object's table, and where it lies for the programs.
//!
//! Takes what is mapped in targets, hands on executable ranges with their tables. One table serves
//! every process, and every file with the same build id.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use tracer_common::{
    limits,
    state::{CODE_ALLOCATOR, CODE_LOADING, CodeRange},
    unwind::{Page, RULE_GAP, RULE_PLT, Rule, RuleNumber},
};

use super::{
    compile::{Segment, Table},
    layout::{lay_out, pages_of},
    maker::{Made, Maker, Source},
    pages::Pages,
    ranges::joined,
};
use crate::{
    kernel::Tables,
    target::{
        Pid,
        mappings::{FileId, Mapping, Mappings, open_path},
    },
};

/// The kernel's own code in every process has no file; it is the same in all of them.
const VDSO: FileId = FileId { device: (u32::MAX, u32::MAX), inode: u64::MAX };
/// More than any vdso has.
const VDSO_BYTES: u64 = 1 << 16;
/// Addresses beyond this cannot be told apart by what is remembered of them. No process has code
/// there unless it asks for it.
const HIGHEST: u64 = 1 << 47;

/// Writes what the programs read.
pub trait Writer {
    /// Puts a page of rows in its place.
    fn page(&mut self, index: u32, page: &Page) -> io::Result<()>;
    /// Says what a rule's number means.
    fn rule(&mut self, number: RuleNumber, rule: &Rule) -> io::Result<()>;
}

impl Writer for Tables {
    fn page(&mut self, index: u32, page: &Page) -> io::Result<()> {
        self.write_unwind_page(index, page)
    }

    fn rule(&mut self, number: RuleNumber, rule: &Rule) -> io::Result<()> {
        self.write_unwind_rule(number, rule)
    }
}

/// How far tables have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Objects whose table is in use.
    pub ready: usize,
    /// Objects whose table is being made.
    pub loading: usize,
    /// Objects that have none: no unwind information, or not readable, or no room.
    pub without: usize,
    /// Rows in use.
    pub rows: u64,
    /// Bytes that the tables of the programs hold in use.
    pub bytes: u64,
    /// Rows with a rule that the programs do not know.
    pub unknown_rows: u64,
    /// Executable ranges of targets that found no room in their list.
    pub ranges_left_out: usize,
}

#[derive(Debug)]
enum State {
    ConstructorCall,
    Ready(Ready),
    Without,
}

#[derive(Clone, Debug)]
struct Ready {
    origin: u64,
    segments: Vec<Segment>,
    build_id: Option<Vec<u8>>,
    /// The last one is the root.
    pages: Range<u32>,
    levels: u32,
    rows: u32,
    unknown: usize,
}

/// All tables.
pub struct Library {
    maker: Maker,
    objects: HashMap<FileId, State>,
    pages: Pages,
    begun: bool,
    left_out: HashMap<Pid, usize>,
    /// Files whose table is being made or found no room, as targets see them.
    paths: BTreeMap<FileId, PathBuf>,
    /// Those that found no room.
    no_room: BTreeSet<FileId>,
}

impl Library {
    /// No tables yet; `pages` is the length of the programs' table.
    pub fn new(pages: u32) -> io::Result<Self> {
        Ok(Self {
            maker: Maker::start()?,
            objects: HashMap::new(),
            pages: Pages::new(pages),
            begun: false,
            left_out: HashMap::new(),
            paths: BTreeMap::new(),
            no_room: BTreeSet::new(),
        })
    }

    /// Orders the tables of objects not met before.
    pub fn learn(&mut self, pid: Pid, mappings: &Mappings) {
        for mapping in mappings.iter().filter(|mapping| mapping.executable) {
            let Some(file) = identity(mapping) else { continue };
            if self.objects.contains_key(&file) {
                continue;
            }
            let source = if file == VDSO {
                memory(pid, mapping).map(Source::Bytes)
            } else {
                File::open(open_path(pid, mapping)).map(Source::File)
            };
            let state = match source {
                Ok(source) => self.ordered(file, source),
                Err(error) => {
                    log::info!("no unwind table for {}: {error}", shown(mapping).display());
                    State::Without
                }
            };
            self.paths.insert(file, shown(mapping));
            self.objects.insert(file, state);
        }
    }

    fn ordered(&self, file: FileId, source: Source) -> State {
        if self.maker.order(file, source) { State::ConstructorCall } else { State::Without }
    }

    /// Takes in the tables that are ready. Whether there were any: ranges must then be renewed.
    pub fn arrived(&mut self, writer: &mut impl Writer) -> io::Result<bool> {
        let mut any = false;
        while let Some(made) = self.maker.next(Duration::ZERO) {
            self.take_in(made, writer)?;
            any = true;
        }
        Ok(any)
    }

    /// Waits until every table ordered is there, or the time is up.
    pub fn settle(&mut self, patience: Duration, writer: &mut impl Writer) -> io::Result<()> {
        let limit = Instant::now() + patience;
        while self.objects.values().any(|state| matches!(state, State::ConstructorCall)) {
            let left = limit.saturating_duration_since(Instant::now());
            let Some(made) = self.maker.next(left) else { break };
            self.take_in(made, writer)?;
        }
        self.tell_if_complete();
        Ok(())
    }

    /// For whoever waits for whole stacks.
    pub fn tell_if_complete(&self) {
        if !self.objects.values().any(|state| matches!(state, State::ConstructorCall)) {
            log::info!("all unwind tables are there");
        }
    }

    fn take_in(&mut self, made: Made, writer: &mut impl Writer) -> io::Result<()> {
        if !self.begun {
            writer.rule(RULE_GAP, &Rule::FRAME_POINTER)?;
            writer.rule(RULE_PLT, &Rule { offset: 8, ..Rule::default() })?;
            self.begun = true;
        }
        for (number, rule) in &made.fresh {
            writer.rule(*number, rule)?;
        }
        let state = match made.table {
            Ok(table) => self.place(made.file, table, writer)?,
            Err(why) => {
                log::info!("no unwind table for an object: {why}");
                State::Without
            }
        };
        self.objects.insert(made.file, state);
        Ok(())
    }

    fn place(&mut self, file: FileId, table: Table, writer: &mut impl Writer) -> io::Result<State> {
        let Table { origin, segments, build_id, rows, unknown } = table;
        let same = |ready: &&Ready| build_id.is_some() && ready.build_id == build_id;
        if let Some(same) = self.ready().find(same) {
            return Ok(State::Ready(same.clone()));
        }
        if rows.is_empty() {
            return Ok(State::Without);
        }
        let Some(pages) = self.pages.take(pages_of(rows.len())) else {
            self.no_room.insert(file);
            return Ok(State::Without);
        };
        let (laid_out, levels) = lay_out(&rows, pages.start);
        for (index, page) in pages.clone().zip(&laid_out) {
            writer.page(index, page)?;
        }
        let rows = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        Ok(State::Ready(Ready { origin, segments, build_id, pages, levels, rows, unknown }))
    }

    fn ready(&self) -> impl Iterator<Item = &Ready> {
        self.objects.values().filter_map(|state| match state {
            State::Ready(ready) => Some(ready),
            _ => None,
        })
    }

    /// Gives back the room of tables that no target has mapped any more.
    pub fn forget_unmapped(&mut self, mapped: &[&Mappings]) {
        let in_use: BTreeSet<FileId> =
            mapped.iter().flat_map(|mappings| mappings.iter().filter_map(identity)).collect();
        let gone: Vec<FileId> = self
            .objects
            .iter()
            .filter(|(file, state)| {
                !in_use.contains(file) && !matches!(state, State::ConstructorCall)
            })
            .map(|(file, _)| *file)
            .collect();
        for file in gone {
            self.paths.remove(&file);
            self.no_room.remove(&file);
            let Some(State::Ready(ready)) = self.objects.remove(&file) else { continue };
            if !self.ready().any(|other| other.pages == ready.pages) {
                self.pages.give(ready.pages);
            }
        }
    }

    /// A target's executable memory with its tables, ascending.
    pub fn ranges(
        &mut self,
        pid: Pid,
        mappings: &Mappings,
        is_allocator: impl Fn(FileId) -> bool,
    ) -> Vec<CodeRange> {
        let code = |mapping: &&Mapping| {
            mapping.executable
                && mapping.end <= HIGHEST
                && mapping.special.as_deref() != Some("[uprobes]")
        };
        let all = mappings.iter().filter(code).map(|mapping| self.range(mapping, &is_allocator));
        let mut ranges = joined(all, limits::EXECUTABLE_RANGES);
        self.left_out.insert(pid, ranges.len().saturating_sub(limits::EXECUTABLE_RANGES));
        ranges.truncate(limits::EXECUTABLE_RANGES);
        ranges
    }

    fn range(&self, mapping: &Mapping, is_allocator: &impl Fn(FileId) -> bool) -> CodeRange {
        let mut range =
            CodeRange { start: mapping.start, end: mapping.end, ..CodeRange::default() };
        let Some(file) = identity(mapping) else { return range };
        if is_allocator(file) {
            range.flags |= CODE_ALLOCATOR;
        }
        match self.objects.get(&file) {
            Some(State::ConstructorCall) => range.flags |= CODE_LOADING,
            Some(State::Ready(ready)) => {
                let code = ready.segments.iter();
                let mut found = code.filter_map(|one| one.address_of_page(mapping.file_offset));
                if let Some(address) = found.next() {
                    range.origin = mapping.start.wrapping_sub(address).wrapping_add(ready.origin);
                    range.root = ready.pages.end - 1;
                    range.levels = ready.levels;
                }
            }
            Some(State::Without) | None => {}
        }
        range
    }

    /// The objects whose table found no room, by their paths.
    pub fn without_room(&self) -> Vec<String> {
        let path = |file| self.paths.get(file).map(|path| path.to_string_lossy().into_owned());
        self.no_room.iter().filter_map(path).collect()
    }

    /// How far tables have come.
    pub fn status(&self) -> Status {
        let mut status =
            Status { ranges_left_out: self.left_out.values().sum(), ..Status::default() };
        let mut counted = BTreeSet::new();
        for state in self.objects.values() {
            match state {
                State::ConstructorCall => status.loading += 1,
                State::Without => status.without += 1,
                State::Ready(ready) => {
                    status.ready += 1;
                    if counted.insert(ready.pages.start) {
                        status.rows += u64::from(ready.rows);
                        status.bytes += (ready.pages.len() * size_of::<Page>()) as u64;
                        status.unknown_rows += ready.unknown as u64;
                    }
                }
            }
        }
        status
    }
}

/// The object that a mapping is part of.
fn identity(mapping: &Mapping) -> Option<FileId> {
    if mapping.special.as_deref() == Some("[vdso]") { Some(VDSO) } else { mapping.file() }
}

fn shown(mapping: &Mapping) -> PathBuf {
    mapping.path.clone().or_else(|| mapping.special.clone().map(PathBuf::from)).unwrap_or_default()
}

/// The bytes of a mapping that is an object in itself.
fn memory(pid: Pid, mapping: &Mapping) -> io::Result<Vec<u8>> {
    let length = (mapping.end - mapping.start).min(VDSO_BYTES);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    File::open(pid.proc_path("mem"))?.read_exact_at(&mut bytes, mapping.start)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::mappings;

    struct Nowhere;

    impl Writer for Nowhere {
        fn page(&mut self, _: u32, _: &Page) -> io::Result<()> {
            Ok(())
        }

        fn rule(&mut self, _: RuleNumber, _: &Rule) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn objects_whose_tables_find_no_room_are_named() {
        let mapped = mappings::read(Pid::own()).unwrap();
        let mut library = Library::new(1).unwrap();
        library.learn(Pid::own(), &mapped);
        library.settle(Duration::from_secs(60), &mut Nowhere).unwrap();
        let without = library.without_room();
        assert!(without.iter().any(|path| path.contains("libc.so")), "{without:?}");
        assert!(without.len() <= library.status().without);
        library.forget_unmapped(&[]);
        assert!(library.without_room().is_empty());
    }
}
