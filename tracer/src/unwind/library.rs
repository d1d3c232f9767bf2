//! The tables of all objects, and their pages in the programs' map.
//!
//! Takes the targets' mappings, passes on executable ranges with their tables. All processes, and all files
//! with the same build id, share one table.

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
    builder::{Builder, Built, Source},
    compile::{Segment, Table},
    layout::{lay_out, pages_of},
    pages::Pages,
    ranges::merged,
};
use crate::{
    kernel::Tables,
    target::{
        Pid,
        mappings::{FileId, Mapping, Mappings, open_path},
    },
};

/// The vdso has no file, and is the same in all processes.
const VDSO: FileId = FileId { device: (u32::MAX, u32::MAX), inode: u64::MAX };
/// An upper bound on the size of a vdso.
const VDSO_BYTES: u64 = 1 << 16;
/// The end of the addresses that the programs' caches can distinguish. A process has code beyond it only if it maps
/// memory there explicitly.
const ADDRESS_END: u64 = 1 << 47;

/// Writes unwind tables to where the programs read them.
pub trait Writer {
    /// Writes a page of rows.
    fn page(&mut self, index: u32, page: &Page) -> io::Result<()>;
    /// Writes the rule with this number.
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

/// Counts of tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Objects whose table is in use.
    pub ready: usize,
    /// Objects whose table is being built.
    pub loading: usize,
    /// Objects without a table: no unwind information, unreadable, or no space left.
    pub without: usize,
    /// Rows in use.
    pub rows: u64,
    /// Bytes in use in the programs' map.
    pub bytes: u64,
    /// Rows whose rule the programs do not support.
    pub unknown_rows: u64,
    /// Executable ranges of targets that did not fit into their list.
    pub ranges_left_out: usize,
}

crate::tape::redact::plain!(Status);

#[derive(Debug)]
enum State {
    Building,
    Ready(Ready),
    Without,
}

#[derive(Clone, Debug)]
struct Ready {
    origin: u64,
    segments: Vec<Segment>,
    build_id: Option<Vec<u8>>,
    /// The last page is the root.
    pages: Range<u32>,
    levels: u32,
    rows: u32,
    unknown: usize,
}

/// All tables.
pub struct Library {
    builder: Builder,
    objects: HashMap<FileId, State>,
    pages: Pages,
    has_fixed_rules: bool,
    left_out: HashMap<Pid, usize>,
    /// Paths of the files, as targets see them.
    paths: BTreeMap<FileId, PathBuf>,
    /// Files whose table did not fit.
    did_not_fit: BTreeSet<FileId>,
}

impl Library {
    /// No tables yet; `pages` is the capacity of the programs' map.
    pub fn new(pages: u32) -> io::Result<Self> {
        Ok(Self {
            builder: Builder::start()?,
            objects: HashMap::new(),
            pages: Pages::new(pages),
            has_fixed_rules: false,
            left_out: HashMap::new(),
            paths: BTreeMap::new(),
            did_not_fit: BTreeSet::new(),
        })
    }

    /// Requests the tables of new objects.
    pub fn add_process(&mut self, pid: Pid, mappings: &Mappings) {
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
                Ok(source) => self.requested(file, source),
                Err(error) => {
                    log::info!("no unwind table for {}: {error}", display_path(mapping).display());
                    State::Without
                }
            };
            self.paths.insert(file, display_path(mapping));
            self.objects.insert(file, state);
        }
    }

    fn requested(&self, file: FileId, source: Source) -> State {
        if self.builder.request(file, source) { State::Building } else { State::Without }
    }

    /// Installs the finished tables. Returns whether there were any: the caller must then update the ranges.
    pub fn write_finished(&mut self, writer: &mut impl Writer) -> io::Result<bool> {
        let mut installed = false;
        while let Some(built) = self.builder.next(Duration::ZERO) {
            self.install(built, writer)?;
            installed = true;
        }
        Ok(installed)
    }

    /// Waits until all requested tables are installed, at most for `timeout`.
    pub fn wait(&mut self, timeout: Duration, writer: &mut impl Writer) -> io::Result<()> {
        let deadline = Instant::now() + timeout;
        while self.is_building() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(built) = self.builder.next(left) else { break };
            self.install(built, writer)?;
        }
        self.log_if_complete();
        Ok(())
    }

    /// Whether a requested table is not there yet.
    pub fn is_building(&self) -> bool {
        self.objects.values().any(|state| matches!(state, State::Building))
    }

    /// Logs when all tables are installed, for readers who wait for complete stacks.
    pub fn log_if_complete(&self) {
        if !self.is_building() {
            log::info!("all unwind tables are there");
        }
    }

    fn install(&mut self, built: Built, writer: &mut impl Writer) -> io::Result<()> {
        if !self.has_fixed_rules {
            writer.rule(RULE_GAP, &Rule::FRAME_POINTER)?;
            writer.rule(RULE_PLT, &Rule::ENTRY)?;
            self.has_fixed_rules = true;
        }
        for (number, rule) in &built.new_rules {
            writer.rule(*number, rule)?;
        }
        let state = match built.table {
            Ok(table) => self.write_table(built.file, table, writer)?,
            Err(why) => {
                log::info!("no unwind table for an object: {why}");
                State::Without
            }
        };
        self.objects.insert(built.file, state);
        Ok(())
    }

    fn write_table(
        &mut self,
        file: FileId,
        table: Table,
        writer: &mut impl Writer,
    ) -> io::Result<State> {
        let Table { origin, segments, build_id, rows, unknown } = table;
        let same = |ready: &&Ready| build_id.is_some() && ready.build_id == build_id;
        if let Some(same) = self.ready().find(same) {
            return Ok(State::Ready(same.clone()));
        }
        if rows.is_empty() {
            return Ok(State::Without);
        }
        let Some(pages) = self.pages.allocate(pages_of(rows.len())) else {
            self.did_not_fit.insert(file);
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

    /// Frees the tables of objects that no target maps any more.
    pub fn forget_unmapped(&mut self, mapped: &[&Mappings]) {
        let in_use: BTreeSet<FileId> =
            mapped.iter().flat_map(|mappings| mappings.iter().filter_map(identity)).collect();
        let gone: Vec<FileId> = self
            .objects
            .iter()
            .filter(|(file, state)| !in_use.contains(file) && !matches!(state, State::Building))
            .map(|(file, _)| *file)
            .collect();
        for file in gone {
            self.paths.remove(&file);
            self.did_not_fit.remove(&file);
            let Some(State::Ready(ready)) = self.objects.remove(&file) else { continue };
            if !self.ready().any(|other| other.pages == ready.pages) {
                self.pages.free(ready.pages);
            }
        }
    }

    /// A target's executable ranges with their tables, in ascending order.
    pub fn ranges(
        &mut self,
        pid: Pid,
        mappings: &Mappings,
        is_allocator: impl Fn(FileId) -> bool,
    ) -> Vec<CodeRange> {
        let code = |mapping: &&Mapping| {
            mapping.executable
                && mapping.end <= ADDRESS_END
                && mapping.special.as_deref() != Some("[uprobes]")
        };
        let all = mappings.iter().filter(code).map(|mapping| self.range(mapping, &is_allocator));
        let mut ranges = merged(all, limits::EXECUTABLE_RANGES);
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
            Some(State::Building) => range.flags |= CODE_LOADING,
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

    /// The paths of the objects whose table did not fit.
    pub fn files_without_table(&self) -> Vec<String> {
        let path = |file| self.paths.get(file).map(|path| path.to_string_lossy().into_owned());
        self.did_not_fit.iter().filter_map(path).collect()
    }

    /// Counts of tables.
    pub fn status(&self) -> Status {
        let mut status =
            Status { ranges_left_out: self.left_out.values().sum(), ..Status::default() };
        let mut counted = BTreeSet::new();
        for state in self.objects.values() {
            match state {
                State::Building => status.loading += 1,
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

/// The object that a mapping belongs to.
fn identity(mapping: &Mapping) -> Option<FileId> {
    if mapping.special.as_deref() == Some("[vdso]") { Some(VDSO) } else { mapping.file() }
}

fn display_path(mapping: &Mapping) -> PathBuf {
    mapping.path.clone().or_else(|| mapping.special.clone().map(PathBuf::from)).unwrap_or_default()
}

/// The bytes of a mapping that is itself an object (the vdso).
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

    struct NullWriter;

    impl Writer for NullWriter {
        fn page(&mut self, _: u32, _: &Page) -> io::Result<()> {
            Ok(())
        }

        fn rule(&mut self, _: RuleNumber, _: &Rule) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn objects_whose_tables_do_not_fit_are_named() {
        let mapped = mappings::read(Pid::own()).unwrap();
        let mut library = Library::new(1).unwrap();
        library.add_process(Pid::own(), &mapped);
        library.wait(Duration::from_secs(60), &mut NullWriter).unwrap();
        let without = library.files_without_table();
        assert!(without.iter().any(|path| path.contains("libc.so")), "{without:?}");
        assert!(without.len() <= library.status().without);
        library.forget_unmapped(&[]);
        assert!(library.files_without_table().is_empty());
    }
}
