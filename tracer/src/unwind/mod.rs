//! Unwind tables: from an object's `.eh_frame` to what the programs walk.
//!
//! Takes object files, hands on rows and rules ([`tracer_common::unwind`]) and, for each target, which
//! of its executable memory has which table. Tables are made on a thread of their own, small objects
//! first, and shared by every process that maps the same build. `compile` is pure; writes no kernel
//! map itself: [`Library`] is told how.

mod compile;
mod expect;
mod layout;
mod library;
mod maker;
mod pages;
mod ranges;
mod rules;

pub use expect::expected_pages;
pub use library::{Library, Status, Writer};
