//! The exact output of leaktrace: help, failures, doctor, reports.
//!
//! Each text is in `snapshots/`; a change to one is a change for readers and is reviewed as such.

#[cfg(test)]
mod brief;
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
#[cfg(test)]
mod tapes;
