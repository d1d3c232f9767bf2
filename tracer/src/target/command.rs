//! Finds a command, prepares its arguments for `execve`, and forks it.
//!
//! Takes the typed command, passes on a child that waits for a byte on a pipe before it runs the program. Nothing
//! is allocated between fork and exec: another thread may have held the allocator's lock at the fork.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    fs::File,
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

/// What a command's standard input, output and error stream are; `None`: the same as ours.
pub type Streams = [Option<File>; 3];

/// A program with its arguments, ready to run.
pub(super) struct Prepared {
    streams: Streams,
    typed: OsString,
    path: PathBuf,
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Prepared {
    /// Finds the program; searches `PATH` for a bare name.
    pub(super) fn new(
        program: &OsStr,
        arguments: &[OsString],
        streams: Streams,
    ) -> Result<Self, TargetError> {
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
            streams,
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

    /// Forks a child that waits for [`ForkedChild::run`] before it runs the program.
    pub(super) fn fork(&self) -> io::Result<ForkedChild> {
        let (start_read, start_write) = io::pipe()?;
        let (error_read, error_write) = io::pipe()?;
        let pointers = |words: &[CString]| -> Vec<*const c_char> {
            words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let streams = self.streams.each_ref().map(|one| one.as_ref().map_or(-1, File::as_raw_fd));
        let (argv, envp) = (pointers(&self.arguments), pointers(&self.environment));
        // SAFETY: the child calls only `exec_program`, which makes only async-signal-safe calls.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let pipes =
                    [start_write.as_raw_fd(), start_read.as_raw_fd(), error_write.as_raw_fd()];
                // SAFETY: we are the child of a fork; both lists end with a null pointer and
                // point to strings that are alive.
                unsafe { exec_program(pipes, streams, &self.program, argv.as_ptr(), envp.as_ptr()) }
            }
            pid => Ok(ForkedChild { pid, start: start_write, error: error_read }),
        }
    }

    /// The error for a program that the kernel refused to run.
    pub(super) fn refused(&self, source: io::Error) -> TargetError {
        let command = self.typed.clone();
        let source = match source.kind() {
            io::ErrorKind::NotFound if !self.path.exists() => {
                return TargetError::CommandNotFound(command);
            }
            // The kernel returns the same error for a missing file and for its missing interpreter or loader.
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

/// A forked child that waits to run the program.
pub(super) struct ForkedChild {
    pub(super) pid: c_int,
    start: PipeWriter,
    error: PipeReader,
}

impl ForkedChild {
    /// Makes the child run the program. The returned pipe is empty after success, and holds the error after a failure.
    /// Dropping a [`ForkedChild`] instead makes the child exit.
    pub(super) fn run(mut self) -> io::Result<ExecError> {
        self.start.write_all(b"!")?;
        Ok(ExecError(self.error))
    }
}

/// The pipe through which a child reports why it could not run the program.
pub(super) struct ExecError(PipeReader);

impl ExecError {
    /// The error, once the child has exited.
    pub(super) fn read(mut self) -> Option<io::Error> {
        let mut number = [0; size_of::<c_int>()];
        self.0.read_exact(&mut number).ok()?;
        Some(io::Error::from_raw_os_error(c_int::from_ne_bytes(number)))
    }
}

/// The child's code: waits for the byte, then executes the program with these `streams`; -1: the stream that it has.
///
/// # Safety
/// Only in the child of a fork; `argv` and `envp` must be null-terminated lists of strings.
unsafe fn exec_program(
    [start_write, start_read, error_write]: [c_int; 3],
    streams: [c_int; 3],
    program: &CString,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> ! {
    let mut byte = 0_u8;
    // SAFETY: async-signal-safe calls only, on descriptors of this process and variables on this stack.
    // As std does for its children, resets signals to what a program expects: none blocked, and SIGPIPE,
    // which Rust programs ignore, at its default. Our copy of `start_write` must be closed, or the parent's
    // death would not end the read.
    unsafe {
        libc::close(start_write);
        let count = libc::read(start_read, (&raw mut byte).cast(), 1);
        if count == 1 {
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            for (stream, instead) in (0..).zip(streams) {
                if instead >= 0 {
                    libc::dup2(instead, stream);
                }
            }
            libc::execve(program.as_ptr(), argv, envp);
            let number = *libc::__errno_location();
            libc::write(error_write, (&raw const number).cast(), size_of::<c_int>());
        }
        libc::_exit(127)
    }
}

/// Finds the file of a command as `execvp` does: the name itself if it contains a slash, else the first executable file
/// of that name in `PATH`, else the first file of that name (so that its execution fails for the right reason).
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
    fn a_bare_name_is_searched_in_path_and_a_path_is_not() {
        let find = |program, path: &str| find(OsStr::new(program), Some(OsStr::new(path)));
        assert_eq!(find("sh", "/nosuch:/bin"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(find("./sh", "/bin"), Some(PathBuf::from("./sh")));
        assert_eq!(find("sh", "/nosuch"), None);
        assert_eq!(find("", "/bin"), None);
        // A file that is not executable is still found; a folder is not.
        assert_eq!(find("passwd", "/etc"), Some(PathBuf::from("/etc/passwd")));
        assert_eq!(find("etc", "/"), None);
    }
}
