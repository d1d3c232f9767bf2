//! Numbers of resources, and their bytes.

/// Resources and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Number of resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Sum {
    /// Adds one resource.
    pub const fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    /// Adds another sum.
    pub const fn merge(&mut self, more: Self) {
        self.count += more.count;
        self.bytes += more.bytes;
    }

    /// The rest without a part.
    pub(crate) const fn without(self, part: Self) -> Self {
        Self {
            count: self.count.saturating_sub(part.count),
            bytes: self.bytes.saturating_sub(part.bytes),
        }
    }

    /// Subtracts one resource.
    pub(super) const fn remove(&mut self, bytes: u64) {
        self.count -= 1;
        self.bytes -= bytes;
    }
}
