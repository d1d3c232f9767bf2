//! Why loading or attaching failed.
//!
//! Takes the errors of aya, passes on [`KernelError`], with the kernel's error number wherever aya keeps it.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};

/// Why the programs could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file cannot be read: the object given for development, or a file of the kernel.
    #[error("could not read the object `{path}`")]
    Object {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a program.
    #[error("could not load the program `{program}`")]
    Program {
        /// Its name.
        program: String,
        /// The verifier's log; empty when there is none.
        verifier: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a map.
    #[error("could not create the map `{map}`")]
    Map {
        /// Its name.
        map: String,
        /// Why.
        source: io::Error,
    },
    /// The object cannot be parsed.
    #[error("could not read the object: {why}")]
    Unreadable {
        /// Why.
        why: String,
    },
    /// The object lacks a program or map that this build needs.
    #[error("the object has no `{name}` (was it built from this tree?)")]
    Missing {
        /// The program or map.
        name: &'static str,
    },
    /// The kernel's type information lacks a structure or member.
    #[error("could not find `{what}` in `/sys/kernel/btf/vmlinux`")]
    Type {
        /// Structure and member.
        what: &'static str,
    },
    /// The kernel has no kprobes.
    #[error("this kernel has no kprobes")]
    NoKprobes,
    /// The descriptors of the programs cannot be duplicated, so missed runs cannot be counted.
    #[error("could not watch the kernel programs")]
    Watch {
        /// Why.
        source: io::Error,
    },
    /// Any other error of aya.
    #[error("could not load the kernel programs")]
    Load(#[source] Box<EbpfError>),
}

impl KernelError {
    /// Whether the kernel found no process with the given id.
    pub(super) fn is_no_such_process(&self) -> bool {
        matches!(self, Self::Program { source, .. } if source.raw_os_error() == Some(libc::ESRCH))
    }
}

/// The failure to load an object.
pub(super) fn load_failed(error: EbpfError) -> KernelError {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => {
            KernelError::Map { map: name, source: io_error }
        }
        other => KernelError::Load(Box::new(other)),
    }
}

/// The failure to load or attach a program.
pub(super) fn program_failed(program: &str, error: ProgramError) -> KernelError {
    let program = program.to_owned();
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            KernelError::Program { program, verifier: verifier_log.to_string(), source: io_error }
        }
        other => {
            // Reports the kernel's error number, wherever aya keeps it in its chain of causes.
            let number = causes(&other).find_map(|cause| {
                cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
            });
            let source = match number {
                Some(number) => io::Error::from_raw_os_error(number),
                None => io::Error::other(other.to_string()),
            };
            KernelError::Program { program, verifier: String::new(), source }
        }
    }
}

fn causes<'error>(
    error: &'error (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'error (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}
