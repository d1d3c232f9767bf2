//! What a report says of figures that are estimates: how far they may be off, and why they are.

use serde::{Deserialize, Serialize};

use super::Amount;

/// How a budget was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// The share of the targets' processor time that tracing may take, 0 to 1.
    pub share: f64,
    /// The share that it has taken lately; `null` while too little is known.
    pub cost: Option<f64>,
    /// Windows of time in which everything was recorded.
    pub windows: u64,
    /// Their length together, seconds.
    pub recorded_s: f64,
    /// Work that the targets get done per time while recorded, relative to when they are not, 0 to 1; `null` while too
    /// little is known.
    pub pace: Option<f64>,
}

/// By how much estimates may be off in either direction, with a probability of 95 %. `null` while there was too little
/// to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Of what is outstanding.
    pub outstanding: Option<Amount>,
    /// Of what was acquired.
    pub acquired: Option<Amount>,
}
