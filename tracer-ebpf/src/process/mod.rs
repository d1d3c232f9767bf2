//! Threads and processes of targets: their states, their beginning and end, their page faults and system calls.

mod faults;
mod forks;
mod syscall_rate;
mod thread_calls;
mod thread_end;
mod thread_start;
