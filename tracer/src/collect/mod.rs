//! Kernel bytes → ledger → snapshot.
//!
//! Takes records and drained resources, hands on [`snapshot::Snapshot`]s. Names nothing, judges
//! nothing. `decode` and `ledger` do no IO and read no clock; `collector` is the loop that does.

mod ages;
mod blocks;
pub mod collector;
pub mod connections;
mod conversing;
pub mod decode;
pub mod descriptors;
mod details;
mod family;
mod followed;
pub mod found;
mod generations;
mod inherit;
pub mod ledger;
pub mod manner;
pub mod objects;
mod packed;
mod pauses;
pub mod placed;
mod ranges;
mod relatives;
mod requests;
pub mod snapshot;
mod supplies;
mod tally;
mod touched;
pub mod windows;

pub use snapshot::Snapshot;
