//! leaktrace finds the call paths that leak resources in a live process.
//!
//! The modules form a pipeline; each depends only on the types of earlier ones:
//! `target → probes → kernel → ledger → reconcile → lib_objects → snapshot → analyze → symbolize → report → screen`.
//! See `ARCHITECTURE.md` for the modules and for what each must not know.

// Test fixtures refer to this crate by name, as integration tests do.
#[cfg(test)]
extern crate self as leaktrace;

pub mod cli;
pub mod settings;

pub mod target;

pub mod heap;

pub mod probes;

pub mod kernel;

pub mod source;
pub mod tape;

pub mod ledger;

pub mod reconcile;

pub mod lib_objects;

pub mod snapshot;

pub mod collector;

pub mod analyze;

pub mod evidence;

pub mod verdict;

/// Verdicts and names → findings, one for each cause.
pub mod findings;
pub mod symbolize;

pub mod report;

pub mod suppressions;

pub mod assemble;

pub mod run;

pub mod tui;
pub mod unwind;

pub mod arch;
pub mod doctor;
pub mod error;
pub mod format;
pub mod options;
pub mod output;
pub mod packs;
pub mod preflight;
