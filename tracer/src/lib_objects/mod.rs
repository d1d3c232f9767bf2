//! Library objects: which blocks are objects, who owns them, and what is known of each.
//!
//! Takes the ledger and the entries that the BPF programs keep, hands on [`ledger::Objects`]. Reads no target memory
//! and resolves no names.

pub(crate) mod details;
pub mod ledger;
