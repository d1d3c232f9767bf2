//! Identifies the allocators in an object file: prefixes, name and version.
//!
//! Takes a file, passes on [`ObjectInfo`]. Reads symbols and a few strings only; does not decide which allocator is
//! used.

use std::{
    collections::HashSet,
    fs::File,
    path::{Path, PathBuf},
};

use memchr::memmem;
use object::{
    Object as _, ObjectSection as _, ReadCache, elf,
    read::elf::{ElfFile64, FileHeader as _, SectionHeader as _, Sym as _},
};

use super::catalog::PREFIXES;
use crate::{format::file_name, target::LIBC_NAMES};

/// Symbols that identify allocators. The first one that the file defines is used.
const MARKS: [(&str, &str); 10] = [
    ("__asan_init", "AddressSanitizer"),
    ("mi_version", "mimalloc"),
    ("tc_version", "tcmalloc"),
    ("mallctl", "jemalloc"),
    ("sn_rust_alloc", "snmalloc"),
    ("gnu_get_libc_version", "glibc"),
    // A static program contains only the functions that it uses.
    ("_int_malloc", "glibc"),
    ("__libc_malloc_impl", "musl"),
    ("__malloc_alloc_meta", "musl"),
    ("__malloc_donate", "musl"),
];

/// Acquiring functions, of which an allocator has at least one: those of C, jemalloc, mimalloc.
const ACQUIRING: [&str; 4] = ["malloc", "calloc", "mallocx", "malloc_aligned"];
/// Releasing functions, likewise.
const RELEASING: [&str; 3] = ["free", "sdallocx", "dallocx"];

/// One allocator in an object: a family of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// Its name; `None` if unknown.
    pub(super) name: Option<&'static str>,
    /// Its version, if a string in the file contains it.
    pub(super) version: Option<String>,
    /// The prefixes of its functions.
    pub(super) prefixes: Vec<String>,
    /// Whether it has no function that releases: the linker of a static program has left it out.
    pub(super) never_releases: bool,
}

/// What an object file contains.
#[derive(Clone, Debug, Default)]
pub(super) struct ObjectInfo {
    pub(super) path: PathBuf,
    /// `DT_SONAME`: the name by which other objects need it.
    pub(super) soname: Option<String>,
    /// `DT_NEEDED`: names of the objects that it needs.
    pub(super) needed: Vec<String>,
    /// Whether it is a C library.
    pub(super) is_libc: bool,
    /// Whether it exports `malloc` and `free` to other objects.
    pub(super) offers: bool,
    /// Whether it has any function symbol.
    pub(super) has_symbols: bool,
    pub(super) families: Vec<Family>,
    /// The functions that it defines of those that identify libraries.
    pub(super) marks: HashSet<String>,
}

/// Whether a file is a C library, by its name.
pub(super) fn is_c_library(path: &Path) -> bool {
    let path = path.to_string_lossy();
    LIBC_NAMES.iter().any(|start| file_name(&path).starts_with(start))
}

/// Inspects one object. The result is empty for a file that is not an ELF file or cannot be read.
pub(super) fn inspect(
    path: &Path,
    open: &Path,
    more: &[String],
    marks: &HashSet<String>,
) -> ObjectInfo {
    let blank = ObjectInfo { path: path.to_owned(), ..ObjectInfo::default() };
    let Ok(opened) = File::open(open) else { return blank };
    let cache = ReadCache::new(opened);
    let Ok(elf) = ElfFile64::<object::Endianness, _>::parse(&cache) else { return blank };
    let (soname, needed) = dynamic(&elf);
    let path_text = path.to_string_lossy();
    let is_libc = is_c_library(path);
    // Only the dynamic loader itself uses its allocator.
    if ["ld-linux", "ld-2."].iter().any(|start| file_name(&path_text).starts_with(start)) {
        return ObjectInfo { soname, needed, ..blank };
    }
    let prefixes: Vec<&str> = PREFIXES.into_iter().chain(more.iter().map(String::as_str)).collect();
    let names = Names::of(&elf, &prefixes, marks);
    let mut families: Vec<Family> = Vec::new();
    for prefix in prefixes {
        if !names.is_family(prefix) {
            continue;
        }
        let name = names.allocator(prefix).or_else(|| is_libc.then_some("musl"));
        match families.iter_mut().find(|family| family.name == name) {
            Some(family) => family.prefixes.push(prefix.to_owned()),
            None => {
                families.push(Family {
                    name,
                    version: None,
                    prefixes: vec![prefix.to_owned()],
                    never_releases: prefix.is_empty() && !names.has("", "free"),
                });
            }
        }
    }
    let constants = (!families.is_empty()).then(|| elf.section_by_name(".rodata")).flatten();
    if let Some(bytes) = constants.and_then(|section| section.data().ok()) {
        for family in &mut families {
            family.version = version(family.name, bytes);
        }
    }
    ObjectInfo {
        soname,
        needed,
        is_libc,
        offers: names.offers,
        has_symbols: names.any,
        families,
        marks: names.marks,
        ..blank
    }
}

/// The relevant symbols of an object file.
struct Names {
    found: HashSet<String>,
    marks: HashSet<String>,
    offers: bool,
    any: bool,
}

impl Names {
    fn of<'data, R: object::ReadRef<'data>>(
        elf: &ElfFile64<'data, object::Endianness, R>,
        prefixes: &[&str],
        marks: &HashSet<String>,
    ) -> Self {
        let mut names =
            Self { found: HashSet::new(), marks: HashSet::new(), offers: false, any: false };
        let mut offered = 0;
        let endian = elf.endian();
        for (table, dynamic) in
            [(elf.elf_dynamic_symbol_table(), true), (elf.elf_symbol_table(), false)]
        {
            // Reads all strings at once: one by one, each would be a read of the file.
            let section = elf.elf_section_table().section(table.string_section());
            let strings = section.and_then(|section| section.data(endian, elf.data()));
            let Ok(strings) = strings else { continue };
            for symbol in table.iter().filter(|one| !one.is_undefined(endian)) {
                if symbol.st_value(endian) == 0 {
                    continue;
                }
                names.any |= matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC);
                let name = usize::try_from(symbol.st_name(endian)).unwrap_or(usize::MAX);
                let rest = strings.get(name..).unwrap_or_default();
                let end = memchr::memchr(0, rest).unwrap_or(rest.len());
                let Ok(name) = str::from_utf8(rest.get(..end).unwrap_or_default()) else {
                    continue;
                };
                let bare = name.split('@').next().unwrap_or(name);
                if marks.contains(bare) {
                    names.marks.insert(bare.to_owned());
                }
                let family = matches!(bare, "malloc" | "free");
                offered += u8::from(family && dynamic);
                let matches = |rest: &str| {
                    ACQUIRING.contains(&rest) || RELEASING.contains(&rest) || rest == "mallctl"
                };
                let prefixed =
                    || prefixes.iter().any(|prefix| bare.strip_prefix(prefix).is_some_and(matches));
                let mark = || MARKS.iter().any(|(mark, _)| *mark == bare);
                // Only its own compilation unit uses a local `malloc`; the linker has hidden a local `je_malloc`.
                let local = symbol.st_bind() == elf::STB_LOCAL;
                if (!family || !local) && (prefixed() || mark()) {
                    names.found.insert(bare.to_owned());
                }
            }
        }
        names.offers = offered >= 2;
        names
    }

    fn has(&self, prefix: &str, name: &str) -> bool {
        self.found.contains(&format!("{prefix}{name}"))
    }

    /// Whether the file contains an allocator with this prefix. The linker drops functions that a program does not
    /// call: a Rust program with jemalloc has `_rjem_sdallocx` but no `_rjem_free`. An allocator that replaces libc's
    /// has both; that of musl in a static program that never frees has only `malloc`.
    fn is_family(&self, prefix: &str) -> bool {
        if prefix.is_empty() {
            let is_musl = || self.allocator("") == Some("musl");
            return self.has("", "malloc") && (self.has("", "free") || is_musl());
        }
        let any = |names: &[&str]| names.iter().any(|name| self.has(prefix, name));
        any(&ACQUIRING) && any(&RELEASING)
    }

    /// The allocator that has this prefix.
    fn allocator(&self, prefix: &str) -> Option<&'static str> {
        match prefix {
            "tc_" => return Some("tcmalloc"),
            "mi_" => return Some("mimalloc"),
            "" => {}
            _ if self.has(prefix, "mallctl") => return Some("jemalloc"),
            "je_" | "_rjem_" | "rjem_" => return Some("jemalloc"),
            _ => return None,
        }
        let mark = MARKS.iter().find(|(mark, _)| self.found.contains(*mark));
        mark.map(|(_, name)| *name)
    }
}

/// `DT_SONAME` and `DT_NEEDED`.
fn dynamic<'data, R: object::ReadRef<'data>>(
    elf: &ElfFile64<'data, object::Endianness, R>,
) -> (Option<String>, Vec<String>) {
    use object::read::elf::Dyn as _;
    let (endian, data) = (elf.endian(), elf.data());
    let mut needed = Vec::new();
    let mut soname = None;
    let sections = elf.elf_header().sections(endian, data);
    let table = sections.and_then(|sections| {
        let found = sections.dynamic(endian, data)?;
        let Some((entries, link)) = found else { return Ok(None) };
        Ok(Some((entries, sections.strings(endian, data, link)?)))
    });
    let Ok(Some((entries, strings))) = table else { return (soname, needed) };
    for entry in entries {
        let text = || {
            let bytes = entry.string(endian, strings).ok()?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        match entry.tag(endian) {
            elf::DT_NEEDED => needed.extend(text()),
            elf::DT_SONAME => soname = text(),
            _ => {}
        }
    }
    (soname, needed)
}

/// The version in an allocator's own strings.
fn version(name: Option<&str>, bytes: &[u8]) -> Option<String> {
    match name? {
        "glibc" => after(bytes, b"stable release version "),
        "tcmalloc" => after(bytes, b"gperftools "),
        // `5.3.0-0-g` and the commit's 40 digits.
        "jemalloc" => {
            let at = memmem::find_iter(bytes, b"-g").find(|at| {
                let commit = bytes.get(at + 2..at + 42);
                commit.is_some_and(|commit| commit.iter().all(u8::is_ascii_hexdigit))
            })?;
            let before = bytes.get(at.checked_sub(24)?..at)?;
            let start = before.iter().rposition(|byte| *byte == 0).map_or(0, |zero| zero + 1);
            let text = str::from_utf8(before.get(start..)?).ok()?;
            Some(text.split('-').next()?.to_owned()).filter(|text| text.contains('.'))
        }
        _ => None,
    }
}

/// Digits and points after a text.
fn after(bytes: &[u8], text: &[u8]) -> Option<String> {
    let is_number = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
    memmem::find_iter(bytes, text).find_map(|at| {
        let number = bytes.get(at + text.len()..)?;
        let number: Vec<u8> = number.iter().take_while(is_number).copied().collect();
        let number = String::from_utf8(number).ok()?;
        let number = number.trim_end_matches('.');
        (!number.is_empty()).then(|| number.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_strings() {
        let glibc = b"\0GNU C Library (X) stable release version 2.36.\nCopyright";
        assert_eq!(version(Some("glibc"), glibc).as_deref(), Some("2.36"));
        let commit = "54eaed1d8b56b1aa528be3bdd1877e59c56fa90c";
        let jemalloc = format!("padding of some length here\0<jemalloc>: \05.3.0-0-g{commit}\0");
        assert_eq!(version(Some("jemalloc"), jemalloc.as_bytes()).as_deref(), Some("5.3.0"));
        assert_eq!(
            version(Some("tcmalloc"), b"x gperftools y\0gperftools 2.10\0").as_deref(),
            Some("2.10")
        );
        assert_eq!(version(Some("mimalloc"), b"2.0.9"), None);
        assert_eq!(version(None, b""), None);
    }

    #[test]
    fn an_allocator_with_a_prefix_may_lack_unused_functions() {
        let names = |all: &[&str]| Names {
            found: all.iter().map(|name| (*name).to_owned()).collect(),
            marks: HashSet::new(),
            offers: false,
            any: true,
        };
        assert!(names(&["_rjem_malloc", "_rjem_sdallocx"]).is_family("_rjem_"));
        assert!(names(&["mi_malloc_aligned", "mi_free"]).is_family("mi_"));
        assert!(!names(&["_rjem_malloc", "_rjem_mallctl"]).is_family("_rjem_"));
        assert!(!names(&["malloc", "sdallocx"]).is_family(""));
        assert!(!names(&["malloc"]).is_family(""));
        assert!(names(&["malloc", "__libc_malloc_impl"]).is_family(""), "static musl, no free");
    }

    #[test]
    fn this_machines_libc_is_glibc_with_a_version() {
        let maps = crate::target::mappings::read(crate::target::Pid::own()).unwrap();
        let objects = maps.objects();
        let libc = objects
            .iter()
            .find(|object| object.path.to_string_lossy().contains("libc.so"))
            .unwrap();
        let info = inspect(libc.path, libc.path, &[], &HashSet::new());
        assert!(info.is_libc && info.offers && info.has_symbols);
        let [family] = info.families.as_slice() else { panic!("{info:?}") };
        assert_eq!(
            (family.name, family.prefixes.as_slice()),
            (Some("glibc"), &[String::new()][..])
        );
        assert!(family.version.as_ref().is_some_and(|version| version.starts_with("2.")));
        assert!(info.soname.as_deref() == Some("libc.so.6"));
    }
}
