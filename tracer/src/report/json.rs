//! Writes a report as JSON.
