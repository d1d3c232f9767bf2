//! Opens files in a target's root, whichever mount namespace or chroot that is.
//!
//! Takes a process and a path, passes on open files, and the process's id and user as it sees them. The kernel
//! resolves paths inside the root (`openat2`), so that a symbolic link of the target leads to the target's file
//! and never to one of ours. Changes nothing, and does not block on pipes or devices.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
};

use rustix::{
    fs::{Dir, DirEntry, Mode, OFlags, ResolveFlags, open, openat2},
    io::Errno,
};

use super::Pid;

/// Attempts to resolve a path when renames interfere: openat2(2) asks the caller to retry.
const ATTEMPTS: usize = 16;

/// The root directory of a process; stays usable after the process has ended.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// The root of a process.
    pub fn of(pid: Pid) -> io::Result<Self> {
        Self::at(&pid.proc_path("root"))
    }

    /// A directory that serves as the root.
    pub fn at(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(open(directory, flags, Mode::empty())?))
    }

    /// Opens a regular file in it for reading.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        // Non-blocking: the path may lead to a pipe without a writer.
        let file = File::from(self.walk(path, OFlags::NONBLOCK | OFlags::NOCTTY)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(file)
    }

    /// The names in a directory of it.
    pub fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let entries = Dir::new(self.walk(path, OFlags::DIRECTORY)?)?;
        let name = |entry: rustix::io::Result<DirEntry>| {
            Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned())
        };
        entries.map(name).collect()
    }

    fn walk(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
        let inside = path.strip_prefix("/").unwrap_or(path);
        let walk = || openat2(&self.0, inside, flags, Mode::empty(), ResolveFlags::IN_ROOT);
        let mut opened = walk();
        for _ in 1..ATTEMPTS {
            if !matches!(opened, Err(Errno::AGAIN)) {
                break;
            }
            opened = walk();
        }
        Ok(opened?)
    }
}

/// The id of a process in its innermost pid namespace: the result of its own `getpid`, which it uses in file names.
pub fn own_number(pid: Pid) -> Option<u32> {
    let status = fs::read_to_string(pid.proc_path("status")).ok()?;
    innermost(&status)
}

/// The last number of `NSpid:`, which lists the id in each namespace from the outermost on.
fn innermost(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}

/// The user a process acts as (its effective user id, as we number users).
pub fn user(pid: Pid) -> Option<u32> {
    let status = fs::read_to_string(pid.proc_path("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn symbolic_links_stay_in_the_root() {
        let folder = std::env::temp_dir().join(format!("leaktrace-root-{}", Pid::own()));
        fs::create_dir_all(folder.join("etc")).unwrap();
        fs::write(folder.join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", folder.join("absolute")).unwrap();
        symlink("../../../../../../etc/passwd", folder.join("relative")).unwrap();
        let root = Root::at(&folder).unwrap();
        for path in ["/etc/passwd", "/absolute", "/relative", "/../../etc/passwd"] {
            let mut text = String::new();
            root.open(Path::new(path)).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "inside", "{path}");
        }
        let error = root.open(Path::new("/etc")).unwrap_err();
        assert_eq!(error.to_string(), "not a regular file");
        assert!(root.open(Path::new("/nosuch")).is_err());
        let names = root.list(Path::new("/etc")).unwrap();
        assert!(names.iter().any(|name| name == "passwd"), "{names:?}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_innermost_pid_is_the_last_of_the_list() {
        assert_eq!(innermost("Name:\tx\nNSpid:\t4121\t17\t1\nUid:\t0\n"), Some(1));
        assert_eq!(innermost("Name:\tx\n"), None);
        assert_eq!(own_number(Pid::own()), Some(std::process::id()));
        assert_eq!(own_number(Pid(u32::MAX)), None);
    }

    #[test]
    fn our_own_user_is_known() {
        assert_eq!(user(Pid::own()), Some(rustix::process::geteuid().as_raw()));
        assert_eq!(user(Pid(u32::MAX)), None);
    }
}
