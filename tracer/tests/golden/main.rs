//! What leaktrace writes, word for word: help, failures, doctor, reports.
//!
//! Each text stands in `snapshots/`; a change of one is a change for readers and is reviewed as such.

#[cfg(test)]
mod doctor;
#[cfg(test)]
mod failures;
#[cfg(test)]
#[path = "../fixtures/mod.rs"]
mod fixtures;
#[cfg(test)]
mod help;
#[cfg(test)]
mod packs;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod schema;
