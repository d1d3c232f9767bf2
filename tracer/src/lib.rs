//! leaktrace names the call path that acquires what is never released, on a live process.
//!
//! The modules stand in the order of the straight line; each knows only what lies before it, by type:
//! `target → probes → kernel → collect (ledger → snapshot) → analyze → symbolize → report → screen`.
//! See `ARCHITECTURE.md` for the map and for what each station may not know.

// Fixtures name this crate as integration tests do.
#[cfg(test)]
extern crate self as leaktrace;

pub mod cli;
pub mod settings;

pub mod target;

pub mod probes;

pub mod kernel;

pub mod collect;

pub mod analyze;

pub mod symbolize;

pub mod report;

pub mod assemble;

pub mod run;

pub mod tui;
pub mod unwind;

pub mod doctor;
pub mod error;
pub mod format;
pub mod output;
pub mod packs;
pub mod preflight;
