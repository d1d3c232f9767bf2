//! Ages of outstanding resources by call site, in one walk over the ledger. Pure.
//!
//! Every age is stored to find the medians: as milliseconds for up to a million of them. Beyond that, as
//! numbers of bins whose width grows with the age, and at call sites with more ages than bins, as counts
//! per bin. Minimum, maximum and sums are always exact.

use super::{Ages, SiteFigures};
use crate::ledger::{Ledger, Sum};

/// Up to this number of outstanding resources medians are exact; beyond, they are those of bins.
const EXACT_MOST: u64 = 1 << 20;
/// Resources visited between two calls of `pause`: some milliseconds' worth.
const STRIDE: u32 = 1 << 17;
/// Buckets that resources are grouped into between two calls of `pause`, as a power of two.
const BUCKETS_BITS: u32 = 11;
/// Bins per doubling of the age, as a power of two. The middle of a bin is within 1/64 of every age in it.
const BINS_BITS: u32 = 5;

/// How an age is stored.
trait AgeEncoding: Copy + Default + Ord {
    /// The number of ages up to which a list of them takes less memory than `bins` counts.
    fn max_listed(bins: usize) -> usize;
    fn of(age_ms: u32) -> Self;
    fn age_ms(self) -> u32;
}

impl AgeEncoding for u32 {
    fn max_listed(_bins: usize) -> usize {
        usize::MAX
    }

    fn of(age_ms: u32) -> Self {
        age_ms
    }

    fn age_ms(self) -> u32 {
        self
    }
}

/// Number of a bin. Up to 63 ms each millisecond has one; beyond, the bin is the age's highest bits.
impl AgeEncoding for u16 {
    fn max_listed(bins: usize) -> usize {
        bins * size_of::<u32>() / size_of::<Self>()
    }

    fn of(age_ms: u32) -> Self {
        let coarse = (age_ms >> BINS_BITS).checked_ilog2().unwrap_or(0);
        Self::try_from((coarse << BINS_BITS) + (age_ms >> coarse)).unwrap_or(Self::MAX)
    }

    fn age_ms(self) -> u32 {
        let number = u32::from(self);
        let coarse = (number >> BINS_BITS).saturating_sub(1);
        let start = (number - (coarse << BINS_BITS)) << coarse;
        start + (1 << coarse >> 1)
    }
}

/// One call site while the ledger is walked.
#[derive(Clone, Copy, Default)]
struct Part {
    aged: Sum,
    min_ms: u32,
    max_ms: u32,
    /// Index of its first age in the buffer.
    start: usize,
    /// Whether the buffer holds counts.
    counted: bool,
}

/// Adds to each of `figures` (ordered by number) the resources of the minimum age, and their ages. `pause` is
/// called again and again: a walk over ten million resources takes longer than other work can wait.
pub(super) fn add_ages(
    ledger: &Ledger,
    figures: &mut [SiteFigures],
    now_ns: u64,
    min_age_ns: u64,
    pause: impl FnMut(),
) {
    let total: u64 = figures.iter().map(|site| site.outstanding.count).sum();
    if total <= EXACT_MOST {
        add::<u32>(ledger, figures, now_ns, min_age_ns, pause);
    } else {
        add::<u16>(ledger, figures, now_ns, min_age_ns, pause);
    }
}

fn add<W: AgeEncoding>(
    ledger: &Ledger,
    figures: &mut [SiteFigures],
    now_ns: u64,
    min_age_ns: u64,
    mut pause: impl FnMut(),
) {
    // Every age has a bin below this one. One more than needed: times are stored rounded down.
    let bins = usize::from(<u16 as AgeEncoding>::of(age_ms(ledger.longest_age_ns(now_ns)))) + 2;
    let numbers = figures.last().map_or(0, |site| site.number as usize + 1);
    let mut parts = vec![Part::default(); numbers];
    let (mut listed, mut counted) = (0, 0);
    for site in &*figures {
        let Some(part) = parts.get_mut(site.number as usize) else { continue };
        let count = usize::try_from(site.outstanding.count).unwrap_or(usize::MAX);
        part.counted = count > W::max_listed(bins);
        let (used, length) = if part.counted { (&mut counted, bins) } else { (&mut listed, count) };
        part.start = *used;
        *used += length;
    }
    let mut list = vec![W::default(); listed];
    let mut counts = vec![0_u32; counted];
    let mut add_all = |seen: &[Seen]| {
        for Seen { site, age_ms, size } in seen {
            let Some(part) = parts.get_mut(*site as usize) else { continue };
            if part.counted {
                let bin = usize::from(<u16 as AgeEncoding>::of(*age_ms));
                if let Some(count) = counts.get_mut(part.start + bin) {
                    *count += 1;
                }
            } else if let Some(place) = list.get_mut(part.start + part.listed()) {
                *place = W::of(*age_ms);
            }
            part.min_ms = if part.aged.count == 0 { *age_ms } else { part.min_ms.min(*age_ms) };
            part.max_ms = part.max_ms.max(*age_ms);
            part.aged.add(*size);
        }
    };
    let mut batch = Batch::new(numbers);
    ledger.outstanding().for_each(|block| {
        let age_ns = now_ns.saturating_sub(block.time_ns);
        if age_ns >= min_age_ns {
            batch.seen.push(Seen { site: block.site, age_ms: age_ms(age_ns), size: block.size });
        }
        batch.visited += 1;
        if batch.visited == STRIDE {
            add_all(batch.by_site());
            batch.clear();
            pause();
        }
    });
    add_all(batch.by_site());
    for site in figures {
        let Some(part) = parts.get(site.number as usize) else { continue };
        site.aged = part.aged;
        let median = if part.counted {
            counts.get(part.start..part.start + bins).and_then(|counts| median(counts, part.aged))
        } else {
            list.get_mut(part.start..part.start + part.listed())
                .filter(|ages| !ages.is_empty())
                .map(|ages| ages.select_nth_unstable(ages.len() / 2).1.age_ms())
        };
        site.ages = median.map(|median| Ages {
            min_ms: part.min_ms,
            median_ms: median.clamp(part.min_ms, part.max_ms),
            max_ms: part.max_ms,
        });
    }
}

/// One resource on the walk.
#[derive(Clone, Copy, Default)]
struct Seen {
    site: u32,
    age_ms: u32,
    size: u64,
}

/// A batch of resources, to be grouped by call site: the ledger has them in no order, and going to another
/// call site for each would miss the cache each time.
struct Batch {
    visited: u32,
    seen: Vec<Seen>,
    sorted: Vec<Seen>,
    /// Neighboring call sites share a bucket: as many as two to this power.
    shift: u32,
    ends: Vec<usize>,
}

impl Batch {
    /// For call sites with numbers below `numbers`.
    fn new(numbers: usize) -> Self {
        let shift = numbers.checked_ilog2().unwrap_or(0).saturating_sub(BUCKETS_BITS - 1);
        let ends = vec![0; (numbers >> shift) + 1];
        Self { visited: 0, seen: Vec::new(), sorted: Vec::new(), shift, ends }
    }

    fn clear(&mut self) {
        self.visited = 0;
        self.seen.clear();
    }

    /// The batch, roughly in the order of call sites.
    fn by_site(&mut self) -> &[Seen] {
        let Self { seen, sorted, shift, ends, .. } = self;
        let most = ends.len() - 1;
        let bucket = |one: &Seen| ((one.site >> *shift) as usize).min(most);
        ends.fill(0);
        for one in &*seen {
            if let Some(end) = ends.get_mut(bucket(one)) {
                *end += 1;
            }
        }
        let mut sum = 0;
        for end in &mut *ends {
            (sum, *end) = (sum + *end, sum);
        }
        sorted.resize(seen.len(), Seen::default());
        for one in seen {
            let Some(end) = ends.get_mut(bucket(one)) else { continue };
            if let Some(place) = sorted.get_mut(*end) {
                *place = *one;
            }
            *end += 1;
        }
        sorted
    }
}

impl Part {
    /// Number of ages stored so far.
    fn listed(&self) -> usize {
        usize::try_from(self.aged.count).unwrap_or(usize::MAX)
    }
}

/// The median of binned ages.
fn median(counts: &[u32], aged: Sum) -> Option<u32> {
    let mut rest = aged.count / 2;
    let bin = counts.iter().position(|count| {
        let here = rest < u64::from(*count);
        rest = rest.saturating_sub(u64::from(*count));
        here
    })?;
    Some(u16::try_from(bin).unwrap_or(u16::MAX).age_ms())
}

/// Milliseconds, at most 49 days.
fn age_ms(age_ns: u64) -> u32 {
    u32::try_from(age_ns / 1_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "ages_tests.rs"]
mod tests;
