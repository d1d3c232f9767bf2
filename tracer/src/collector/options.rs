//! Options of the collector.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::options::DisabledCache;

/// What to collect, and how.
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CollectOptions {
    /// Minimum age: younger resources are not counted as outstanding.
    pub min_age: Duration,
    /// Whether the targets' children become targets.
    pub children: bool,
    /// Maximum number of frames per stack.
    pub frames: u32,
    /// The cache to disable.
    #[serde(skip)]
    pub forget: Option<DisabledCache>,
    /// Light mode: page faults are traced, and no function.
    pub light: bool,
    /// Whether library objects are traced.
    pub objects: bool,
    /// Whether every snapshot is shown, not only the last: fields of library objects are read for those that are.
    pub live: bool,
    /// Whether file descriptors are traced.
    pub descriptors: bool,
    /// The share of the targets' processor time that tracing may take, between 0 and 1; no limit when `None`.
    pub budget: Option<f64>,
}
