//! Call sites that the BPF programs do not number. Data only.

use super::{events::Site, tally::Tally};
use crate::target::Pid;

/// What a call site is that the BPF programs do not number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Derived {
    /// Of inherited resources.
    Copy,
    /// Of descriptors found in a process, or of releases of what had been released before.
    Found,
    /// Of code that took the place of other code.
    Generation,
    /// Of processes that have ended.
    Past,
    /// None: its number is free.
    Free,
}

/// Such a call site.
#[derive(Debug)]
pub(super) struct Copied {
    /// What it is.
    pub(super) what: Derived,
    /// Its process.
    pub(super) pid: Pid,
    /// Its number in the process that acquired; its own number if it has details of its own.
    pub(super) origin: u32,
    /// The call site's details, unless its origin has them.
    pub(super) site: Option<Site>,
    /// Whether the process has called exec since.
    pub(super) former: bool,
    /// Its totals.
    pub(super) tally: Tally,
}
