//! A file that lines are added to while others may move it away, empty it, or fill the disk.
//!
//! Takes whole lines, hands on how many were written. Each line is there whole or not at all. A file that was moved
//! away or removed is made anew under its name; one that was emptied is continued at its new end.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::error::Failure;

/// A file that takes lines.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: File,
    /// The rest of a line that could be written in part only, and not be taken back: of a pipe, for example.
    rest: Vec<u8>,
}

/// What became of lines.
#[derive(Debug, Default)]
pub struct Written {
    /// Those that were written.
    pub written: u64,
    /// Those that were not.
    pub lost: u64,
    /// Why not.
    pub why: Option<io::Error>,
}

impl Lines {
    /// Opens the file, or makes it; what it has stays.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let refused = |source| Failure::LogNotWritable { path: path.to_owned(), source };
        let file = open(path).map_err(refused)?;
        Ok(Self { path: path.to_owned(), file, rest: Vec::new() })
    }

    /// Adds whole lines, as many as there is room for.
    pub fn add(&mut self, lines: &[u8]) -> Written {
        let all = count(lines);
        if let Err(why) = self.follow() {
            return Written { written: 0, lost: all, why: Some(why) };
        }
        let rest = std::mem::take(&mut self.rest);
        let (finished, stopped) = self.write(&rest);
        if finished < rest.len() {
            self.rest = rest.get(finished..).unwrap_or_default().to_vec();
            return Written { written: 0, lost: all, why: stopped };
        }
        let (done, why) = self.write(lines);
        let (there, left) = lines.split_at(done);
        let part = there.iter().rev().take_while(|byte| **byte != b'\n').count();
        let mut written = count(there);
        if part > 0 && !self.take_back(part) {
            // It will be whole, but later.
            let end = left.iter().position(|byte| *byte == b'\n').map_or(left.len(), |at| at + 1);
            self.rest = left.get(..end).unwrap_or_default().to_vec();
            written += 1;
        }
        Written { written, lost: all - written, why }
    }

    /// Writes as much as is taken. Returns how much that is, and why it is not all.
    fn write(&mut self, bytes: &[u8]) -> (usize, Option<io::Error>) {
        let mut done = 0;
        while let Some(more) = bytes.get(done..).filter(|more| !more.is_empty()) {
            match self.file.write(more) {
                Ok(0) => return (done, Some(io::ErrorKind::WriteZero.into())),
                Ok(number) => done += number,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (done, Some(error)),
            }
        }
        (done, None)
    }

    /// Cuts off what was written last, if it is still the end of the file.
    fn take_back(&mut self, part: usize) -> bool {
        let Ok(found) = self.file.metadata() else { return false };
        let at_end = self.file.stream_position().is_ok_and(|at| at == found.len());
        let part = part as u64;
        found.is_file() && at_end && self.file.set_len(found.len().saturating_sub(part)).is_ok()
    }

    /// Makes the file anew if it is no longer what its path leads to.
    fn follow(&mut self) -> io::Result<()> {
        let own = self.file.metadata()?;
        let there = std::fs::metadata(&self.path);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
            return Ok(());
        }
        match open(&self.path) {
            Ok(file) => {
                // Its end is with the file that was moved away, or nowhere.
                let rest = std::mem::take(&mut self.rest);
                drop(self.write(&rest));
                self.file = file;
                Ok(())
            }
            // Where it was moved to it can still be read, unless it was removed.
            Err(_) if own.nlink() > 0 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Opens a file to add to. A pipe that nobody empties must not hold anybody up.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).unwrap_or_default();
    OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(path)
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, process::Command};

    use super::*;

    /// A directory of a test's own, removed at its end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("lines-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn all_written(lines: &mut Lines, text: &str) {
        let told = lines.add(text.as_bytes());
        assert_eq!((told.written, told.lost), (count(text.as_bytes()), 0), "{:?}", told.why);
    }

    #[test]
    fn a_file_that_is_moved_away_removed_or_emptied_goes_on_under_its_name() {
        let place = Place::new("rotation");
        let (path, old) = (place.file("log"), place.file("log.1"));
        fs::write(&path, "before\n").unwrap();
        let mut lines = Lines::open(&path).unwrap();
        all_written(&mut lines, "one\ntwo\n");
        fs::rename(&path, &old).unwrap();
        all_written(&mut lines, "three\n");
        assert_eq!(fs::read_to_string(&old).unwrap(), "before\none\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        // As by `logrotate` with `copytruncate`.
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        all_written(&mut lines, "four\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
        fs::remove_file(&path).unwrap();
        all_written(&mut lines, "five\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "five\n");
        // As by `logrotate` with `create`: another file is there already.
        fs::rename(&path, &old).unwrap();
        fs::write(&path, "").unwrap();
        all_written(&mut lines, "six\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "six\n");
        // No file can be made where there is no directory any more, and the old one is gone.
        fs::remove_dir_all(&place.0).unwrap();
        let told = lines.add(b"seven\neight\n");
        assert_eq!((told.written, told.lost), (0, 2));
        assert_eq!(told.why.unwrap().kind(), io::ErrorKind::NotFound);
        fs::create_dir_all(&place.0).unwrap();
        all_written(&mut lines, "nine\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "nine\n");
    }

    #[test]
    fn what_a_full_device_does_not_take_is_lost_and_counted() {
        let mut lines = Lines::open(Path::new("/dev/full")).unwrap();
        for _ in 0..2 {
            let told = lines.add(b"one\ntwo\n");
            assert_eq!((told.written, told.lost), (0, 2));
            assert_eq!(told.why.unwrap().kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn a_line_that_a_full_pipe_takes_in_part_is_ended_first_when_there_is_room() {
        let place = Place::new("pipe");
        let path = place.file("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut reader = File::options().read(true).write(true).open(&path).unwrap();
        let mut lines = Lines::open(&path).unwrap();
        // Longer than a pipe's buffer, so that none ends where it does.
        let line = format!("{}\n", "x".repeat(40_000));
        let told = lines.add(line.repeat(3).as_bytes());
        assert_eq!((told.written, told.lost), (2, 1));
        assert_eq!(told.why.unwrap().kind(), io::ErrorKind::WouldBlock);
        let told = lines.add(b"no room\n");
        assert_eq!((told.written, told.lost), (0, 1));
        let mut seen = vec![0; 65_536];
        reader.read_exact(&mut seen).unwrap();
        all_written(&mut lines, "room\n");
        let mut rest = vec![0; 80_002 - 65_536 + 5];
        reader.read_exact(&mut rest).unwrap();
        seen.extend(rest);
        assert_eq!(String::from_utf8(seen).unwrap(), line.repeat(2) + "room\n");
    }

    /// Set for this test's own process that has a small disk: where that is.
    const SMALL_DISK: &str = "LEAKTRACE_SMALL_DISK";

    #[test]
    fn on_a_full_disk_no_half_line_is_left() {
        let Ok(disk) = std::env::var(SMALL_DISK) else {
            let place = Place::new("disk");
            let own = std::env::current_exe().unwrap();
            let name = "output::lines::tests::on_a_full_disk_no_half_line_is_left";
            let script = "mount -t tmpfs -o size=16k none \"$0\" && exec \"$1\" --exact \"$2\"";
            let status = Command::new("unshare")
                .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
                .args([place.0.as_os_str(), own.as_os_str(), name.as_ref()])
                .env(SMALL_DISK, &place.0)
                .status()
                .unwrap();
            assert!(status.success());
            return;
        };
        let path = Path::new(&disk).join("log");
        let mut lines = Lines::open(&path).unwrap();
        let line = format!("{}\n", "x".repeat(998));
        let told = lines.add(line.repeat(20).as_bytes());
        // 16 KiB hold 16 of 999 bytes, and a part of the 17th.
        assert_eq!((told.written, told.lost), (16, 4));
        assert_eq!(told.why.unwrap().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).unwrap(), line.repeat(16));
        assert_eq!(lines.add(line.as_bytes()).lost, 1);
        // Somebody makes room.
        File::options().write(true).open(&path).unwrap().set_len(999).unwrap();
        all_written(&mut lines, "again\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), line + "again\n");
    }
}
