//! Object files held open, and the names found in them.
//!
//! Takes a path that works now, hands on numbers of objects and the levels (inlined functions and
//! the real one) at a place in a file. Holds every file open and reads it through `/proc/self/fd`,
//! so that names can be found when the target, its mount namespace or the file's own name are gone.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    fs::File,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use blazesym::symbolize::{
    CodeInfo, Input, Reason, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};

/// Number of an object, valid for one [`Objects`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ObjectId(usize);

/// One function at a place: several when functions were inlined there, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) symbol: Option<Arc<str>>,
    /// From the function's start to the return address.
    pub(super) offset: Option<u64>,
    pub(super) file: Option<Arc<str>>,
    pub(super) line: Option<u32>,
    pub(super) inlined: bool,
    pub(super) why_unnamed: Option<Cow<'static, str>>,
}

impl Level {
    /// Without a name, and why.
    pub(super) fn unnamed(why: impl Into<Cow<'static, str>>) -> Self {
        Self { why_unnamed: Some(why.into()), ..Self::default() }
    }

    fn named(name: &str, place: Option<&CodeInfo<'_>>) -> Self {
        let name = without_clone(name);
        Self {
            symbol: (!name.is_empty()).then(|| name.into()),
            file: place.map(|place| place.to_path().to_string_lossy().into()),
            line: place.and_then(|place| place.line),
            why_unnamed: name.is_empty().then_some(Cow::Borrowed("the function has no name")),
            ..Self::default()
        }
    }
}

/// Every object seen so far.
pub(super) struct Objects {
    symbolizer: Symbolizer,
    all: Vec<Result<Object, String>>,
    by_inode: HashMap<(u64, u64), ObjectId>,
    names: HashMap<(ObjectId, u64), Arc<[Level]>>,
}

struct Object {
    /// Never read by us: it keeps `path` valid and the inode from being used again.
    _file: File,
    path: PathBuf,
    debug: Debug,
}

/// Whether debug information is asked as well as the symbol table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Debug {
    /// Not asked yet.
    Untried,
    /// It could be read.
    Usable,
    /// It could not, for instance because the separate debug file is of another build. Trying again
    /// for every address would read that file every time.
    Unusable,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            // The files are held open: there is nothing to reload.
            symbolizer: Symbolizer::builder().enable_auto_reload(false).build(),
            all: Vec::new(),
            by_inode: HashMap::new(),
            names: HashMap::new(),
        }
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("known", &self.names.len()).finish_non_exhaustive()
    }
}

impl Objects {
    /// The number of the object at this path; the same for the same file. A file that cannot be
    /// opened has a number, too, and the reason in place of names.
    pub(super) fn open(&mut self, path: &Path) -> ObjectId {
        let id = ObjectId(self.all.len());
        let opened = File::open(path).and_then(|file| {
            let about = file.metadata()?;
            if !about.is_file() {
                return Err(std::io::Error::other("not a regular file"));
            }
            Ok((file, (about.dev(), about.ino())))
        });
        match opened {
            Ok((file, inode)) => {
                if let Some(known) = self.by_inode.get(&inode) {
                    return *known;
                }
                self.by_inode.insert(inode, id);
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                self.all.push(Ok(Object { _file: file, path, debug: Debug::Untried }));
            }
            Err(error) => self.all.push(Err(format!("object file is not readable: {error}"))),
        }
        id
    }

    /// Whether the object could be opened.
    pub(super) fn is_open(&self, id: ObjectId) -> bool {
        self.all.get(id.0).is_some_and(Result::is_ok)
    }

    /// What is known of the call at this offset of the file.
    pub(super) fn levels(&self, id: ObjectId, call_offset: u64) -> Option<&[Level]> {
        self.names.get(&(id, call_offset)).map(|levels| &**levels)
    }

    /// Finds the name of the call at this offset of the file; whether that was any work.
    pub(super) fn look_up(&mut self, id: ObjectId, call_offset: u64) -> bool {
        if self.names.contains_key(&(id, call_offset)) {
            return false;
        }
        let levels = match self.all.get_mut(id.0) {
            None => vec![Level::unnamed("unknown object")],
            Some(Err(why)) => vec![Level::unnamed(why.clone())],
            Some(Ok(object)) => find(&self.symbolizer, object, call_offset),
        };
        self.names.insert((id, call_offset), levels.into());
        true
    }
}

fn find(symbolizer: &Symbolizer, object: &mut Object, call_offset: u64) -> Vec<Level> {
    let ask = |debug_syms| {
        let mut elf = Elf::new(&object.path);
        elf.debug_syms = debug_syms;
        symbolizer.symbolize_single(&Source::Elf(elf), Input::FileOffset(call_offset))
    };
    if object.debug != Debug::Unusable {
        match ask(true) {
            Ok(Symbolized::Sym(sym)) => {
                object.debug = Debug::Usable;
                let mut levels = read_levels(&sym);
                if let (Some(real), Ok(Symbolized::Sym(table))) = (levels.last_mut(), ask(false)) {
                    qualify(real, &table.name);
                }
                return levels;
            }
            // A separate debug file is asked alone; the object's own table may know more.
            Ok(Symbolized::Unknown(_)) => object.debug = Debug::Usable,
            Err(error) => {
                log::debug!(
                    "debug information of {} is not usable: {error}",
                    object.path.display()
                );
                if object.debug == Debug::Untried {
                    object.debug = Debug::Unusable;
                }
            }
        }
    }
    match ask(false) {
        Ok(Symbolized::Sym(sym)) => read_levels(&sym),
        Ok(Symbolized::Unknown(reason)) => vec![Level::unnamed(why_unknown(reason))],
        Err(error) => vec![Level::unnamed(format!("object file is not readable: {error}"))],
    }
}

/// Debug information may have a function's last name only (`-g1`, line tables only, functions local
/// to a C++ file), where the symbol table has the whole: namespaces, class, parameters.
fn qualify(level: &mut Level, whole: &str) {
    let whole = without_clone(whole);
    if let Some(last) = level.symbol.as_deref() {
        let function = format!("{last}(");
        if whole.ends_with(&format!("::{last}"))
            || whole.contains(&format!("::{function}"))
            || whole.starts_with(&function)
        {
            level.symbol = Some(whole.into());
        }
    }
}

/// A demangled name without the mark of a copy that the compiler made for itself: it is the same
/// function to whoever reads its source.
fn without_clone(name: &str) -> &str {
    name.split_once(" [clone ").map_or(name, |(function, _)| function)
}

/// The inlined functions, innermost first, then the real one. blazesym gives each the place reached
/// in it: for an outer one, that of the call that was inlined.
fn read_levels(sym: &Sym<'_>) -> Vec<Level> {
    let inlined = sym.inlined.iter().rev().map(|function| Level {
        inlined: true,
        ..Level::named(&function.name, function.code_info.as_ref())
    });
    // Of a function whose code is in several pieces the start may be unknown.
    let known_start = sym.addr != 0 && sym.size.is_none_or(|size| sym.offset < size);
    let real = Level {
        // From the call's last byte to the return address.
        offset: u64::try_from(sym.offset).ok().filter(|_| known_start).map(|offset| offset + 1),
        ..Level::named(&sym.name, sym.code_info.as_deref())
    };
    inlined.chain([real]).collect()
}

fn why_unknown(reason: Reason) -> &'static str {
    match reason {
        Reason::MissingSyms => "no symbol covers this address in a stripped object",
        Reason::InvalidFileOffset => "not in a loaded segment of the object file",
        Reason::UnknownAddr => "no symbol covers this address",
        _ => "the object's symbols could not be read",
    }
}
