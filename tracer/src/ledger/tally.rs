//! Totals of one call site: what was acquired, inherited and released there, and what is outstanding. Pure.

use tracer_common::state::Died;

use super::sum::Sum;

/// Totals of one call site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub(super) acquired: Sum,
    pub(super) inherited: Sum,
    pub(super) released: Sum,
    pub(super) outstanding: Sum,
    pub(super) died: Died,
}

impl Tally {
    /// Resources acquired, including those that died young.
    pub const fn acquired(&self) -> Sum {
        Sum {
            count: self.acquired.count + self.died.count,
            bytes: self.acquired.bytes + self.died.bytes,
        }
    }

    /// Resources that came with a fork, as copies of the parent's.
    pub const fn inherited(&self) -> Sum {
        self.inherited
    }

    /// Resources released, including those that died young.
    pub const fn released(&self) -> Sum {
        Sum {
            count: self.released.count + self.died.count,
            bytes: self.released.bytes + self.died.bytes,
        }
    }

    /// Outstanding resources.
    pub const fn outstanding(&self) -> Sum {
        self.outstanding
    }

    /// Adds one resource that came with a fork.
    pub(super) const fn inherit(&mut self, bytes: u64) {
        self.inherited.add(bytes);
        self.outstanding.add(bytes);
    }

    /// Records the release of one outstanding resource.
    pub(super) const fn settle(&mut self, bytes: u64) {
        self.released.add(bytes);
        self.outstanding.remove(bytes);
    }

    /// Undoes [`Self::settle`]: the resource is still outstanding.
    pub(super) const fn unsettle(&mut self, bytes: u64) {
        self.released.remove(bytes);
        self.outstanding.add(bytes);
    }
}
