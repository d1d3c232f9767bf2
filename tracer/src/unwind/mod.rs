//! Unwind tables: compiles an object's `.eh_frame` into the tables that the programs walk.
//!
//! Takes object files, passes on rows and rules ([`tracer_common::unwind`]) and, for each target, the table of
//! each executable range. A separate thread builds the tables, small objects first; processes that map the
//! same build share a table. `compile` is pure. Writes no kernel map itself: [`Library`] takes a [`Writer`].

mod builder;
mod compile;
mod expect;
mod from_code;
mod layout;
mod library;
mod pages;
mod ranges;
mod rules;

pub use expect::expected_pages;
pub use library::{Library, Status, Writer};
