//! Where the report goes: stdout, or a file that is replaced in one step.
//!
//! Takes a path before tracing and bytes after it, hands on nothing. Whether a file can be written is
//! found out before an hour of tracing, not after it; when it fails all the same (a full disk), the
//! report goes elsewhere and the failure says where. Knows nothing of what is in a report.

pub mod lines;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use crate::error::{Failure, Kept};

/// A place that has been seen to be writable.
#[derive(Debug)]
pub struct Output {
    place: Place,
    /// Whether a report that cannot go where it should may go to stdout.
    stdout_free: bool,
    /// Where it goes otherwise.
    rescue: PathBuf,
}

#[derive(Debug)]
enum Place {
    Stdout,
    /// What cannot be replaced: a device, a pipe, or a file in a directory that takes no new ones.
    Direct {
        path: PathBuf,
        file: File,
    },
    /// A new file beside the one that it will replace.
    Beside {
        path: PathBuf,
        unfinished: Unfinished,
    },
}

/// A file that is removed again unless it was put in place.
#[derive(Debug)]
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After it was put in place there is nothing left under this name, which is as well.
        drop(fs::remove_file(&self.path));
    }
}

impl Output {
    /// Opens the place; `None` is stdout. `stdout_free` says that nobody else writes to stdout (a
    /// command that leaktrace starts does).
    pub fn prepare(path: Option<&Path>, stdout_free: bool) -> Result<Self, Failure> {
        let place = match path {
            None => Place::Stdout,
            Some(path) => Place::open(path)
                .map_err(|source| Failure::OutputNotWritable { path: path.to_owned(), source })?,
        };
        Ok(Self { place, stdout_free, rescue: std::env::temp_dir() })
    }

    /// Writes the whole report. A reader of stdout that has gone away is no failure.
    pub fn deliver(self, bytes: &[u8]) -> Result<(), Failure> {
        let stdout_free = self.stdout_free && !matches!(self.place, Place::Stdout);
        let (path, outcome) = match self.place {
            Place::Stdout => (PathBuf::from("stdout"), to_stdout(bytes)),
            Place::Direct { path, mut file } => {
                let outcome = write_over(&mut file, bytes);
                (path, outcome)
            }
            Place::Beside { path, mut unfinished } => {
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

impl Place {
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
        // Opened even if it will be replaced: a file that may not be written must not be replaced.
        let file = OpenOptions::new().write(true).open(path)?;
        if !found.is_file() {
            return Ok(Self::Direct { path: path.to_owned(), file });
        }
        // Behind a symbolic link the file is replaced, not the link.
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
            // Left by one that was killed: the id in the name is ours now.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&path)?;
                create()?
            }
            created => created?,
        };
        Ok(Self { path, file })
    }
}

/// Under sudo the file of a user stays theirs; without the right to give it, it becomes ours.
fn keep_owner(file: &File, found: &fs::Metadata) {
    drop(fchown(file, Some(found.uid()), Some(found.gid())));
}

fn write_over(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    quiet_if_gone(file.write_all(bytes).and_then(|()| file.flush()))
}

/// Writes to stdout. A reader that has gone away is no failure.
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
    // A report names functions and addresses of a server: in a shared directory it is for its owner.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    match file.write_all(bytes).and_then(|()| file.sync_all()) {
        Ok(()) => Ok(path),
        Err(error) => {
            // Half a report under a name that nobody was told helps nobody.
            drop(fs::remove_file(&path));
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A directory of its own for one test, removed at the end.
    struct Room(PathBuf);

    impl Room {
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

    impl Drop for Room {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let room = Room::new("whole");
        let path = room.0.join("r.json");
        let output = Output::prepare(Some(&path), false).unwrap();
        assert!(!path.exists());
        output.deliver(b"{}").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        drop(Output::prepare(Some(&path), false).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        assert_eq!(room.names(), ["r.json"]);
    }

    #[test]
    fn what_a_killed_run_left_is_cleared_away() {
        let room = Room::new("stale");
        fs::write(room.0.join(format!(".r.leaktrace-{}", std::process::id())), "half").unwrap();
        Output::prepare(Some(&room.0.join("r")), false).unwrap().deliver(b"whole").unwrap();
        assert_eq!(fs::read(room.0.join("r")).unwrap(), b"whole");
        assert_eq!(room.names(), ["r"]);
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_a_link_stays_a_link() {
        let room = Room::new("link");
        let (path, link) = (room.0.join("real"), room.0.join("link"));
        fs::write(&path, "old and longer").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real", &link).unwrap();
        Output::prepare(Some(&link), false).unwrap().deliver(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn what_cannot_be_written_is_found_out_before_tracing() {
        let room = Room::new("before");
        for path in [room.0.join("no/such/r.json"), room.0.clone(), PathBuf::from("")] {
            let failure = Output::prepare(Some(&path), true).unwrap_err();
            assert!(matches!(failure, Failure::OutputNotWritable { .. }), "{failure}");
        }
    }

    #[test]
    fn a_full_disk_loses_nothing() {
        let room = Room::new("full");
        let mut output = Output::prepare(Some(Path::new("/dev/full")), false).unwrap();
        output.rescue = room.0.clone();
        let failure = output.deliver(b"learned").unwrap_err();
        let Failure::OutputLost { path, kept: Kept::File(kept), .. } = failure else {
            panic!("{failure}")
        };
        assert_eq!(path, Path::new("/dev/full"));
        assert_eq!(fs::read(kept).unwrap(), b"learned");
    }

    #[test]
    fn a_directory_that_has_gone_loses_nothing() {
        let (room, gone) = (Room::new("rescue"), Room::new("gone"));
        let mut output = Output::prepare(Some(&gone.0.join("r")), false).unwrap();
        output.rescue = room.0.clone();
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
