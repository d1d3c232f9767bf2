//! Corrects the ledger by observation: descriptors and sockets in `/proc`, page tables, target memory.
//!
//! Each part takes the ledger, compares it with what it observes, and applies the differences. It runs when the
//! collector calls it, and neither drains nor reads records.

pub mod caller_allocated;
mod connections;
pub mod fds;
pub mod heap;
pub mod pages;
pub mod sockets;
