//! Pauses and resumes recording, to stay within a budget.

use std::io;

use super::{Collector, Reading};
use crate::kernel;

/// Time for BPF programs that are running when recording stops.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(2);

impl Collector {
    /// Stops recording; on return everything recorded is in the ledger.
    pub(super) fn pause(&mut self) -> io::Result<()> {
        let at_ns = self.switch_off()?;
        if let Some(windows) = &mut self.windows {
            windows.end(at_ns, &self.ledger);
        }
        Ok(())
    }

    /// The same for good.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let at_ns = self.switch_off()?;
        if let Some(windows) = &mut self.windows {
            windows.finish(at_ns);
        }
        Ok(())
    }

    /// Stops recording and returns the time of that.
    fn switch_off(&mut self) -> io::Result<u64> {
        self.source.switch(false)?;
        self.paused = true;
        let at_ns = self.source.now_ns();
        self.source.settle(SETTLE);
        self.drain_completely()?;
        let ledger = &mut self.ledger;
        self.source.died(ledger.site_numbers(), |site, died| ledger.set_died(site, died))?;
        Ok(at_ns)
    }

    /// Resumes recording, with no thread in a call that began before.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.source.forget_threads()?;
        self.paused = false;
        let at_ns = self.source.now_ns();
        self.ledger.resumed(at_ns);
        if let Some(windows) = &mut self.windows {
            windows.begin(at_ns);
        }
        self.source.switch(true)
    }

    /// The counters now.
    pub(super) fn reading(&self) -> Reading {
        let (hits, calls) = self.source.reading(self.probes);
        Reading { at_ns: kernel::now_ns(), hits, calls }
    }
}
