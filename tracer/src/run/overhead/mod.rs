//! The overhead budget: what a probe hit costs on this host, how much tracing may cost, and when it pauses.
//!
//! Takes loaded programs and readings of the collector, passes on requests to start and stop sampling windows.

mod budget;
mod calibrate;
mod governor;

pub(super) use calibrate::{ProbeCosts, calibrate};
pub(super) use governor::Governor;
