//! Kernel bytes → ledger → snapshot.
//!
//! Takes records and drained resources, hands on [`crate::snapshot::Snapshot`]s. Resolves no symbols and judges
//! nothing. `collector` is the loop.

pub mod collector;
mod generations;
mod id_pools;
mod lineage;
pub mod options;
mod pauses;
mod requests;
mod tracked;
