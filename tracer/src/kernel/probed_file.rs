//! A file that probes are attached to, held open.
//!
//! Takes a path, passes on one that leads to the same file for as long as the value lives. A path below `/proc/PID` ends
//! when the target unloads the library or executes another program, and the path of a library may name a newer file
//! after an upgrade; a sampling window attaches the probes again after either.

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

/// A file, held open without access to its content.
#[derive(Debug)]
pub(super) struct ProbedFile {
    _file: File,
    /// Device and inode.
    id: (u64, u64),
    /// Leads to the file in this process only.
    path: PathBuf,
}

impl ProbedFile {
    /// Opens the file at `path`, which may be any link of `/proc`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).custom_flags(libc::O_PATH).open(path)?;
        let metadata = file.metadata()?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Self { _file: file, id: (metadata.dev(), metadata.ino()), path })
    }

    /// A path for this process's own system calls.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether both are the same file.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn its_path_leads_to_the_file_after_that_was_replaced() {
        let folder = std::env::temp_dir().join(format!("leaktrace-probed-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("library.so");
        fs::write(&path, "old").unwrap();
        let old = ProbedFile::open(&path).unwrap();
        assert!(old.is(&ProbedFile::open(&path).unwrap()));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(old.path()).unwrap(), "old");
        assert!(!old.is(&ProbedFile::open(&path).unwrap()));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(ProbedFile::open(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
