//! A command as a new process needs it: found, written out for `execve`, and forked.
//!
//! Takes what was typed, hands on a child that waits for a word before it runs the program. Nothing
//! is allocated between fork and exec: another thread may have held the allocator's lock.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::{
        fd::AsRawFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use libc::{c_char, c_int};
use rustix::fs::{Access, access};

use super::TargetError;

/// A program with its arguments, ready to run.
pub(super) struct Prepared {
    typed: OsString,
    path: PathBuf,
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Prepared {
    /// Finds the program, in `PATH` when it is a bare name.
    pub(super) fn new(program: &OsStr, arguments: &[OsString]) -> Result<Self, TargetError> {
        let path = find(program, env::var_os("PATH").as_deref())
            .ok_or_else(|| TargetError::CommandNotFound(program.to_owned()))?;
        let words = std::iter::once(program).chain(arguments.iter().map(OsString::as_os_str));
        let environment = env::vars_os().map(|(name, value)| {
            let mut entry = name;
            entry.push("=");
            entry.push(value);
            entry
        });
        let zero = |_| TargetError::CommandRefused {
            command: program.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "zero byte in an argument"),
        };
        Ok(Self {
            typed: program.to_owned(),
            program: CString::new(path.as_os_str().as_bytes()).map_err(zero)?,
            path,
            arguments: words
                .map(|word| CString::new(word.as_bytes()))
                .collect::<Result<_, _>>()
                .map_err(zero)?,
            environment: environment
                .map(|entry| CString::new(entry.into_vec()))
                .collect::<Result<_, _>>()
                .map_err(zero)?,
        })
    }

    /// The program as typed, for messages.
    pub(super) fn typed(&self) -> OsString {
        self.typed.clone()
    }

    /// Forks a child that waits to be told to run the program.
    pub(super) fn fork(&self) -> io::Result<Waiting> {
        let (go_read, go_write) = io::pipe()?;
        let (fault_read, fault_write) = io::pipe()?;
        let pointers = |words: &[CString]| -> Vec<*const c_char> {
            words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv, envp) = (pointers(&self.arguments), pointers(&self.environment));
        // SAFETY: the child calls only `become_program`, which keeps to async-signal-safe calls.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let pipes = [go_write.as_raw_fd(), go_read.as_raw_fd(), fault_write.as_raw_fd()];
                // SAFETY: we are the child of a fork; both lists end with a null pointer and
                // point to strings that are alive.
                unsafe { become_program(pipes, &self.program, argv.as_ptr(), envp.as_ptr()) }
            }
            pid => Ok(Waiting { pid, go: go_write, fault: fault_read }),
        }
    }

    /// What went wrong when the kernel declined to run the program.
    pub(super) fn refused(&self, source: io::Error) -> TargetError {
        let command = self.typed.clone();
        let source = match source.kind() {
            io::ErrorKind::NotFound if !self.path.exists() => {
                return TargetError::CommandNotFound(command);
            }
            // The kernel says the same of the file and of what the file needs to run.
            io::ErrorKind::NotFound => {
                io::Error::new(io::ErrorKind::NotFound, "its interpreter or loader does not exist")
            }
            io::ErrorKind::PermissionDenied => {
                io::Error::new(io::ErrorKind::PermissionDenied, "permission denied")
            }
            _ => source,
        };
        TargetError::CommandRefused { command, source }
    }
}

/// A forked child that waits for a word.
pub(super) struct Waiting {
    pub(super) pid: c_int,
    go: PipeWriter,
    fault: PipeReader,
}

impl Waiting {
    /// Tells it to run the program. What is handed back is empty after success, and holds the
    /// reason after a failure. Dropping a [`Waiting`] instead makes the child end.
    pub(super) fn go(mut self) -> io::Result<Fault> {
        self.go.write_all(b"!")?;
        Ok(Fault(self.fault))
    }
}

/// Where a child tells why it could not run the program.
pub(super) struct Fault(PipeReader);

impl Fault {
    /// The reason, once the child has ended.
    pub(super) fn read(mut self) -> Option<io::Error> {
        let mut number = [0; size_of::<c_int>()];
        self.0.read_exact(&mut number).ok()?;
        Some(io::Error::from_raw_os_error(c_int::from_ne_bytes(number)))
    }
}

/// The life of the child: wait for the word, then become the program.
///
/// # Safety
/// Only in the child of a fork; `argv` and `envp` must be null-terminated lists of strings.
unsafe fn become_program(
    [go_write, go_read, fault_write]: [c_int; 3],
    program: &CString,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> ! {
    let mut word = 0_u8;
    // SAFETY: async-signal-safe calls only, on descriptors of this process and places on this stack.
    // As std does for its children, signals are as a program expects them: none blocked, and
    // SIGPIPE, which Rust programs ignore, at its default. Our end of `go_write` must be closed, or
    // the parent's death would not end the read.
    unsafe {
        libc::close(go_write);
        let told = libc::read(go_read, (&raw mut word).cast(), 1);
        if told == 1 {
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::execve(program.as_ptr(), argv, envp);
            let number = *libc::__errno_location();
            libc::write(fault_write, (&raw const number).cast(), size_of::<c_int>());
        }
        libc::_exit(127)
    }
}

/// The file a command name means, as `execvp` finds it: as it is with a slash in it, else the first
/// executable file of that name in `PATH`, else the first file of that name (whose execution will
/// be refused for the right reason).
fn find(program: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(program));
    }
    if program.is_empty() {
        return None;
    }
    let folders = path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    let files: Vec<PathBuf> = env::split_paths(folders)
        .map(|folder| if folder.as_os_str().is_empty() { Path::new(".").into() } else { folder })
        .map(|folder| folder.join(program))
        .filter(|file| file.is_file())
        .collect();
    let runnable = files.iter().find(|file| access(file.as_path(), Access::EXEC_OK).is_ok());
    runnable.or(files.first()).cloned()
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, path::PathBuf};

    use super::find;

    #[test]
    fn a_bare_name_is_looked_up_and_a_path_is_not() {
        let find = |program, path: &str| find(OsStr::new(program), Some(OsStr::new(path)));
        assert_eq!(find("sh", "/nosuch:/bin"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(find("./sh", "/bin"), Some(PathBuf::from("./sh")));
        assert_eq!(find("sh", "/nosuch"), None);
        assert_eq!(find("", "/bin"), None);
        // A file that nobody may run is still found; a folder is not.
        assert_eq!(find("passwd", "/etc"), Some(PathBuf::from("/etc/passwd")));
        assert_eq!(find("etc", "/"), None);
    }
}
