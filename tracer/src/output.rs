//! Writes the report to stdout, or to a file that it replaces atomically.
//!
//! Takes a path before tracing and bytes after it, passes on nothing. Checks before an hour of tracing, not after it,
//! whether a file can be written. If writing fails anyway (a full disk), the report goes elsewhere and the failure says
//! where. Must not know the contents of a report.

pub mod lines;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use crate::error::{Failure, Kept};

/// A destination that was checked to be writable.
#[derive(Debug)]
pub struct Output {
    destination: Destination,
    /// Whether a report that cannot be written to its destination may go to stdout.
    stdout_free: bool,
    /// Directory for a report that cannot be written elsewhere.
    rescue: PathBuf,
}

#[derive(Debug)]
enum Destination {
    Stdout,
    /// A destination that cannot be replaced: a device, a pipe, or a file in a directory that is not writable.
    Direct {
        path: PathBuf,
        file: File,
    },
    /// A temporary file in the directory of the file that it will replace.
    Beside {
        path: PathBuf,
        unfinished: Unfinished,
    },
}

/// A temporary file, which is removed unless it was renamed.
#[derive(Debug)]
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Fails if the file was renamed: nothing is left to remove.
        drop(fs::remove_file(&self.path));
    }
}

impl Output {
    /// Opens the destination; `None` is stdout. `stdout_free` means that no other program writes to stdout (a command
    /// that leaktrace starts does).
    pub fn prepare(path: Option<&Path>, stdout_free: bool) -> Result<Self, Failure> {
        let destination = match path {
            None => Destination::Stdout,
            Some(path) => Destination::open(path)
                .map_err(|source| Failure::OutputNotWritable { path: path.to_owned(), source })?,
        };
        Ok(Self { destination, stdout_free, rescue: std::env::temp_dir() })
    }

    /// Writes the whole report. A closed pipe at stdout is not a failure.
    pub fn deliver(self, bytes: &[u8]) -> Result<(), Failure> {
        let stdout_free = self.stdout_free && !matches!(self.destination, Destination::Stdout);
        let (path, outcome) = match self.destination {
            Destination::Stdout => (PathBuf::from("stdout"), to_stdout(bytes)),
            Destination::Direct { path, mut file } => {
                let outcome = write_over(&mut file, bytes);
                (path, outcome)
            }
            Destination::Beside { path, mut unfinished } => {
                let outcome = unfinished
                    .file
                    .write_all(bytes)
                    .and_then(|()| unfinished.file.sync_all())
                    .and_then(|()| fs::rename(&unfinished.path, &path));
                (path, outcome)
            }
        };
        outcome.map_err(|source| {
            let kept = keep(bytes, stdout_free, &self.rescue);
            Failure::OutputLost { path, source, kept }
        })
    }
}

impl Destination {
    fn open(path: &Path) -> io::Result<Self> {
        let existing = match fs::metadata(path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let Some(found) = existing else {
            let unfinished = Unfinished::beside(path)?;
            return Ok(Self::Beside { path: path.to_owned(), unfinished });
        };
        // Opens the file even if it will be replaced: a file without write permission must not be replaced.
        let file = OpenOptions::new().write(true).open(path)?;
        if !found.is_file() {
            return Ok(Self::Direct { path: path.to_owned(), file });
        }
        // Replaces the target of a symbolic link, not the link.
        let path = fs::canonicalize(path)?;
        match Unfinished::beside(&path) {
            Ok(unfinished) => {
                unfinished.file.set_permissions(found.permissions())?;
                keep_owner(&unfinished.file, &found);
                Ok(Self::Beside { path, unfinished })
            }
            Err(_) => Ok(Self::Direct { path, file }),
        }
    }
}

impl Unfinished {
    fn beside(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".leaktrace-{}", std::process::id()));
        let path = path.with_file_name(hidden);
        let create = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match create() {
            // A killed process with the same id has left the file.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&path)?;
                create()?
            }
            created => created?,
        };
        Ok(Self { path, file })
    }
}

/// Under sudo, a user keeps the ownership of the file. Without the privilege to change the owner, it becomes
/// leaktrace's.
fn keep_owner(file: &File, found: &fs::Metadata) {
    drop(fchown(file, Some(found.uid()), Some(found.gid())));
}

fn write_over(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    quiet_if_gone(file.write_all(bytes).and_then(|()| file.flush()))
}

/// Writes to stdout. A closed pipe is not a failure.
pub fn to_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    quiet_if_gone(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

fn quiet_if_gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn keep(bytes: &[u8], stdout_free: bool, rescue: &Path) -> Kept {
    if stdout_free && to_stdout(bytes).is_ok() {
        return Kept::Stdout;
    }
    match to_rescue(bytes, rescue) {
        Ok(path) => Kept::File(path),
        Err(_) => Kept::Nowhere,
    }
}

fn to_rescue(bytes: &[u8], rescue: &Path) -> io::Result<PathBuf> {
    let path = rescue.join(format!("leaktrace-report-{}", std::process::id()));
    // A report contains functions and addresses of a server: in a shared directory, only its owner may read it.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    match file.write_all(bytes).and_then(|()| file.sync_all()) {
        Ok(()) => Ok(path),
        Err(error) => {
            // A partial report at an unreported path is useless.
            drop(fs::remove_file(&path));
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A directory for one test, removed at its end.
    struct TestDir(PathBuf);

    impl TestDir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("leaktrace-output-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for TestDir {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = TestDir::new("whole");
        let path = dir.0.join("r.json");
        let output = Output::prepare(Some(&path), false).unwrap();
        assert!(!path.exists());
        output.deliver(b"{}").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        drop(Output::prepare(Some(&path), false).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        assert_eq!(dir.names(), ["r.json"]);
    }

    #[test]
    fn the_file_of_a_killed_process_is_replaced() {
        let dir = TestDir::new("stale");
        fs::write(dir.0.join(format!(".r.leaktrace-{}", std::process::id())), "half").unwrap();
        Output::prepare(Some(&dir.0.join("r")), false).unwrap().deliver(b"whole").unwrap();
        assert_eq!(fs::read(dir.0.join("r")).unwrap(), b"whole");
        assert_eq!(dir.names(), ["r"]);
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_a_link_stays_a_link() {
        let dir = TestDir::new("link");
        let (path, link) = (dir.0.join("real"), dir.0.join("link"));
        fs::write(&path, "old and longer").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real", &link).unwrap();
        Output::prepare(Some(&link), false).unwrap().deliver(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn unwritable_paths_are_detected_before_tracing() {
        let dir = TestDir::new("before");
        for path in [dir.0.join("no/such/r.json"), dir.0.clone(), PathBuf::from("")] {
            let failure = Output::prepare(Some(&path), true).unwrap_err();
            assert!(matches!(failure, Failure::OutputNotWritable { .. }), "{failure}");
        }
    }

    #[test]
    fn a_full_disk_loses_nothing() {
        let dir = TestDir::new("full");
        let mut output = Output::prepare(Some(Path::new("/dev/full")), false).unwrap();
        output.rescue = dir.0.clone();
        let failure = output.deliver(b"learned").unwrap_err();
        let Failure::OutputLost { path, kept: Kept::File(kept), .. } = failure else {
            panic!("{failure}")
        };
        assert_eq!(path, Path::new("/dev/full"));
        assert_eq!(fs::read(kept).unwrap(), b"learned");
    }

    #[test]
    fn a_removed_directory_loses_nothing() {
        let (dir, gone) = (TestDir::new("rescue"), TestDir::new("gone"));
        let mut output = Output::prepare(Some(&gone.0.join("r")), false).unwrap();
        output.rescue = dir.0.clone();
        fs::remove_dir_all(&gone.0).unwrap();
        let failure = output.deliver(b"learned").unwrap_err();
        assert!(matches!(failure, Failure::OutputLost { kept: Kept::File(_), .. }), "{failure}");
    }

    #[test]
    fn a_device_is_written_not_replaced() {
        Output::prepare(Some(Path::new("/dev/null")), false).unwrap().deliver(b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
