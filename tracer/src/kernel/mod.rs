//! What may be asked of the kernel: load the programs, attach them, read their tables.
//!
//! The only folder that imports aya. Takes attach points and hands on plain numbers and the records
//! of `tracer-common`; it interprets none of them.

mod batch;
mod calls;
mod code;
mod cost;
mod counted;
mod counters;
mod event;
mod footprint;
mod hold;
mod multi;
mod object;
mod offsets;
mod older;
mod program;
mod rooms;
mod sizes;
mod stand_in;
mod syscall;
mod tables;
mod things;
mod touch;
mod types;
mod undisturbed;

pub use calls::Backend;
pub use cost::{Calls, Statistics};
pub use footprint::{Footprint, expected_by_default};
pub use hold::{Grip, Point, Programs};
pub use object::{Failed, Loaded, Means, Needs, ProgramLog, load};
pub use program::Program;
pub use sizes::Objects;
pub use tables::{Drained, Supply, Tables};
