//! Call sites without a stack record: of descriptors that a scan found, and of releases of what had been released before.
//!
//! A part of the totals, which number them after those of the BPF programs. Pure.

use std::sync::Arc;

use tracer_common::{
    attach::ProbeNumber,
    descriptor::{FdOrigin, FdType},
    stack::StackEnd,
};

use super::Totals;
use crate::{
    ledger::{
        derived::{Copied, Derived},
        events::Site,
        tally::Tally,
        trees::Image,
    },
    target::Pid,
};

impl Totals {
    /// The number of the call site for descriptors of one type and origin that were found in `pid`.
    pub(in crate::ledger) fn found(
        &mut self,
        pid: Pid,
        fd_origin: FdOrigin,
        fd_type: FdType,
    ) -> u32 {
        if let Some(known) = self.by_fd_type.get(&(pid, fd_origin, fd_type)) {
            return *known;
        }
        let number = self.add_found(pid, fd_origin.probe(), fd_type, (0, Arc::from([])));
        self.by_fd_type.insert((pid, fd_origin, fd_type), number);
        number
    }

    /// Adds a call site of a process that no program has seen as one.
    fn add_found(
        &mut self,
        pid: Pid,
        probe: ProbeNumber,
        fd_type: FdType,
        (image, frames): (Image, Arc<[u64]>),
    ) -> u32 {
        let number = self.add_copied(|number| {
            let (former, origin, detail) = (false, None, 0);
            let (unwound, end) = (Arc::clone(&frames), StackEnd::Bottom);
            let site = Site {
                number,
                pid,
                probe,
                fd_type,
                detail,
                frames,
                unwound,
                end,
                former,
                origin,
                image,
            };
            let (site, tally, what) = (Some(site), Tally::default(), Derived::Found);
            Copied { what, pid, origin: number, site, former, tally }
        });
        self.of_process.entry(pid).or_default().push(number);
        number
    }

    /// Counts a release, by the caller of a function, of what had been released before.
    pub(in crate::ledger) fn release_again(
        &mut self,
        (pid, image): (Pid, Image),
        (probe, caller): (ProbeNumber, u64),
    ) {
        let known = self.by_release.get(&(pid, probe, caller)).copied();
        let number = known.unwrap_or_else(|| {
            let number = self.add_found(pid, probe, FdType::Unknown, (image, Arc::from([caller])));
            self.by_release.insert((pid, probe, caller), number);
            number
        });
        let tally = self.tally(number);
        tally.acquired.add(0);
        tally.released.add(0);
    }
}
