//! Compiles one object's call frame information into rows.
//!
//! Takes the object's bytes, passes on a [`Table`]. Pure. A row gives the rule that finds the caller from an address in
//! a function. Drops what only a debugger needs (registers that find no frame), and merges adjacent rows that are then
//! equal.

use std::ops::Range;

use gimli::{BaseAddresses, CieOrFde, LittleEndian, UnwindContext, UnwindSection};
use object::{
    BinaryFormat, Object as _, ObjectKind, ObjectSection as _, ObjectSegment as _,
    ObjectSymbol as _, ReadRef, SegmentFlags, SymbolKind, elf::PF_X,
};
use tracer_common::{
    kind::PAGE_BYTES,
    unwind::{
        PAGE_ROWS, RULE_BOTTOM, RULE_GAP, RULE_PLT, RULE_SIGNAL, RULE_UNKNOWN, RuleNumber, row,
        rule_of,
    },
};

use super::{from_code, rules::Rules};
use crate::arch::{Architecture as _, Host, Meaning, Slice};

/// A gap between two functions that is shorter than this is padding: no return address points to it.
const PADDING: u64 = 16;
/// Bytes of code that an entry point without a table is assumed to have.
const ENTRY: u64 = 32;

/// Bytes of `.eh_frame` per row, at least: objects of Debian 12 have 5.8 (redis) to 8.8 (node), and
/// libc, libcrypto, libstdc++ and libevent lie between.
const BYTES_PER_ROW: u64 = 5;

/// An object's unwind table.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Base of the rows' addresses, as an address in the object.
    pub(super) origin: u64,
    /// The executable segments.
    pub(super) segments: Vec<Segment>,
    /// Build id; objects with equal build ids are the same.
    pub(super) build_id: Option<Vec<u8>>,
    /// Rows in ascending order; empty when the object has no unwind information.
    pub(super) rows: Vec<u64>,
    /// Rows whose rule the programs do not support.
    pub(super) unknown: usize,
}

/// A loadable segment of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its offset in the file.
    pub(super) file_offset: u64,
    /// Its size in the file, bytes.
    pub(super) size: u64,
    /// Its address in the object.
    pub(super) address: u64,
}

impl Segment {
    /// The address in the object of a mapping of the file from `file_offset` on; `None` if the mapping does not belong
    /// to this segment. A mapping starts at a page boundary, and that page may also hold the end of the segment before
    /// (files linked by lld).
    pub(super) fn address_of_page(&self, file_offset: u64) -> Option<u64> {
        let begins = self.file_offset & !(PAGE_BYTES - 1) <= file_offset;
        (begins && file_offset < self.file_offset.saturating_add(self.size))
            .then(|| file_offset.wrapping_sub(self.file_offset).wrapping_add(self.address))
    }
}

/// Why an object has no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// Not an object for this architecture.
    #[error("not an {name} object: {0}", name = Host::NAME)]
    Object(String),
    /// Its segments span more than 4 GiB.
    #[error("its code spans more than 4 GiB")]
    TooWide,
}

/// An upper bound on the rows of an object's table, from its section sizes alone.
pub(super) fn expected_rows<'data, R: ReadRef<'data>>(data: R) -> u64 {
    let Ok(file) = object::File::parse(data) else { return 0 };
    let size = |name| file.section_by_name(name).map_or(0, |section| section.size());
    let eh_frame = size(".eh_frame");
    let bytes = if eh_frame == 0 { size(".debug_frame") } else { eh_frame };
    (bytes / BYTES_PER_ROW).next_multiple_of(PAGE_ROWS as u64)
}

/// Builds the table of the object in `data`; `rules` numbers its rules.
pub(super) fn compile<'data, R: ReadRef<'data>>(
    data: R,
    rules: &mut Rules,
) -> Result<Table, Unusable> {
    let file = object::File::parse(data).map_err(|error| Unusable::Object(error.to_string()))?;
    let of_this_machine = file.format() == BinaryFormat::Elf
        && file.architecture() == Host::OBJECTS
        && matches!(file.kind(), ObjectKind::Executable | ObjectKind::Dynamic);
    if !of_this_machine {
        return Err(Unusable::Object(format!("{:?}", file.architecture())));
    }
    let segments = file.segments().map(|segment| {
        let (file_offset, size) = segment.file_range();
        let flags = segment.flags();
        let is_code = matches!(flags, SegmentFlags::Elf { p_flags, .. } if p_flags & PF_X == PF_X);
        (is_code, Segment { file_offset, size, address: segment.address() })
    });
    let all: Vec<(bool, Segment)> = segments.collect();
    let origin =
        all.iter().map(|(_, segment)| segment.address).min().unwrap_or(0) & !(PAGE_BYTES - 1);
    let top = all.iter().map(|(_, segment)| segment.address.saturating_add(segment.size)).max();
    if top.unwrap_or(0).saturating_sub(origin) > u64::from(u32::MAX) {
        return Err(Unusable::TooWide);
    }
    let segments = all.into_iter().filter(|(is_code, _)| *is_code).map(|(_, one)| one).collect();
    let mut functions = Functions { origin, rules, all: Vec::new(), rows: Vec::new(), unknown: 0 };
    let address = |name| file.section_by_name(name).map(|section| section.address());
    let mut bases = BaseAddresses::default();
    for (name, set) in [
        (".eh_frame", BaseAddresses::set_eh_frame as fn(BaseAddresses, u64) -> BaseAddresses),
        (".text", BaseAddresses::set_text),
        (".got", BaseAddresses::set_got),
    ] {
        if let Some(address) = address(name) {
            bases = set(bases, address);
        }
    }
    let bytes = |name| {
        let section = file.section_by_name(name)?;
        // Debug sections may be compressed.
        section.uncompressed_data().ok().filter(|bytes| !bytes.is_empty())
    };
    if let Some(bytes) = bytes(".eh_frame") {
        let mut section = gimli::EhFrame::from(Slice::new(&bytes, LittleEndian));
        section.set_address_size(8);
        functions.read(&section, &bases);
    }
    if functions.all.is_empty()
        && let Some(bytes) = bytes(".debug_frame")
    {
        let mut section = gimli::DebugFrame::from(Slice::new(&bytes, LittleEndian));
        section.set_address_size(8);
        functions.read(&section, &bases);
    }
    functions.add_signal_returns(&file);
    functions.add_entry(file.entry());
    let unknown = functions.unknown;
    Ok(Table {
        origin,
        segments,
        build_id: file.build_id().ok().flatten().map(<[u8]>::to_vec),
        rows: functions.into_rows(),
        unknown,
    })
}

/// Functions with their rows, in section order.
struct Functions<'rules> {
    origin: u64,
    rules: &'rules mut Rules,
    /// Start, end, and the function's range in `rows`.
    all: Vec<(u64, u64, std::ops::Range<usize>)>,
    rows: Vec<(u64, RuleNumber)>,
    unknown: usize,
}

impl Functions<'_> {
    fn read<'data, S>(&mut self, section: &S, bases: &BaseAddresses)
    where
        S: UnwindSection<Slice<'data>>,
        S::Offset: gimli::UnwindOffset,
    {
        let mut context = UnwindContext::new();
        let mut entries = section.entries(bases);
        // Stops at a damaged entry, whose length is unknown; the entries before it are good.
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let Ok(fde) = partial.parse(S::cie_from_offset) else { continue };
            let (start, end) = (fde.initial_address(), fde.end_address());
            // Functions that the linker has discarded start at 0.
            if start < self.origin.max(1) || end <= start {
                continue;
            }
            let first = self.rows.len();
            if fde.is_signal_trampoline() {
                self.rows.push((start, RULE_SIGNAL));
            } else if let Ok(mut table) = fde.rows(section, bases, &mut context) {
                loop {
                    let number = match table.next_row() {
                        Ok(None) => break,
                        Ok(Some(found)) => {
                            let address = found.start_address();
                            let encoding = fde.cie().encoding();
                            let meaning = Host::unwind_rule(found, section, encoding);
                            let number = self.number(&meaning);
                            self.rows.push((address, number));
                            continue;
                        }
                        Err(_) => RULE_UNKNOWN,
                    };
                    self.unknown += 1;
                    self.rows.push((self.rows.last().map_or(start, |row| row.0), number));
                    break;
                }
            }
            self.all.push((start, end, first..self.rows.len()));
        }
    }

    fn number(&mut self, meaning: &Meaning) -> RuleNumber {
        match meaning {
            Meaning::Bottom => RULE_BOTTOM,
            Meaning::Plt => RULE_PLT,
            Meaning::Rule(rule) => self.rules.number(*rule),
            Meaning::Unknown => {
                self.unknown += 1;
                RULE_UNKNOWN
            }
        }
    }

    /// Marks the entry point, which has no caller, as outermost frame where no table covers it (musl).
    fn add_entry(&mut self, entry: u64) {
        let next = self.all.iter().map(|(start, _, _)| *start).filter(|start| *start > entry).min();
        let end = entry.saturating_add(ENTRY).min(next.unwrap_or(u64::MAX));
        let is_covered = self.all.iter().any(|(start, stop, _)| (*start..*stop).contains(&entry));
        if entry > self.origin && !is_covered {
            let first = self.rows.len();
            self.rows.push((entry, RULE_BOTTOM));
            self.all.push((entry, end, first..first + 1));
        }
    }

    /// Finds the signal trampoline where no table marks it (musl).
    fn add_signal_returns<'data, R: ReadRef<'data>>(&mut self, file: &object::File<'data, R>) {
        if self.rows.iter().any(|(_, rule)| *rule == RULE_SIGNAL) {
            return;
        }
        let Some(text) = file.section_by_name(".text") else { return };
        // Only a C library or a static program has one.
        let is_libc = file.dynamic_symbols().any(|symbol| {
            symbol.is_definition() && symbol.name_bytes() == Ok(b"sigaction".as_slice())
        });
        let is_static =
            file.section_by_name(".interp").is_none() && file.section_by_name(".dynsym").is_none();
        if !is_libc && !is_static {
            return;
        }
        let Ok(code) = text.data() else { return };
        for pattern in Host::SIGNAL_RETURNS {
            for at in memchr::memmem::find_iter(code, pattern) {
                let start = text.address() + at as u64;
                let end = start + pattern.len() as u64;
                let first = self.rows.len();
                // The return address is the first instruction, and the lookup subtracts one byte.
                self.rows.push((start - 1, RULE_SIGNAL));
                self.all.push((start - 1, end, first..first + 1));
            }
        }
        self.add_from_code(file, code, text.address());
    }

    /// Adds the functions of a C library without tables (musl), by their code.
    fn add_from_code<'data, R: ReadRef<'data>>(
        &mut self,
        file: &object::File<'data, R>,
        code: &[u8],
        address: u64,
    ) {
        let mut covered: Vec<Range<u64>> =
            self.all.iter().map(|(start, end, _)| *start..*end).collect();
        covered.sort_by_key(|range| range.start);
        let begins = file
            .dynamic_symbols()
            .chain(file.symbols())
            .filter(|symbol| symbol.is_definition() && symbol.kind() == SymbolKind::Text)
            .map(|symbol| symbol.address())
            // Its symbol has no type.
            .chain([file.entry()]);
        for (range, rules) in from_code::functions(code, address, begins, &covered) {
            let first = self.rows.len();
            for (from, meaning) in rules {
                let number = meaning.map_or(RULE_GAP, |meaning| self.number(&meaning));
                self.rows.push((from, number));
            }
            self.all.push((range.start, range.end, first..self.rows.len()));
        }
    }

    /// One table of all functions in ascending order, with gaps where there is no information.
    fn into_rows(mut self) -> Vec<u64> {
        self.all.sort_by_key(|(start, end, _)| (*start, *end));
        let mut table = Ascending { origin: self.origin, rows: Vec::new() };
        let mut covered = 0;
        for (start, end, rows) in &self.all {
            if covered != 0 && start.saturating_sub(covered) >= PADDING {
                table.push(covered, RULE_GAP);
            }
            for (address, rule) in self.rows.get(rows.clone()).unwrap_or_default() {
                // If functions overlap (folded ones), the rows of the first apply.
                if *address >= covered {
                    table.push(*address, *rule);
                }
            }
            covered = covered.max(*end);
        }
        if covered != 0 {
            table.push(covered, RULE_GAP);
        }
        table.rows
    }
}

/// Rows in ascending order; each has a rule other than its predecessor.
struct Ascending {
    origin: u64,
    rows: Vec<u64>,
}

impl Ascending {
    fn push(&mut self, address: u64, rule: RuleNumber) {
        let Ok(relative) = u32::try_from(address.wrapping_sub(self.origin)) else { return };
        let last = self.rows.last().map(|last| last >> 32);
        if last.is_some_and(|last| last > u64::from(relative)) {
            return;
        }
        // Of two rules for one address, the later one applies.
        if last == Some(u64::from(relative)) {
            self.rows.pop();
        }
        if self.rows.last().is_none_or(|last| rule_of(*last) != rule) {
            self.rows.push(row(relative, rule));
        }
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
