//! Options that several stages share, each defined once: the command line parses them, and the stages obey them.
//!
//! Depends on nothing else, so that any stage may name it.

use clap::ValueEnum;

/// How file descriptors are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdBackend {
    /// By kprobes on functions of the kernel.
    Kprobe,
    /// By tracepoints at every system call.
    Tracepoint,
}

impl FdBackend {
    /// Every backend.
    pub const ALL: [Self; 2] = [Self::Kprobe, Self::Tracepoint];

    /// Its name in the report and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// The backend to use; `None` selects the best one that the kernel allows.
pub type RequestedBackend = Option<FdBackend>;

/// A cache of the BPF programs to disable, to measure what it saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DisabledCache {
    /// The stack cache: every stack is unwound, through cached rules for its addresses
    Walks,
    /// The rule cache too: every address is looked up in its unwind table
    Addresses,
}
