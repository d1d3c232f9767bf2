//! File descriptors: opened, received, duplicated and closed, by system calls and by requests to an `io_uring`.

mod action;
pub(crate) mod context;
pub(crate) mod file;
mod io_uring;
mod kprobes;
pub(crate) mod missed_returns;
mod opening;
mod scm;
mod syscalls;
mod tracepoint_args;
