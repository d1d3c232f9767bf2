//! Library objects: which blocks are objects, who owns them, and what is known of each.
//!
//! Takes the ledger, the entries that the BPF programs keep, and layouts of packs; passes on [`ledger::Objects`]. Only
//! `fields` and `walk` read target memory. Resolves no names.

pub(crate) mod details;
pub mod fields;
pub mod internals;
pub mod ledger;
mod walk;
