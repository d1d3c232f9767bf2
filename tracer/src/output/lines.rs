//! Appends lines to a file that other programs may rotate, remove or truncate, on a disk that may be full.
//!
//! Takes whole lines, passes on how many were written. Each line is written completely or not at all. If the file was
//! renamed or removed, creates it again; if it was truncated, continues at its new end.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::error::Failure;

/// A file of lines.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: File,
    /// The rest of a partially written line that could not be removed again, for example from a pipe.
    rest: Vec<u8>,
}

/// The result of writing lines.
#[derive(Debug, Default)]
pub struct Written {
    /// Lines that were written.
    pub written: u64,
    /// Lines that were lost.
    pub lost: u64,
    /// Why lines were lost.
    pub why: Option<io::Error>,
}

impl Lines {
    /// Opens the file, or creates it; keeps its content.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let refused = |source| Failure::LogNotWritable { path: path.to_owned(), source };
        let file = open(path).map_err(refused)?;
        Ok(Self { path: path.to_owned(), file, rest: Vec::new() })
    }

    /// Appends whole lines, as many as there is space for.
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
        let (finished, left) = lines.split_at(done);
        let part = finished.iter().rev().take_while(|byte| **byte != b'\n').count();
        let mut written = count(finished);
        if part > 0 && !self.take_back(part) {
            // The next call completes the line.
            let end = left.iter().position(|byte| *byte == b'\n').map_or(left.len(), |at| at + 1);
            self.rest = left.get(..end).unwrap_or_default().to_vec();
            written += 1;
        }
        Written { written, lost: all - written, why }
    }

    /// Writes as much as possible. Returns the number of bytes, and why it is not all.
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

    /// Removes the last `part` bytes that were written, if they are still the end of the file.
    fn take_back(&mut self, part: usize) -> bool {
        let Ok(found) = self.file.metadata() else { return false };
        let at_end = self.file.stream_position().is_ok_and(|at| at == found.len());
        let part = part as u64;
        found.is_file() && at_end && self.file.set_len(found.len().saturating_sub(part)).is_ok()
    }

    /// Opens the file at the path again if that is another file now.
    fn follow(&mut self) -> io::Result<()> {
        let own = self.file.metadata()?;
        let current = std::fs::metadata(&self.path);
        if current.is_ok_and(|current| (current.dev(), current.ino()) == (own.dev(), own.ino())) {
            return Ok(());
        }
        match open(&self.path) {
            Ok(file) => {
                // The rest of the line belongs to the old file.
                let rest = std::mem::take(&mut self.rest);
                drop(self.write(&rest));
                self.file = file;
                Ok(())
            }
            // Continues with a file that was renamed, unless it was removed.
            Err(_) if own.nlink() > 0 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Opens a file for appending. Does not block on a full pipe.
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

    /// A directory for one test, removed at its end.
    struct TestDir(PathBuf);

    impl TestDir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("lines-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for TestDir {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn all_written(lines: &mut Lines, text: &str) {
        let result = lines.add(text.as_bytes());
        assert_eq!((result.written, result.lost), (count(text.as_bytes()), 0), "{:?}", result.why);
    }

    #[test]
    fn a_renamed_removed_or_truncated_file_continues_at_its_path() {
        let dir = TestDir::new("rotation");
        let (path, old) = (dir.file("log"), dir.file("log.1"));
        fs::write(&path, "before\n").unwrap();
        let mut lines = Lines::open(&path).unwrap();
        all_written(&mut lines, "one\ntwo\n");
        fs::rename(&path, &old).unwrap();
        all_written(&mut lines, "three\n");
        assert_eq!(fs::read_to_string(&old).unwrap(), "before\none\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        // Like `logrotate` with `copytruncate`.
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        all_written(&mut lines, "four\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
        fs::remove_file(&path).unwrap();
        all_written(&mut lines, "five\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "five\n");
        // Like `logrotate` with `create`: another file already exists.
        fs::rename(&path, &old).unwrap();
        fs::write(&path, "").unwrap();
        all_written(&mut lines, "six\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "six\n");
        // The directory and the old file are gone: no file can be created.
        fs::remove_dir_all(&dir.0).unwrap();
        let result = lines.add(b"seven\neight\n");
        assert_eq!((result.written, result.lost), (0, 2));
        assert_eq!(result.why.unwrap().kind(), io::ErrorKind::NotFound);
        fs::create_dir_all(&dir.0).unwrap();
        all_written(&mut lines, "nine\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "nine\n");
    }

    #[test]
    fn lines_that_a_full_device_refuses_are_lost_and_counted() {
        let mut lines = Lines::open(Path::new("/dev/full")).unwrap();
        for _ in 0..2 {
            let result = lines.add(b"one\ntwo\n");
            assert_eq!((result.written, result.lost), (0, 2));
            assert_eq!(result.why.unwrap().kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn a_line_that_a_full_pipe_accepts_partially_is_completed_first() {
        let dir = TestDir::new("pipe");
        let path = dir.file("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut reader = File::options().read(true).write(true).open(&path).unwrap();
        let mut lines = Lines::open(&path).unwrap();
        // Three lines exceed a pipe's buffer, and none ends where it does.
        let line = format!("{}\n", "x".repeat(40_000));
        let result = lines.add(line.repeat(3).as_bytes());
        assert_eq!((result.written, result.lost), (2, 1));
        assert_eq!(result.why.unwrap().kind(), io::ErrorKind::WouldBlock);
        let result = lines.add(b"no space\n");
        assert_eq!((result.written, result.lost), (0, 1));
        let mut seen = vec![0; 65_536];
        reader.read_exact(&mut seen).unwrap();
        all_written(&mut lines, "space\n");
        let mut rest = vec![0; 80_002 - 65_536 + 6];
        reader.read_exact(&mut rest).unwrap();
        seen.extend(rest);
        assert_eq!(String::from_utf8(seen).unwrap(), line.repeat(2) + "space\n");
    }

    /// The path of the small disk, set for the child process of this test that has one.
    const SMALL_DISK: &str = "LEAKTRACE_SMALL_DISK";

    #[test]
    fn on_a_full_disk_no_half_line_is_left() {
        let Ok(disk) = std::env::var(SMALL_DISK) else {
            let dir = TestDir::new("disk");
            let own = std::env::current_exe().unwrap();
            let name = "output::lines::tests::on_a_full_disk_no_half_line_is_left";
            let script = "mount -t tmpfs -o size=16k none \"$0\" && exec \"$1\" --exact \"$2\"";
            let status = Command::new("unshare")
                .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
                .args([dir.0.as_os_str(), own.as_os_str(), name.as_ref()])
                .env(SMALL_DISK, &dir.0)
                .status()
                .unwrap();
            assert!(status.success());
            return;
        };
        let path = Path::new(&disk).join("log");
        let mut lines = Lines::open(&path).unwrap();
        let line = format!("{}\n", "x".repeat(998));
        let result = lines.add(line.repeat(20).as_bytes());
        // 16 KiB have space for 16 lines of 999 bytes, and a part of the 17th.
        assert_eq!((result.written, result.lost), (16, 4));
        assert_eq!(result.why.unwrap().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).unwrap(), line.repeat(16));
        assert_eq!(lines.add(line.as_bytes()).lost, 1);
        // Frees space.
        File::options().write(true).open(&path).unwrap().set_len(999).unwrap();
        all_written(&mut lines, "again\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), line + "again\n");
    }
}
