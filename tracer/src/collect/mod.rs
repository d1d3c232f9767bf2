//! Kernel bytes → ledger → snapshot.
//!
//! Takes records and drained resources, hands on [`snapshot::Snapshot`]s. Resolves no symbols and judges
//! nothing. `collector` is the loop.

mod ages;
pub mod collector;
mod generations;
mod id_pools;
mod lineage;
pub mod options;
mod pauses;
mod requests;
pub mod snapshot;
mod tracked;
pub mod windows;

pub use snapshot::Snapshot;
