//! Descriptors in the ledger.
