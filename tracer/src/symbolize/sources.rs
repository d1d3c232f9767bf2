//! The sources of one object's names, and their quality.
//!
//! Takes an object's open file, returns the levels at an offset of it. Tries debug information first (its own, or its
//! debug file's), then symbol tables: the debug file's, its own, and the one packed into it. All of them use the
//! object's own addresses, so the offset is converted to one first.

use std::{fs::File, os::fd::AsRawFd as _, path::PathBuf, rc::Rc};

use blazesym::symbolize::{
    Input, Symbolized, Symbolizer,
    source::{Elf, Source},
};
use object::{
    Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, ReadCache, SymbolKind,
};

use super::{
    debug_file::{DebugIds, Origin, unpacked},
    levels::{self, Level},
};
use crate::report::Names;

/// Every source of names of one object.
pub(super) struct Sources {
    pub(super) ids: DebugIds,
    /// The best quality available.
    pub(super) names: Names,
    segments: Vec<Segment>,
    debug: Vec<Debug>,
    /// Files with symbol tables.
    tables: Vec<Rc<File>>,
}

/// A loaded segment of an object.
struct Segment {
    offset: u64,
    bytes: u64,
    address: u64,
}

/// A file with debug information.
struct Debug {
    file: Rc<File>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not tried yet.
    Untried,
    /// It can be read.
    Usable,
    /// It cannot. Trying again for every address would read the file every time.
    Unusable,
}

/// What one file contains.
#[derive(Clone, Copy)]
struct Contents {
    debug: bool,
    symbols: bool,
    exports: bool,
}

/// A path to an open file, for callees that take only paths. Valid while the file is open.
fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

impl Sources {
    /// Reads which sources the object has, and finds its debug file.
    pub(super) fn of(file: &Rc<File>, origin: Option<&Origin>) -> Result<Self, String> {
        let cache = ReadCache::new(&**file);
        let elf = object::File::parse(&cache).map_err(|error| error.to_string())?;
        let ids = DebugIds::of(&elf, file);
        let own = contents(&elf);
        let mut sources = Self {
            segments: elf
                .segments()
                .map(|segment| {
                    let (offset, bytes) = segment.file_range();
                    Segment { offset, bytes, address: segment.address() }
                })
                .collect(),
            names: Names::None,
            debug: Vec::new(),
            tables: Vec::new(),
            ids,
        };
        if !own.debug
            && let Some(found) = sources.ids.find(origin)
        {
            let cache = ReadCache::new(&found);
            let offered = object::File::parse(&cache).map(|elf| contents(&elf));
            drop(cache);
            if let Ok(offered) = offered {
                sources.add(&Rc::new(found), offered);
            }
        }
        sources.add(file, own);
        if !own.symbols
            && let Some(packed) = unpacked(&elf)
        {
            match packed {
                Ok(packed) => {
                    let only = Contents { debug: false, symbols: true, exports: false };
                    sources.add(&Rc::new(packed), only);
                }
                Err(error) => log::debug!("a packed symbol table is not used: {error}"),
            }
        }
        Ok(sources)
    }

    fn add(&mut self, file: &Rc<File>, contents: Contents) {
        let Contents { debug, symbols, exports } = contents;
        if debug {
            self.debug.push(Debug { file: Rc::clone(file), state: State::Untried });
        }
        if symbols || exports {
            self.tables.push(Rc::clone(file));
        }
        let offered = match (debug, symbols, exports) {
            (true, ..) => Names::Full,
            (_, true, _) => Names::Symbols,
            (.., true) => Names::Exports,
            _ => Names::None,
        };
        self.names = self.names.max(offered);
    }

    /// The levels of the call at this offset of the object's file.
    pub(super) fn find(&mut self, symbolizer: &Symbolizer, offset: u64) -> Vec<Level> {
        let Some(address) = self.segments.iter().find_map(|segment| segment.address_of(offset))
        else {
            return vec![Level::unnamed("not in a loaded segment of the object file")];
        };
        let ask = |file: &File, debug_syms| {
            let mut elf = Elf::new(path_of(file));
            elf.debug_syms = debug_syms;
            symbolizer.symbolize_single(&Source::Elf(elf), Input::VirtOffset(address))
        };
        let in_tables = |tables: &[Rc<File>]| {
            tables.iter().find_map(|file| match ask(file, false) {
                Ok(Symbolized::Sym(sym)) => Some(sym.into_owned()),
                Ok(Symbolized::Unknown(_)) => None,
                Err(error) => {
                    log::debug!("symbols of {} are not usable: {error}", path_of(file).display());
                    None
                }
            })
        };
        for debug in self.debug.iter_mut().filter(|debug| debug.state != State::Unusable) {
            match ask(&debug.file, true) {
                Ok(Symbolized::Sym(sym)) => {
                    debug.state = State::Usable;
                    let mut found = levels::read(&sym);
                    if let (Some(real), Some(table)) = (found.last_mut(), in_tables(&self.tables)) {
                        levels::qualify(real, &table.name);
                    }
                    return found;
                }
                Ok(Symbolized::Unknown(_)) => debug.state = State::Usable,
                Err(error) => {
                    let path = path_of(&debug.file);
                    log::debug!("debug information of {} is not usable: {error}", path.display());
                    if debug.state == State::Untried {
                        debug.state = State::Unusable;
                    }
                }
            }
        }
        in_tables(&self.tables)
            .map_or_else(|| vec![Level::unnamed(why_unknown(self.names))], |sym| levels::read(&sym))
    }
}

impl Segment {
    fn address_of(&self, offset: u64) -> Option<u64> {
        let inside = offset.checked_sub(self.offset).filter(|inside| *inside < self.bytes)?;
        self.address.checked_add(inside)
    }
}

fn contents<'data>(elf: &object::File<'data, impl object::ReadRef<'data>>) -> Contents {
    // A section moved to a debug file is still listed, but has no bytes in the file.
    let has = |name| {
        let section = elf.section_by_name(name);
        section.is_some_and(|section| section.file_range().is_some_and(|(_, bytes)| bytes > 0))
    };
    // Exported data, such as `stdin` in every program that uses it, does not name code.
    let is_code = |symbol: &object::Symbol<'data, '_, _>| {
        symbol.is_definition() && matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown)
    };
    Contents {
        debug: has(".debug_info") || has(".zdebug_info"),
        symbols: elf.symbols().any(|symbol| is_code(&symbol)),
        exports: elf.dynamic_symbols().any(|symbol| is_code(&symbol)),
    }
}

/// Why no source has a name for an address of the object.
fn why_unknown(names: Names) -> &'static str {
    match names {
        Names::None => "stripped, and no debug file was found",
        Names::Exports => "stripped to its exported functions, and no debug file was found",
        Names::Symbols => "no symbol covers this address",
        Names::Full => "neither debug information nor a symbol covers this address",
    }
}
