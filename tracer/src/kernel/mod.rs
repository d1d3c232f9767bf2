//! The interface to the kernel: loads the programs, attaches them, reads and writes their maps.
//!
//! The only folder that imports aya. Takes attach points and passes on plain numbers and the records
//! of `tracer-common`; it interprets none of them.

mod batch;
mod calls;
mod clock;
mod code;
mod code_loads;
mod committed;
mod cost;
mod counters;
mod cpus;
mod event;
mod failed;
mod footprint;
mod helper_fallbacks;
mod lib_objects;
mod links;
mod lookup;
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
mod touch;
mod types;

pub use clock::now_ns;
pub use code_loads::{CodeLoad, CodeLoads};
pub use cost::{Calls, Statistics};
pub use failed::KernelError;
pub use footprint::{Footprint, default_footprint};
pub use links::{Link, Programs};
pub use object::{Loaded, ProgramLog, load};
pub use program::{Point, Program};
pub use sizes::Capacity;
pub use tables::{Drained, IdPool, Tables};
pub use touch::attach_page_faults;
