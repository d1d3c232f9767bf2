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

/// A JSON report with a line for each value, as golden files have it.
#[cfg(test)]
fn indented(mut json: &[u8]) -> String {
    let report = leaktrace::report::export::json::read(&mut json).unwrap();
    serde_json::to_string_pretty(&report).unwrap() + "\n"
}
