//! File descriptors: opened, received, duplicated and closed, by system calls and by requests to an `io_uring`.

pub(crate) mod file;
mod io_uring;
mod kprobes;
pub(crate) mod missed_returns;
pub(crate) mod opening;
mod scm;
pub(crate) mod syscalls;
mod tracepoint_args;
