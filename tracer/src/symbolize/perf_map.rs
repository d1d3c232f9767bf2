//! Names of JIT code: `/tmp/perf-PID.map`, which JIT compilers write for profilers.
//!
//! Takes a target's root and pid, returns the function at an address. Trusts only a file owned by the target's user
//! or by root: anybody can write to `/tmp`. The file grows, so reading continues where it ended. Format: `START SIZE
//! NAME` per line, numbers in hexadecimal (`tools/perf/Documentation/jit-interface.txt` in the kernel's sources).

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::PathBuf,
    sync::Arc,
};

use crate::target::{
    Pid,
    root::{Root, own_number, user},
};

/// Most bytes read of one file, about what its names take in memory: a large JavaScript server writes some 10 MiB.
/// Later entries have no names.
const MOST_BYTES: u64 = 64 << 20;

/// The functions that a target's runtime has listed.
#[derive(Debug, Default)]
pub(super) struct PerfMap {
    path: PathBuf,
    user: Option<u32>,
    file: Option<File>,
    /// The file exists but is not trusted.
    untrusted: bool,
    /// Number of bytes parsed.
    read: u64,
    functions: BTreeMap<u64, Function>,
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    end: u64,
    name: Arc<str>,
}

impl PerfMap {
    /// The perf map of a process; not opened yet.
    pub(super) fn of(pid: Pid) -> Self {
        let number = own_number(pid).unwrap_or(pid.0);
        let path = PathBuf::from(format!("/tmp/perf-{number}.map"));
        Self { path, user: user(pid), ..Self::default() }
    }

    /// Reads new entries; returns whether there were any.
    pub(super) fn refresh(&mut self, root: Option<&Root>) -> bool {
        if self.file.is_none() {
            let Some(file) = root.and_then(|root| root.open(&self.path).ok()) else { return false };
            self.add_target(file);
        }
        let Some((file, size)) =
            self.file.as_ref().and_then(|file| Some((file, file.metadata().ok()?.len())))
        else {
            return false;
        };
        if size < self.read {
            // Truncated and rewritten, as after an exec.
            self.read = 0;
            self.functions.clear();
        }
        let new = size.min(MOST_BYTES).saturating_sub(self.read);
        let mut bytes = vec![0; usize::try_from(new).unwrap_or(0)];
        if bytes.is_empty() || file.read_exact_at(&mut bytes, self.read).is_err() {
            return false;
        }
        // The last line may be incomplete.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.read += whole as u64;
        let lines = bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        for (start, function) in lines.filter_map(parse) {
            self.insert(start, function);
        }
        whole > 0
    }

    fn add_target(&mut self, file: File) {
        let owner = file.metadata().map(|about| about.uid());
        let trusted = owner.is_ok_and(|owner| owner == 0 || Some(owner) == self.user);
        self.untrusted = !trusted;
        self.file = trusted.then_some(file);
    }

    /// Later entries win: memory is reused for other functions.
    fn insert(&mut self, start: u64, function: Function) {
        let end = function.end;
        let covered: Vec<u64> = self.functions.range(start..end).map(|(start, _)| *start).collect();
        for old in covered {
            self.functions.remove(&old);
        }
        if let Some((_, before)) = self.functions.range_mut(..start).next_back() {
            before.end = before.end.min(start);
        }
        self.functions.insert(start, function);
    }

    /// The function at an address, and where it starts.
    pub(super) fn find(&self, address: u64) -> Option<(u64, Arc<str>)> {
        let (start, function) = self.functions.range(..=address).next_back()?;
        (address < function.end).then(|| (*start, Arc::clone(&function.name)))
    }

    /// Whether it has any names.
    pub(super) fn is_known(&self) -> bool {
        !self.functions.is_empty()
    }

    /// Why it has no name for an address.
    pub(super) fn why_unknown(&self) -> &'static str {
        match (&self.file, self.untrusted) {
            (_, true) => "JIT: its perf map is not trusted, it belongs to another user",
            (None, false) => "JIT (anonymous executable memory) without a perf map",
            (Some(_), false) if self.read + 4096 > MOST_BYTES => {
                "JIT: not in the part of its perf map that was read"
            }
            (Some(_), false) => "JIT: not in its perf map",
        }
    }
}

fn parse(line: &[u8]) -> Option<(u64, Function)> {
    let text = String::from_utf8_lossy(line);
    let mut words = text.trim_end().splitn(3, ' ');
    let mut number = || {
        let word = words.next()?;
        u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok()
    };
    let (start, size) = (number()?, number()?);
    let name = words.next().map(str::trim).filter(|name| !name.is_empty())?;
    let end = start.checked_add(size).filter(|end| *end > start)?;
    Some((start, Function { end, name: Arc::from(name) }))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _, os::unix::fs::chown};

    use super::*;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn folder(name: &str) -> (Folder, Root, PerfMap) {
        let path = std::env::temp_dir().join(format!("leaktrace-perf-{name}-{}", Pid::own()));
        fs::create_dir_all(path.join("tmp")).unwrap();
        let root = Root::at(&path).unwrap();
        (Folder(path), root, PerfMap::of(Pid::own()))
    }

    fn name(map: &PerfMap, address: u64) -> Option<(u64, String)> {
        map.find(address).map(|(start, name)| (start, name.as_ref().to_owned()))
    }

    #[test]
    fn a_growing_file_is_read_incrementally_and_later_lines_win() {
        let (folder, root, mut map) = folder("grows");
        assert!(!map.refresh(Some(&root)));
        assert_eq!(map.why_unknown(), "JIT (anonymous executable memory) without a perf map");
        let path = folder.0.join(format!("tmp/perf-{}.map", Pid::own()));
        let mut file = File::create(&path).unwrap();
        file.write_all(
            b"1000 100 JS:~one /srv/a b.js:1:2\n0x2000 80 two\nbroken\n3000 0 no\n4000 1",
        )
        .unwrap();
        assert!(map.refresh(Some(&root)));
        assert_eq!(name(&map, 0x1000), Some((0x1000, "JS:~one /srv/a b.js:1:2".to_owned())));
        assert_eq!(name(&map, 0x10ff), Some((0x1000, "JS:~one /srv/a b.js:1:2".to_owned())));
        assert_eq!(name(&map, 0x207f), Some((0x2000, "two".to_owned())));
        for nobody in [0xfff, 0x1100, 0x2080, 0x3000, 0x4000] {
            assert_eq!(name(&map, nobody), None);
        }
        assert_eq!(map.why_unknown(), "JIT: not in its perf map");
        assert!(!map.refresh(Some(&root)));
        file.write_all(b"0 three\n1080 1000 moved\n").unwrap();
        // The file stays open: its name and its root may go.
        fs::remove_file(&path).unwrap();
        assert!(map.refresh(None));
        assert_eq!(name(&map, 0x4000), Some((0x4000, "three".to_owned())));
        assert_eq!(name(&map, 0x107f).unwrap().1, "JS:~one /srv/a b.js:1:2");
        assert_eq!(name(&map, 0x1080).unwrap().1, "moved");
        assert_eq!(name(&map, 0x2000).unwrap().1, "moved");
        // Truncate and rewrite.
        file.set_len(0).unwrap();
        assert!(!map.refresh(None));
        assert_eq!(name(&map, 0x4000), None);
    }

    #[test]
    fn a_file_of_another_user_is_not_trusted() {
        let (folder, root, mut map) = folder("untrusted");
        let path = folder.0.join(format!("tmp/perf-{}.map", Pid::own()));
        fs::write(&path, "1000 100 lie\n").unwrap();
        let other_user = 65_534;
        chown(&path, Some(other_user), None).unwrap();
        assert!(!map.refresh(Some(&root)));
        assert_eq!(map.find(0x1000), None);
        let why = "JIT: its perf map is not trusted, it belongs to another user";
        assert_eq!(map.why_unknown(), why);
        // The target runs as that user: now the file is trusted.
        map.user = Some(other_user);
        assert!(map.refresh(Some(&root)) && map.find(0x1000).is_some());
    }
}
