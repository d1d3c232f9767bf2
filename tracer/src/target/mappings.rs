//! The memory mappings of a target, from `/proc/PID/maps`.
//!
//! Takes the text, passes on [`Mappings`]: address → mapping, executable memory for the kernel side,
//! and the mapped object files. The parser is pure and works on bytes, since paths need not be
//! UTF-8; it skips lines that it cannot parse. Opens no object itself: [`open_path`] returns the path
//! through which other modules open it.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Pid, TargetError};
use crate::tape::{Redact, Redactor, redact};

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the permissions and one fact of the line")]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Its end: the first address after it.
    pub end: u64,
    /// Offset of `start` in the file.
    pub file_offset: u64,
    /// Whether it is readable.
    pub readable: bool,
    /// Whether it is writable.
    pub writable: bool,
    /// Whether it is executable.
    pub executable: bool,
    /// The file as the target sees it, without `(deleted)`; `None` for anonymous memory.
    #[serde(with = "crate::tape::wire::optional_path")]
    pub path: Option<PathBuf>,
    /// Whether the file was deleted when the line was read. (A file whose name ends in ` (deleted)` looks
    /// the same.)
    pub deleted: bool,
    /// Device of the file, as the kernel prints it here; not always what `stat` says (btrfs,
    /// overlayfs), so compare it with other mappings only.
    pub device: (u32, u32),
    /// Inode of the file; 0 for anonymous memory.
    pub inode: u64,
    /// Name of memory without a file: `[heap]`, `[vdso]`, `[anon:…]`; `None` for files and for
    /// anonymous memory without a name.
    pub special: Option<String>,
}

impl Mapping {
    /// Whether the address lies in it.
    pub const fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// The offset of an address in the file; `None` for anonymous memory or another mapping.
    pub fn file_offset_of(&self, address: u64) -> Option<u64> {
        let inside = address.checked_sub(self.start).filter(|_| address < self.end)?;
        self.path.is_some().then(|| self.file_offset.wrapping_add(inside))
    }

    /// Identifies the file among all files mapped at the same time; `None` for memory without a file.
    pub const fn file(&self) -> Option<FileId> {
        match (&self.path, self.inode) {
            (None, _) | (_, 0) => None,
            (Some(_), inode) => Some(FileId { device: self.device, inode }),
        }
    }
}

/// A file as `/proc/PID/maps` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// Inode on the device.
    pub inode: u64,
}

crate::tape::redact::plain!(FileId);

/// A mapped file that contains code: the executable or a shared library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedObject<'a> {
    /// The file.
    pub file: FileId,
    /// Its path as the target sees it.
    pub path: &'a Path,
    /// Its executable mapping with the lowest address: the one for [`open_path`].
    pub code: &'a Mapping,
    /// All its mappings, executable or not, in address order.
    pub mappings: Vec<&'a Mapping>,
}

/// All mappings of one process at one moment, in address order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mappings {
    all: Vec<Mapping>,
}

impl Mappings {
    /// Parses the bytes of `/proc/PID/maps`. Skips malformed lines.
    pub fn parse(text: &[u8]) -> Self {
        text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
    }

    /// The mapping that contains an address.
    pub fn find(&self, address: u64) -> Option<&Mapping> {
        let next = self.all.partition_point(|mapping| mapping.start <= address);
        self.all.get(next.checked_sub(1)?).filter(|mapping| mapping.contains(address))
    }

    /// Whether anything is mapped between the two addresses.
    pub fn overlap(&self, start: u64, end: u64) -> bool {
        let index = self.all.partition_point(|mapping| mapping.end <= start);
        self.all.get(index).is_some_and(|mapping| mapping.start < end)
    }

    /// All mappings, in address order.
    pub fn iter(&self) -> std::slice::Iter<'_, Mapping> {
        self.all.iter()
    }

    /// Whether both have the same executable memory and the same files; heaps and stacks, which grow all the time, may
    /// differ.
    pub fn same_code(&self, other: &Self) -> bool {
        let lasting = |mapping: &&Mapping| mapping.executable || mapping.path.is_some();
        self.iter().filter(lasting).eq(other.iter().filter(lasting))
    }

    /// The mapped files that contain code, ordered by lowest executable address.
    pub fn objects(&self) -> Vec<MappedObject<'_>> {
        let mut objects: BTreeMap<FileId, MappedObject<'_>> = BTreeMap::new();
        for code in self.all.iter().filter(|mapping| mapping.executable) {
            if let (Some(file), Some(path)) = (code.file(), &code.path) {
                let object = || MappedObject { file, path, code, mappings: Vec::new() };
                objects.entry(file).or_insert_with(object);
            }
        }
        for mapping in &self.all {
            if let Some(object) = mapping.file().and_then(|file| objects.get_mut(&file)) {
                object.mappings.push(mapping);
            }
        }
        let mut objects: Vec<MappedObject<'_>> = objects.into_values().collect();
        objects.sort_by_key(|object| object.code.start);
        objects
    }
}

impl Redact for Mappings {
    /// Only the names of files stay, unless they came with the system.
    fn redacted(&self, _: &mut Redactor) -> Self {
        let one = |mapping: &Mapping| Mapping {
            path: mapping.path.as_deref().map(redact::os_path),
            // The program has chosen that name.
            special: mapping.special.as_ref().map(|name| {
                if name.starts_with("[anon") { "[anon:redacted]".to_owned() } else { name.clone() }
            }),
            ..mapping.clone()
        };
        self.iter().map(one).collect()
    }
}

impl<'a> IntoIterator for &'a Mappings {
    type Item = &'a Mapping;
    type IntoIter = std::slice::Iter<'a, Mapping>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<Mapping> for Mappings {
    fn from_iter<I: IntoIterator<Item = Mapping>>(mappings: I) -> Self {
        let mut all: Vec<Mapping> = mappings.into_iter().collect();
        all.sort_by_key(|mapping| mapping.start);
        Self { all }
    }
}

/// The current mappings of a process. A process that has ended has none, and counts as no such process.
pub fn read(pid: Pid) -> Result<Mappings, TargetError> {
    let text = fs::read(pid.proc_path("maps"))
        .map_err(|error| TargetError::reading(pid, "the memory map", error))?;
    let mappings = Mappings::parse(&text);
    if mappings.all.is_empty() { Err(TargetError::NoSuchProcess(pid)) } else { Ok(mappings) }
}

/// A path through which we can open the file of a target's mapping: the kernel's link to the mapped
/// file if we may use it (works for deleted files and in every mount namespace; needs root), else the
/// target's path within the target's root: also where the link is another file's, which has taken the place since.
pub fn open_path(pid: Pid, mapping: &Mapping) -> PathBuf {
    let link = pid.proc_path(format!("map_files/{:x}-{:x}", mapping.start, mapping.end));
    let Some(path) = &mapping.path else { return link };
    let inside = path.strip_prefix("/").unwrap_or(path);
    let path = pid.proc_path("root").join(inside);
    let is_file = |path: &Path| fs::metadata(path).map(|file| file.ino() == mapping.inode);
    match is_file(&link) {
        Err(_) => path,
        Ok(false) if is_file(&path).unwrap_or(false) => path,
        Ok(_) => link,
    }
}

/// A path from `/proc` without the suffix of a deleted file, and whether it had that suffix.
pub(super) fn strip_deleted(path: &[u8]) -> (&[u8], bool) {
    path.strip_suffix(b" (deleted)").map_or((path, false), |path| (path, true))
}

/// `start-end perms offset major:minor inode   path`, the path up to the end of the line.
fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (word, tail) = rest.split_at_checked(end)?;
        rest = tail;
        str::from_utf8(word).ok()
    };
    let (start, end) = word()?.split_once('-')?;
    let permissions = word()?.as_bytes();
    let file_offset = word()?;
    let (major, minor) = word()?.split_once(':')?;
    let inode = word()?.parse().ok()?;
    let name = rest.trim_ascii_start();
    let (path, deleted) = strip_deleted(name);
    let is_file = path.starts_with(b"/") && inode != 0;
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    let may = |at: usize, letter| permissions.get(at) == Some(&letter);
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        file_offset: hex(file_offset)?,
        readable: may(0, b'r'),
        writable: may(1, b'w'),
        executable: may(2, b'x'),
        path: is_file.then(|| PathBuf::from(unescape(path))),
        deleted: is_file && deleted,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        special: (!is_file && !name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned()),
    })
}

/// In this file, the kernel escapes only the newlines of a path, as `\012`; it does not escape backslashes.
fn unescape(path: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(br"\012") {
            plain.push(b'\n');
            rest = tail;
        } else {
            plain.push(*first);
            rest = tail;
        }
    }
    OsStr::from_bytes(&plain).to_owned()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::{Mappings, Pid, open_path, parse_line, read};

    const SERVER: &str = "\
55d000000000-55d000001000 r--p 00000000 08:01 131  /opt/my server/bin/gateway
55d000001000-55d000002000 r-xp 00001000 08:01 131  /opt/my server/bin/gateway
55d000002000-55d000003000 rw-p 00001000 08:01 131  /opt/my server/bin/gateway
55d0010c0000-55d0010e1000 rw-p 00000000 00:00 0    [heap]
7f0000000000-7f0000010000 rwxp 00000000 00:00 0
7f0000010000-7f0000020000 r-xp 00002000 08:01 132  /lib/libold.so (deleted)
7f0000030000-7f0000031000 r--s 00000000 00:05 9    /dev/zero (deleted)
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0    [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0   [vsyscall]
";

    fn server() -> Mappings {
        Mappings::parse(SERVER.as_bytes())
    }

    #[test]
    fn a_growing_heap_does_not_change_the_code_and_a_new_library_does() {
        let with = |heap: &str, library: &str| -> Mappings {
            let text = format!(
                "55d000002000-{heap} rw-p 00000000 00:00 0 [heap]\n\
                 {library}-7f0000030000 r-xp 00000000 08:01 77 /usr/lib/libx.so\n"
            );
            text.lines().filter_map(|line| parse_line(line.as_bytes())).collect()
        };
        let before = with("55d000003000", "7f0000020000");
        assert!(before.same_code(&with("55d000009000", "7f0000020000")));
        assert!(!before.same_code(&with("55d000003000", "7f0000010000")));
    }

    #[test]
    fn all_kinds_of_names_are_parsed() {
        let check = |tail: &[u8], path: Option<&str>, deleted: bool, special: Option<&str>| {
            let inode: &[u8] = if tail.starts_with(b"/") { b"7 " } else { b"0 " };
            let line = [b"1000-2000 r-xp 00000000 fd:0a ", inode, tail].concat();
            let mapping = parse_line(&line).unwrap();
            assert_eq!(mapping.path, path.map(PathBuf::from), "{tail:?}");
            assert_eq!((mapping.deleted, mapping.special.as_deref()), (deleted, special));
            assert_eq!(mapping.device, (0xfd, 10));
        };
        check(b"", None, false, None);
        check(b"     [stack]", None, false, Some("[stack]"));
        check(b"[anon:arena one]", None, false, Some("[anon:arena one]"));
        check(b"anon_inode:[io_uring]", None, false, Some("anon_inode:[io_uring]"));
        check(b"/lib/a b  c.so", Some("/lib/a b  c.so"), false, None);
        check(b"/lib/x.so (deleted)", Some("/lib/x.so"), true, None);
        check(br"/tmp/new\012line.so", Some("/tmp/new\nline.so"), false, None);
        check(br"/tmp/back\slash\0.so", Some(r"/tmp/back\slash\0.so"), false, None);
        check(b"/memfd:jit code (deleted)", Some("/memfd:jit code"), true, None);
        check(b"/SYSV (deleted)", Some("/SYSV"), true, None);
    }

    #[test]
    fn malformed_lines_are_skipped() {
        for line in ["", "Rss: 4 kB", "1000-2000", "zz-2000 r-xp 0 0:0 0", "1-2 r-xp 0 00 0"] {
            assert_eq!(parse_line(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn addresses_find_their_mapping_and_file_offset() {
        let server = server();
        let offset = |address| server.find(address).and_then(|found| found.file_offset_of(address));
        assert_eq!(offset(0x55d0_0000_1010), Some(0x1010));
        assert_eq!(offset(0x7f00_0001_0000), Some(0x2000));
        assert_eq!(server.find(0x7f00_0002_0000), None);
        assert_eq!(server.find(0), None);
        assert_eq!(offset(0x7f00_0000_0010), None);
        assert_eq!(server.find(u64::MAX), None);
    }

    #[test]
    fn objects_are_files_with_code_and_keep_all_their_mappings() {
        let server = server();
        let objects: Vec<_> = server
            .objects()
            .iter()
            .map(|object| (object.path.to_owned(), object.code.start, object.mappings.len()))
            .collect();
        assert_eq!(
            objects,
            [
                (PathBuf::from("/opt/my server/bin/gateway"), 0x55d0_0000_1000, 3),
                (PathBuf::from("/lib/libold.so"), 0x7f00_0001_0000, 1),
            ]
        );
    }

    #[test]
    fn our_own_code_is_in_our_own_executable_and_can_be_opened() {
        let own = read(Pid::own()).unwrap();
        let here = own.find(super::parse_line as fn(&[u8]) -> _ as usize as u64).unwrap();
        let exe = fs::read("/proc/self/exe").unwrap();
        assert!(here.executable && !here.writable);
        assert_eq!(here.path, Some(std::env::current_exe().unwrap()));
        assert!(fs::read(open_path(Pid::own(), here)).unwrap() == exe);
    }

    #[test]
    fn without_the_kernels_link_the_path_is_seen_from_the_targets_root() {
        let mut gone = server().all.swap_remove(5);
        gone.start = 1;
        gone.end = 2;
        let own = Pid::own();
        let path = open_path(own, &gone);
        assert_eq!(path, Path::new(&format!("/proc/{own}/root/lib/libold.so")));
    }

    #[test]
    fn a_file_whose_place_another_one_has_taken_is_opened_by_its_path() {
        let own = read(Pid::own()).unwrap();
        let here = own.find(super::parse_line as fn(&[u8]) -> _ as usize as u64).unwrap();
        let other = std::env::temp_dir().join(format!("leaktrace-place-{}", Pid::own()));
        fs::write(&other, "another file").unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&other).unwrap());
        let before = super::Mapping { path: Some(other.clone()), inode, ..here.clone() };
        assert_eq!(fs::read(open_path(Pid::own(), &before)).unwrap(), b"another file");
        fs::remove_file(&other).unwrap();
    }

    #[test]
    fn a_process_that_does_not_exist_has_no_mappings() {
        let error = read(Pid(u32::MAX)).unwrap_err();
        assert_eq!(error.to_string(), "could not find process 4294967295: no such process");
    }
}
