//! Pools: what one function acquires for many others and never releases is kept for reuse, and grows whenever more of it
//! is in use than ever before. Pure.
//!
//! Takes call sites with verdicts and names. The only judgment that needs names: by what it sees of a single call site, no
//! rule can distinguish a pool from a leak.

use std::collections::{HashMap, HashSet};

use tracer_common::kind::ResourceKind;

use crate::report::{Resource, Site, VerdictClass};

/// Frames from the allocator up among which a pool's function is.
const LEVELS: usize = 4;
/// Functions that a pool acquires for: a function that leaks is seldom called by as many others, none of which knows how
/// to release what it gets.
const CALLERS: usize = 4;
/// Sizes that it acquires for them: a function that creates one kind of object may leak it, whoever calls it.
const SIZES: usize = 3;
/// Blocks of a caller that must have the same size: a string may have any.
const ALIKE: u64 = 5;

/// What a function acquires for its callers.
#[derive(Default)]
struct Users<'a> {
    callers: HashSet<&'a str>,
    sizes: HashSet<u64>,
    /// Whether anything has been released.
    releases: bool,
}

/// Withdraws accusations of what pools acquire: it is `growing`.
pub fn excuse(sites: &mut [Site]) {
    if !sites.iter().any(|site| site.verdict.class.is_accusation()) {
        return;
    }
    let mut all: HashMap<(Option<u32>, &str), Users<'_>> = HashMap::new();
    for site in sites.iter().filter(|site| is_memory(site)) {
        for (function, caller) in callers(site) {
            let users = all.entry((site.pid, function)).or_default();
            users.callers.insert(caller);
            users.sizes.extend(size(site));
            users.releases |= site.acquired_count > site.outstanding_count;
        }
    }
    let is_pool = |users: &&Users<'_>| {
        !users.releases && users.callers.len() >= CALLERS && users.sizes.len() >= SIZES
    };
    let pool = |site: &Site| {
        callers(site).find_map(|(function, _)| {
            let users = all.get(&(site.pid, function)).filter(is_pool)?;
            Some(format!(
                "{function} acquires for {} functions, and never releases: a pool, which grows with the highest demand",
                users.callers.len()
            ))
        })
    };
    let excused: Vec<(usize, String)> = sites
        .iter()
        .enumerate()
        .filter(|(_, site)| site.verdict.class.is_accusation() && is_memory(site))
        .filter_map(|(at, site)| Some((at, pool(site)?)))
        .collect();
    for (at, why) in excused {
        if let Some(site) = sites.get_mut(at) {
            site.verdict.class = VerdictClass::Growing;
            site.verdict.reasons.push(why);
        }
    }
}

fn is_memory(site: &Site) -> bool {
    matches!(site.kind, Resource::Plain(ResourceKind::Heap | ResourceKind::Mmap))
}

/// The functions that may be a pool's, each with the one that called it.
fn callers(site: &Site) -> impl Iterator<Item = (&str, &str)> {
    let named = || site.frames.iter().filter_map(|frame| frame.symbol.as_deref());
    named().zip(named().skip(1)).take(LEVELS)
}

/// The size of the blocks, if it is one.
fn size(site: &Site) -> Option<u64> {
    let (count, bytes) = (site.outstanding_count, site.outstanding_bytes);
    (count >= ALIKE && bytes % count == 0).then(|| bytes / count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::tests::{Made, made};

    /// Ten blocks of a size, all kept, by these functions.
    fn site(size: u64, functions: &[&str]) -> Site {
        let Made { site, .. } = made(1, VerdictClass::Suspect, functions);
        let (acquired_count, outstanding_count) = (10, 10);
        Site { acquired_count, outstanding_count, outstanding_bytes: 10 * size, ..site }
    }

    fn pool() -> Vec<Site> {
        [(64, "new_stream"), (64, "new_task"), (160, "new_address"), (192, "new_connection")]
            .map(|(size, caller)| site(size, &["pool_grow", "pool_get", caller, "accepted"]))
            .to_vec()
    }

    fn accused(mut sites: Vec<Site>) -> usize {
        excuse(&mut sites);
        sites.iter().filter(|site| site.verdict.class.is_accusation()).count()
    }

    #[test]
    fn what_a_pool_acquires_for_many_is_not_accused() {
        let mut sites = pool();
        excuse(&mut sites);
        assert!(sites.iter().all(|site| site.verdict.class == VerdictClass::Growing));
        assert_eq!(
            sites[0].verdict.reasons,
            [
                "it stays",
                "pool_get acquires for 4 functions, and never releases: a pool, which grows with the highest demand"
            ]
        );
    }

    #[test]
    fn what_is_released_somewhere_has_one_size_or_few_callers_is_accused() {
        let mut released = pool();
        released[3].acquired_count = 11;
        assert_eq!(accused(released), 4);
        assert_eq!(accused(pool()[..3].to_vec()), 3);
        let mut alike = pool();
        alike.iter_mut().for_each(|site| site.outstanding_bytes = 640);
        assert_eq!(accused(alike), 4);
        // Strings: each has another size.
        let mut strings = pool();
        strings.iter_mut().for_each(|site| site.outstanding_bytes += 3);
        assert_eq!(accused(strings), 4);
        // Descriptors have no size.
        let mut descriptors = pool();
        descriptors.iter_mut().for_each(|site| site.kind = ResourceKind::Fd.into());
        assert_eq!(accused(descriptors), 4);
    }
}
