//! How the collector is to go about its work.

use std::time::Duration;

/// What the programs may be kept from remembering, to measure what it saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// Walks: every stack is walked, through addresses whose rules are remembered.
    Walks,
    /// Addresses too: every one is searched in its unwind table.
    Addresses,
}

/// What was asked for.
#[expect(
    clippy::struct_excessive_bools,
    reason = "questions that have nothing to do with each other"
)]
#[derive(Clone, Debug)]
pub struct CollectOptions {
    /// Younger resources are not counted as outstanding.
    pub min_age: Duration,
    /// Whether targets' children are targets.
    pub children: bool,
    /// Frames taken of each stack.
    pub frames: u32,
    /// What is not to be remembered of stacks.
    pub forget: Option<Forget>,
    /// Whether page faults are traced, and no function.
    pub light: bool,
    /// Whether objects of libraries are traced.
    pub objects: bool,
    /// Sizes of objects whose memory is read for sums.
    pub summed: Vec<u64>,
    /// Whether file descriptors are traced.
    pub descriptors: bool,
    /// The share of targets' processor time that tracing may take, between 0 and 1; any when `None`.
    pub budget: Option<f64>,
}
