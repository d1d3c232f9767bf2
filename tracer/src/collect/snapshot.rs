//! The frozen picture: THE WAIST. Left of it are root, kernel and clock; right of it nothing is.
//!
//! Takes the ledger at one moment, hands on plain figures with addresses instead of names.

use std::{collections::BTreeMap, sync::Arc};

use tracer_common::{attach::ProbeNumber, descriptor::FdType, loss::Loss, stack::StackEnd};

use super::{
    ages::add_ages,
    connections::{Figures, LeftBehind},
    fd_reconciliation::Described,
    ledger::{Ledger, Sum},
    objects::Objects,
    windows::{Batches, Sampling},
};
use crate::target::{Identity, Pid, mappings::Mappings};

/// What is known at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// Whether no more will follow.
    pub last: bool,
    /// Call sites that acquired anything, in the order of their numbers.
    pub sites: Vec<SiteFigures>,
    /// Losses by reason, those that occurred.
    pub losses: BTreeMap<Loss, u64>,
    /// Releases of what was never seen to be acquired.
    pub unknown_releases: u64,
    /// Hits and failed acquisitions, by number of the probe.
    pub hits: Vec<(u64, u64)>,
    /// File descriptors that are open, by process and number.
    pub descriptors: Vec<Described>,
    /// Descriptors opened and closed in ways that are not seen, but were found so.
    pub unseen: (u64, u64),
    /// Objects of libraries, where they are traced.
    pub objects: Option<Objects>,
    /// Connections, where they are traced.
    pub connections: Option<Figures>,
    /// Targets that have ended.
    pub ended: Vec<Pid>,
    /// How far unwind tables have come.
    pub unwind: crate::unwind::Status,
    /// Objects that have no unwind table because there was no room for it.
    pub without_table: Vec<String>,
    /// What became of families since the last snapshot, in order.
    pub kin: Vec<ProcessEvent>,
    /// What a budget makes of the run; `None` without one. The figures of call sites are of what was recorded.
    pub sampling: Option<Sampling>,
    /// What is mapped, of targets where that has changed since the last snapshot, in order.
    pub mappings: Vec<(Pid, Arc<Mappings>)>,
}

/// A process has become a target, or a target another program.
#[derive(Clone, Debug)]
pub struct ProcessEvent {
    /// The process.
    pub pid: Pid,
    /// Of which target it is the child, if it was none before.
    pub parent: Option<Pid>,
    /// Who it is now, if it was still there to be asked.
    pub identity: Option<Identity>,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// Whether another program runs in it.
    pub executed: bool,
}

/// One call site at that moment.
#[derive(Clone, Debug)]
pub struct SiteFigures {
    /// Its number.
    pub number: u32,
    /// Its target; `None` for the unknown call site.
    pub pid: Option<Pid>,
    /// Number of the probe; `None` for the unknown call site.
    pub probe: Option<ProbeNumber>,
    /// What descriptors lead to that are opened there.
    pub sort: FdType,
    /// What a function that makes objects of two kinds made: 0 or 1.
    pub detail: u8,
    /// Return addresses, innermost first.
    pub frames: Arc<[u64]>,
    /// Why unwinding stopped.
    pub end: StackEnd,
    /// Whether another program runs in the target by now: its memory is not what the addresses were of.
    pub former: bool,
    /// The call site of which this is a copy, if it came with a fork.
    pub origin: Option<u32>,
    /// Everything acquired.
    pub acquired: Sum,
    /// Copies of what its parent held, which came with a fork; not among what was acquired.
    pub inherited: Sum,
    /// Everything released.
    pub released: Sum,
    /// What is outstanding.
    pub outstanding: Sum,
    /// The part of it that has the least age asked for.
    pub aged: Sum,
    /// Ages of that part.
    pub ages: Option<Ages>,
    /// What closed connections left behind of it.
    pub orphans: LeftBehind,
    /// The same by batch, where there is a budget.
    pub batches: Option<Box<Batches>>,
}

/// Ages in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// The youngest.
    pub min_ms: u32,
    /// As many are older as younger. With more than a million resources outstanding (of all targets),
    /// this is within 1.6 percent.
    pub median_ms: u32,
    /// The oldest.
    pub max_ms: u32,
}

/// The figures of every call site that acquired anything; what connections left behind, as it was when they were
/// last settled. `pause` is called again and again, every
/// few milliseconds at the most: for what cannot wait until all are counted.
pub fn site_figures(
    ledger: &Ledger,
    now_ns: u64,
    min_age_ns: u64,
    pause: impl FnMut(),
) -> Vec<SiteFigures> {
    let mut figures: Vec<SiteFigures> = ledger
        .sites()
        .filter(|(_, _, tally)| tally.acquired().count + tally.inherited().count > 0)
        .map(|(number, site, tally)| SiteFigures {
            number,
            pid: site.as_ref().map(|site| site.pid),
            probe: site.as_ref().map(|site| site.probe),
            sort: site.as_ref().map_or(FdType::Unknown, |site| site.sort),
            detail: site.as_ref().map_or(0, |site| site.detail),
            former: site.as_ref().is_some_and(|site| site.former),
            origin: site.as_ref().and_then(|site| site.origin),
            end: site.as_ref().map_or(StackEnd::Unreadable, |site| site.end),
            frames: site.map_or_else(|| Arc::from([]), |site| site.frames),
            acquired: tally.acquired(),
            inherited: tally.inherited(),
            released: tally.released(),
            outstanding: tally.outstanding(),
            aged: Sum::default(),
            ages: None,
            orphans: ledger.left_behind(number),
            batches: None,
        })
        .collect();
    add_ages(ledger, &mut figures, now_ns, min_age_ns, pause);
    figures
}

#[cfg(test)]
mod tests {
    use tracer_common::kind::Kind;

    use super::*;
    use crate::collect::decode::{Block, Event, Handle};

    #[test]
    fn ages_are_of_what_is_old_enough_and_sums_of_all() {
        let mut ledger = Ledger::default();
        for (value, seconds) in [(1, 9), (2, 5), (3, 1)] {
            let block = Block {
                size: 10,
                time_ns: (10 - seconds) * 1_000_000_000,
                position: 0,
                site: 3,
                connection: 0,
            };
            let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
            ledger.apply(Event::Acquired { handle, block });
        }
        let figures = site_figures(&ledger, 10_000_000_000, 2_000_000_000, || {});
        assert_eq!(figures.len(), 1);
        assert_eq!(figures[0].outstanding, Sum { count: 3, bytes: 30 });
        assert_eq!(figures[0].aged, Sum { count: 2, bytes: 20 });
        assert_eq!(figures[0].ages, Some(Ages { min_ms: 5000, median_ms: 9000, max_ms: 9000 }));
    }
}
