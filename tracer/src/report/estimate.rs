//! Estimates in a report: their errors, and the budget that causes them.

use serde::{Deserialize, Serialize};

use super::Amount;

/// The budget, and how far it was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// The share of the targets' processor time that tracing may take, 0 to 1.
    pub share: f64,
    /// The share that it has taken recently; `null` with too little history.
    pub cost: Option<f64>,
    /// Sampling windows, in which everything was recorded.
    pub windows: u64,
    /// Their total length, seconds.
    pub recorded_s: f64,
    /// Work that the targets get done per time while recorded, relative to when they are not, 0 to 1; `null` with too
    /// little history.
    pub pace: Option<f64>,
}

/// Errors of estimates in either direction, with a probability of 95 %. `null` with too little data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Error of the outstanding amount.
    pub outstanding: Option<Amount>,
    /// Error of the acquired amount.
    pub acquired: Option<Amount>,
}
