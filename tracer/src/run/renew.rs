//! Attaches to targets that have become another program.
//!
//! Takes the ids of such targets, hands on the probes that came to be. Owns the programs from the moment
//! that tracing begins until its end: attaching takes milliseconds, for which the collector must not wait.

use std::{
    sync::mpsc::{Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use tracer_common::kind::Kind;

use super::attach::{Attached, Wish, is_loaded};
use crate::{
    collect::collector::Request,
    kernel::Programs,
    probes::Probe,
    target::{Pid, mappings, watch::Watch},
};

/// How long a new program's libraries are waited for: loading takes milliseconds, on a busy machine more.
const LOADING: Duration = Duration::from_secs(5);
/// Time between two looks at it.
const PAUSE: Duration = Duration::from_millis(1);

/// Probes, and why the kernel refused some: as [`Attached`] has them.
pub(super) type Probes = (Vec<Probe>, std::collections::BTreeMap<u8, String>);

/// What attaching needs.
pub(super) struct Renewal {
    pub(super) programs: Programs,
    pub(super) attached: Attached,
    pub(super) kinds: Vec<Kind>,
    pub(super) bare: bool,
    pub(super) everywhere: bool,
}

impl Renewal {
    /// Attaches to each target that is named, until nobody is left to name one. Hands the programs back.
    pub(super) fn run(
        mut self,
        executed: &Receiver<Pid>,
        collector: &Sender<Request>,
        reporter: &Sender<Probes>,
    ) -> Programs {
        while let Ok(pid) = executed.recv() {
            let known = self.attached.probes.len();
            if let Err(error) = self.renew(pid, collector) {
                // Not a warning: it has ended already, or is a program without an allocator of its own.
                log::info!("could not follow process {pid} into its new program: {error}");
            }
            if self.attached.probes.len() > known {
                // A reporter that is gone is noticed where it is joined.
                drop(reporter.send((self.attached.probes.clone(), self.attached.refused.clone())));
            }
        }
        self.programs
    }

    fn renew(&mut self, pid: Pid, collector: &Sender<Request>) -> anyhow::Result<()> {
        let watch = Watch::new(pid)?;
        let begun = Instant::now();
        let mappings = loop {
            let mappings = mappings::read(pid)?;
            if is_loaded(&mappings) || watch.ended() || begun.elapsed() > LOADING {
                break mappings;
            }
            thread::sleep(PAUSE);
        };
        let wish = Wish { kinds: &self.kinds, bare: self.bare, everywhere: self.everywhere };
        let allocator = self.attached.attach(&mut self.programs, pid, &mappings, wish)?;
        let probes = self.attached.numbers();
        drop(collector.send(Request::Attached { pid, allocator, probes }));
        log::info!("process {pid} is followed into its new program");
        Ok(())
    }
}
