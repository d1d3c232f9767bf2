//! What both sides of the kernel border agree on.
//!
//! The programs in `tracer-ebpf` write what is described here, the collector in `tracer` reads it.
//! Everything is plain integers in `repr(C)` without padding; every list of cases (kinds, shapes,
//! losses) stands here once and nowhere else. Nothing here allocates, does IO or knows aya.
#![no_std]

pub mod attach;
pub mod connection;
pub mod descriptor;
pub mod kind;
pub mod limits;
pub mod loss;
pub mod object;
pub mod record;
pub mod stack;
pub mod stack_cache;
pub mod state;
pub mod syscall;
pub mod unwind;
