//! Pauses and resumes recording, to stay within a budget.

use std::io;

use super::{
    collector::{Collector, Reading},
    windows::Windows,
};
use crate::{collect::snapshot::SiteFigures, kernel::now_ns, ledger::Ledger};

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
        self.tables.switch(false)?;
        self.paused = true;
        let at_ns = now_ns();
        std::thread::sleep(SETTLE);
        self.drain_completely()?;
        let ledger = &mut self.ledger;
        self.tables.died(ledger.site_numbers(), |site, died| ledger.set_died(site, died))?;
        Ok(at_ns)
    }

    /// Resumes recording, with no thread in a call that began before.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.tables.forget_threads()?;
        self.paused = false;
        let at_ns = now_ns();
        self.ledger.resumed(at_ns);
        if let Some(windows) = &mut self.windows {
            windows.begin(at_ns);
        }
        self.tables.switch(true)
    }

    /// The counters now.
    pub(super) fn reading(&self) -> Reading {
        Reading {
            at_ns: now_ns(),
            hits: (0..self.probes).map(|probe| self.tables.hits(probe).0).collect(),
            calls: self.tables.calls(),
        }
    }
}

impl Windows {
    /// Without a window; `budget` between 0 and 1.
    pub(super) fn new(budget: f64) -> Self {
        let mut windows = Self::default();
        windows.overhead.budget = budget;
        windows
    }

    /// Adds figures by batch to those of the call sites.
    pub(super) fn add_batches(&self, now_ns: u64, ledger: &Ledger, sites: &mut [SiteFigures]) {
        let mut batches = self.batches(now_ns, ledger);
        for site in sites {
            site.batches = batches.remove(&site.number).map(Box::new);
        }
    }
}
