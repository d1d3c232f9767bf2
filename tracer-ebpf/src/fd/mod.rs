//! File descriptors: opened, received, duplicated and closed, by system calls and by requests to an `io_uring`.

mod action;
mod context;
mod io_uring;
mod kprobes;
pub(crate) mod missed_returns;
mod opening;
mod scm;
mod serving;
mod syscalls;
mod tracepoint_args;
