//! The interface to the kernel: loads the programs, attaches them, reads and writes their maps.
//!
//! The only folder that imports aya. Takes attach points and hands on plain numbers and the records
//! of `tracer-common`; it interprets none of them.

mod batch;
mod calls;
mod clock;
mod code;
mod cost;
mod counters;
mod event;
mod footprint;
mod helper_fallbacks;
mod lib_objects;
mod links;
mod missed_runs;
mod multi;
mod object;
mod offsets;
mod old_kernels;
mod priority_guard;
mod probed_file;
mod program;
mod sizes;
mod syscall;
mod tables;
mod thread_states;
mod touch;
mod types;

pub use clock::now_ns;
pub use cost::{Calls, Statistics};
pub use footprint::{Footprint, default_footprint};
pub use links::{Link, Point, Programs};
pub use object::{Failed, Loaded, ProgramLog, load};
pub use program::Program;
pub use sizes::Capacity;
pub use tables::{Drained, IdPool, Tables};
