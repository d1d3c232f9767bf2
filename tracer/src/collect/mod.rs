//! Kernel bytes → ledger → snapshot.
//!
//! Takes records and drained resources, hands on [`snapshot::Snapshot`]s. Resolves no symbols and judges
//! nothing. `decode` and `ledger` do no IO and read no clock; `collector` is the loop that does.

mod ages;
mod blocks;
pub mod caller_allocated;
pub mod collector;
pub mod connections;
pub mod decode;
pub mod descriptors;
mod details;
mod family;
pub mod fd_reconciliation;
mod generations;
mod id_pools;
mod inherit;
pub mod ledger;
mod lineage;
pub mod objects;
pub mod options;
mod packed;
mod pauses;
mod ranges;
mod requests;
pub mod snapshot;
mod socket_reconciliation;
mod tally;
mod touched;
mod tracked;
pub mod windows;

pub use snapshot::Snapshot;
