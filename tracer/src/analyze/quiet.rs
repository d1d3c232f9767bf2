//! Detects a target that grows while no probe is hit: it allocates by functions that are not traced.
//!
//! Takes a few figures, returns a sentence. A target that is idle has no hits either, and may map files: only memory of its
//! own counts. Pure.

use std::time::Duration;

use crate::format;

/// A server may be idle this long between two requests.
const IDLE: Duration = Duration::from_secs(5);
/// Page tables and stacks grow by less than this without any allocation.
const GROWTH_BYTES: u64 = 1 << 20;

/// Figures of all targets together.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    /// Time since the probes were attached.
    pub traced: Duration,
    /// Hits of all probes since then.
    pub hits: u64,
    /// Resident anonymous memory at the first report.
    pub first_bytes: u64,
    /// Resident anonymous memory now.
    pub resident_bytes: u64,
}

impl Quiet {
    /// A warning when the targets grow and no probe is hit.
    pub fn warning(&self) -> Option<String> {
        let grown = self.resident_bytes.saturating_sub(self.first_bytes);
        (self.hits == 0 && self.traced >= IDLE && grown >= GROWTH_BYTES).then(|| {
            format!(
                "no probe was hit in {}, though anonymous memory grew by {}: the target may have an \
                 allocator of its own (--alloc, --free, --allocator-prefix), or touch memory that it \
                 had before",
                format::seconds(self.traced.as_secs_f64()),
                format::bytes(grown),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWING: Quiet = Quiet {
        traced: Duration::from_secs(6),
        hits: 0,
        first_bytes: 10 << 20,
        resident_bytes: 14 << 20,
    };

    #[test]
    fn growth_without_hits_warns_with_both_figures() {
        let warning = GROWING.warning().unwrap();
        assert!(warning.contains("grew by 4.0 MiB") && warning.contains("--alloc"), "{warning}");
    }

    #[test]
    fn no_warning_with_hits_without_growth_or_too_early() {
        assert_eq!(Quiet { hits: 1, ..GROWING }.warning(), None);
        assert_eq!(Quiet { resident_bytes: 10 << 20, ..GROWING }.warning(), None);
        assert_eq!(Quiet { resident_bytes: 1 << 20, ..GROWING }.warning(), None);
        assert_eq!(Quiet { traced: Duration::from_secs(4), ..GROWING }.warning(), None);
    }
}
