//! What a block is, by its first bytes: a C++ object by its table of virtual functions, text, zeros.
//!
//! Takes blocks and their first bytes, passes on a [`Kind`]. A class is named only if its table proves it: by run-time type
//! information, which stripped programs have too, or by the table's symbol. Reads constants of the process and of its files.
//! Must not guess.

use std::{collections::HashMap, fs::File, os::unix::fs::FileExt as _, sync::Arc};

use cpp_demangle::{DemangleOptions, Symbol};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _, ReadCache};

use super::{
    memory::{Memory, WORD_BYTES, untagged},
    regions::{Purpose, purpose},
};
use crate::target::{
    Pid,
    mappings::{FileId, Mapping, Mappings, open_path},
};

/// Bytes of a block that are enough to tell what it is.
pub const PREFIX_BYTES: usize = 64;

/// The longest name of a type that is read; templates have long ones.
const MAX_NAME: usize = 4096;

/// Text is at least as long: fewer printable bytes are too often a number.
const MIN_TEXT: usize = 4;

/// An object is at most as large as this before the part that a second table is for.
const MAX_OFFSET_TO_TOP: i64 = 1 << 24;

/// What a block is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A C++ object of this class.
    Class(Arc<str>),
    /// Text.
    Text,
    /// Nothing but zeros, as far as it was read.
    Zeros,
    /// Records of the allocator.
    Allocator,
    /// Something else.
    Other,
    /// Its first page has never been written to.
    Untouched,
}

/// Classes by the address of their table, and the files that name them.
#[derive(Debug)]
pub struct Types<'a, M> {
    pid: Pid,
    memory: &'a M,
    mappings: &'a Mappings,
    classes: HashMap<u64, Option<Arc<str>>>,
    /// Tables by address in the file, by file.
    tables: HashMap<FileId, HashMap<u64, String>>,
    files: HashMap<FileId, Option<File>>,
}

impl<'a, M: Memory> Types<'a, M> {
    /// The types of a process.
    pub fn new(pid: Pid, memory: &'a M, mappings: &'a Mappings) -> Self {
        let (tables, files) = (HashMap::new(), HashMap::new());
        Self { pid, memory, mappings, classes: HashMap::new(), tables, files }
    }

    /// What a block with these first bytes is.
    pub fn kind(&mut self, prefix: &[u8]) -> Kind {
        if let Some(first) = prefix.first_chunk() {
            let table = untagged(u64::from_le_bytes(*first));
            if let Some(class) = self.class(table) {
                return Kind::Class(class);
            }
        }
        match prefix {
            [] => Kind::Untouched,
            _ if prefix.iter().all(|byte| *byte == 0) => Kind::Zeros,
            _ if is_text(prefix) => Kind::Text,
            _ => Kind::Other,
        }
    }

    /// The class whose objects begin with this address of a table.
    fn class(&mut self, table: u64) -> Option<Arc<str>> {
        if !table.is_multiple_of(WORD_BYTES) || table < 4096 {
            return None;
        }
        if let Some(known) = self.classes.get(&table) {
            return known.clone();
        }
        // Most first words lead nowhere near a table: they are not worth remembering.
        self.constants(table)?;
        let class = self.proven(table).map(Arc::from);
        self.classes.insert(table, class.clone());
        class
    }

    /// The mapping of an object file's constants or variables at an address.
    fn constants(&self, address: u64) -> Option<&'a Mapping> {
        let mapping = self.mappings.find(address)?;
        matches!(purpose(mapping), Purpose::Constants | Purpose::Variables).then_some(mapping)
    }

    fn proven(&mut self, table: u64) -> Option<String> {
        let before = self.words(table.checked_sub(16)?, 3)?;
        let [to_top, info, function] = before.as_slice() else { return None };
        // The first function; a class without one that is called may have none here.
        let is_code = |address: u64| {
            self.mappings.find(untagged(address)).is_some_and(|mapping| mapping.executable)
        };
        let offset = to_top.cast_signed();
        if !(-MAX_OFFSET_TO_TOP..=0).contains(&offset) || !is_code(*function) {
            return None;
        }
        if *info == 0 { self.by_symbol(table - 16) } else { self.by_type_information(*info) }
    }

    /// By `std::type_info`: a pointer to a table of its own, then the name.
    fn by_type_information(&mut self, info: u64) -> Option<String> {
        self.constants(info)?;
        let words = self.words(info, 2)?;
        let [own_table, name] = words.as_slice() else { return None };
        self.constants(*own_table)?;
        let mapping = self.mappings.find(*name)?;
        let most = usize::try_from(mapping.end - name).unwrap_or(MAX_NAME).min(MAX_NAME);
        let bytes = self.bytes(*name, most)?;
        let name = bytes.split(|byte| *byte == 0).next()?;
        // A star begins the name of a class that is local to its file.
        let name = str::from_utf8(name.strip_prefix(b"*").unwrap_or(name)).ok()?;
        demangled(&format!("_ZTS{name}"), "typeinfo name for ", "")
    }

    /// By the symbol of the table.
    fn by_symbol(&mut self, start: u64) -> Option<String> {
        let mapping = self.mappings.find(start)?;
        let file = mapping.file()?;
        let offset = mapping.file_offset_of(start)?;
        if !self.tables.contains_key(&file) {
            let tables = self.open(mapping).and_then(tables_of).unwrap_or_default();
            self.tables.insert(file, tables);
        }
        let name = self.tables.get(&file)?.get(&offset)?;
        demangled(name, "{vtable(", ")}")
    }

    fn words(&mut self, address: u64, count: usize) -> Option<Vec<u64>> {
        let bytes = self.bytes(address, count * 8)?;
        let words = bytes.chunks_exact(8).filter_map(|word| word.first_chunk());
        let words: Vec<u64> = words.map(|word| u64::from_le_bytes(*word)).collect();
        (words.len() == count).then_some(words)
    }

    /// Bytes of constants: from memory, or from the file if the process has not read that page yet.
    fn bytes(&mut self, address: u64, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        let read = self.memory.read(address, &mut bytes);
        if read == count {
            return Some(bytes);
        }
        let mapping = self.mappings.find(address)?;
        let offset = mapping.file_offset_of(address)?;
        let file = self.open(mapping)?;
        let rest = bytes.get_mut(read..)?;
        let more = file.read_at(rest, offset + read as u64).ok()?;
        bytes.truncate(read + more);
        Some(bytes)
    }

    fn open(&mut self, mapping: &Mapping) -> Option<&File> {
        let file = mapping.file()?;
        let pid = self.pid;
        let open = || File::open(open_path(pid, mapping)).ok();
        self.files.entry(file).or_insert_with(open).as_ref()
    }
}

/// The tables of virtual functions that an object file has symbols of, by offset in the file.
fn tables_of(file: &File) -> Option<HashMap<u64, String>> {
    let cache = ReadCache::new(file);
    let object = object::File::parse(&cache).ok()?;
    let offset = |address: u64| {
        object.segments().find_map(|segment| {
            let inside = address.checked_sub(segment.address())?;
            (inside < segment.size()).then(|| segment.file_range().0 + inside)
        })
    };
    let symbols = object.symbols().chain(object.dynamic_symbols());
    let tables = symbols.filter_map(|symbol| {
        let name = symbol.name().ok().filter(|name| name.starts_with("_ZTV"))?;
        Some((offset(symbol.address())?, name.to_owned()))
    });
    Some(tables.collect())
}

/// The class in the demangled form of a name, which is between these words.
fn demangled(name: &str, start: &str, end: &str) -> Option<String> {
    let symbol = Symbol::new(name).ok()?;
    let text = symbol.demangle_with_options(&DemangleOptions::default()).ok()?;
    let class = text.strip_prefix(start)?.strip_suffix(end)?;
    (!class.is_empty()).then(|| class.to_owned())
}

/// Whether a block with these first bytes is text: printable up to a zero, or as far as was read.
fn is_text(prefix: &[u8]) -> bool {
    let end = prefix.iter().position(|byte| *byte == 0);
    let text = prefix.get(..end.unwrap_or(prefix.len())).unwrap_or(prefix);
    if text.len() < MIN_TEXT {
        return false;
    }
    let printable = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
    // The last character may be cut.
    let valid = match str::from_utf8(text) {
        Ok(_) => true,
        Err(error) => end.is_none() && error.error_len().is_none(),
    };
    valid && text.iter().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_printable_up_to_its_end() {
        let check = |bytes: &[u8], expected| assert_eq!(is_text(bytes), expected, "{bytes:?}");
        check(b"GET /index\0\xff\xfe", true);
        check(b"abc\0", false);
        check("Größe 12 µ".as_bytes(), true);
        check(b"\x01abcdef", false);
        check(b"abc\xffdef\0", false);
        check(&[b'x'; 64], true);
        check(b"\x40\x12\x40\0", false);
    }

    #[test]
    fn names_of_types_are_demangled() {
        let check = |name: &str, class: Option<&str>| {
            let found = demangled(&format!("_ZTS{name}"), "typeinfo name for ", "");
            assert_eq!(found.as_deref(), class, "{name}");
        };
        check("7Session", Some("Session"));
        check("N3uWS10HttpServerILb1EEE", Some("uWS::HttpServer<true>"));
        check("no type", None);
        let found = demangled("_ZTV7Session", "{vtable(", ")}");
        assert_eq!(found.as_deref(), Some("Session"));
    }
}
