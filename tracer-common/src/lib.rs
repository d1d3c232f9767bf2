//! The types and constants that the kernel side and the user side share.
//!
//! The programs in `tracer-ebpf` write these records and map values, the collector in `tracer` reads them.
//! Everything is plain integers in `repr(C)` without padding; every list of cases (kinds, shapes,
//! losses) is defined here once and nowhere else. Nothing here allocates, does IO or depends on aya.
#![no_std]

pub mod arch;
pub mod attach;
pub mod connection;
pub mod descriptor;
pub mod kind;
pub mod limits;
pub mod loss;
pub mod mapping;
pub mod object;
pub mod record;
pub mod stack;
pub mod stack_cache;
pub mod state;
pub mod syscall;
pub mod unwind;
