//! What processes that have ended did: sums by stack while another process has the same program in memory, and by
//! function afterwards.
//!
//! Their call sites are gone. So that a report's sums of acquired and released resources never fall, their totals are
//! added here. Bounded by the number of different stacks of living programs, and by the number of functions. Pure.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use tracer_common::{attach::ProbeNumber, descriptor::FdType, limits, stack::StackEnd};

use super::{events::Site, sum::Sum, trees::Image};

/// Different stacks that are kept at most; of others only the function is.
const MOST: usize = limits::SITES as usize;

/// What distinguishes call sites of one program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StackKey {
    probe: ProbeNumber,
    fd_type: FdType,
    detail: u8,
    end: StackEnd,
    frames: Arc<[u64]>,
}

/// A function, with what it acquires.
pub type FunctionKey = (ProbeNumber, FdType, u8);

/// What processes that have ended acquired, and so released.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// By image and stack: the number of the call site that stands for them.
    stacks: HashMap<Image, HashMap<StackKey, u32>, FixedState>,
    count: usize,
    functions: HashMap<FunctionKey, Sum, FixedState>,
}

impl Past {
    /// The number that stands for call sites like this one; a new one by `number`. `None` if only its function is kept.
    pub(super) fn stack(&mut self, site: &Site, number: impl FnOnce() -> u32) -> Option<u32> {
        let key = StackKey {
            probe: site.probe,
            fd_type: site.fd_type,
            detail: site.detail,
            end: site.end,
            frames: Arc::clone(&site.frames),
        };
        let stacks = self.stacks.entry(site.image).or_default();
        if let Some(known) = stacks.get(&key) {
            return Some(*known);
        }
        if self.count >= MOST {
            return None;
        }
        self.count += 1;
        let number = number();
        stacks.insert(key, number);
        Some(number)
    }

    /// Adds what one call site acquired to its function's sum.
    pub(super) fn add(&mut self, site: &Site, acquired: Sum) {
        let key = (site.probe, site.fd_type, site.detail);
        self.functions.entry(key).or_default().merge(acquired);
    }

    /// No process has an image any more: the numbers that stood for its stacks.
    pub(super) fn forget_image(&mut self, image: Image) -> Vec<u32> {
        let gone: Vec<u32> =
            self.stacks.remove(&image).into_iter().flat_map(HashMap::into_values).collect();
        self.count -= gone.len();
        gone
    }

    /// Sums by function.
    pub(super) fn functions(&self) -> impl Iterator<Item = (FunctionKey, Sum)> {
        self.functions.iter().map(|(key, sum)| (*key, *sum))
    }
}
