//! The program's own wrappers of allocators, which no table lists: a function that heads most rows says nothing.
//!
//! Takes all call sites with their headlines, moves headlines to the wrappers' callers. Findings look for wrappers among the
//! program's own functions by the same rule. Pure.

use std::collections::{HashMap, HashSet};

use tracer_common::kind::ResourceKind;

use super::call_site::is_plumbing;
use crate::report::{Frame, Resource, Site};

/// The share of the call sites that a wrapper heads.
const SHARE: f64 = 0.25;
/// Its callers at them: a program of ten call sites has no wrapper.
const CALLERS: usize = 10;
/// Wrappers of wrappers.
pub const LEVELS: usize = 4;

/// Moves the headlines of call sites of blocks from wrappers to their callers.
pub fn skip(sites: &mut [Site]) {
    for _ in 0..LEVELS {
        let wrappers = find(sites);
        if wrappers.is_empty() {
            return;
        }
        for site in sites.iter_mut().filter(|site| is_block(site)) {
            if symbol(site, site.headline).is_some_and(|name| wrappers.contains(name)) {
                site.headline = caller(site).unwrap_or(site.headline);
            }
        }
    }
}

/// The wrappers that head call sites of blocks.
fn find(sites: &[Site]) -> HashSet<String> {
    let blocks = sites.iter().filter(|site| is_block(site));
    let headed = blocks.map(|site| {
        let head = symbol(site, site.headline);
        (head, caller(site).and_then(|at| symbol(site, at)))
    });
    among(headed).into_iter().map(str::to_owned).collect()
}

/// The functions that head a large share of these call sites, each called by many functions; takes the function that heads
/// each call site, and that function's caller there.
pub fn among<'a>(
    headed: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>,
) -> HashSet<&'a str> {
    let mut heads: HashMap<&str, (usize, HashSet<&str>)> = HashMap::new();
    let mut all = 0_usize;
    for (head, caller) in headed {
        all += 1;
        let Some(head) = head else { continue };
        let (count, callers) = heads.entry(head).or_default();
        *count += 1;
        callers.extend(caller);
    }
    let wraps = |(count, callers): &(usize, HashSet<&str>)| {
        *count as f64 >= SHARE * all as f64 && callers.len() >= CALLERS
    };
    heads.iter().filter(|(_, found)| wraps(found)).map(|(name, _)| *name).collect()
}

fn is_block(site: &Site) -> bool {
    matches!(site.kind, Resource::Plain(ResourceKind::Heap))
}

/// The frame behind the headline that has a name and asks.
fn caller(site: &Site) -> Option<usize> {
    let asks = |frame: &Frame| frame.symbol.is_some() && !is_plumbing(frame);
    let above = site.frames.get(site.headline + 1..)?;
    above.iter().position(asks).map(|at| site.headline + 1 + at)
}

fn symbol(site: &Site, at: usize) -> Option<&str> {
    site.frames.get(at)?.symbol.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn site(functions: &[&str]) -> Site {
        let template = fixtures::sample().sites.remove(1);
        let frame = |name: &&str| Frame {
            symbol: Some((*name).into()),
            module: Some("/opt/server".into()),
            file: None,
            ..fixtures::sample().sites[0].frames[0].clone()
        };
        let frames = functions.iter().map(frame).collect();
        Site { kind: ResourceKind::Heap.into(), headline: 0, frames, ..template }
    }

    fn headlines(sites: &[Site]) -> Vec<&str> {
        sites.iter().filter_map(|site| symbol(site, site.headline)).collect()
    }

    #[test]
    fn a_function_that_heads_most_rows_leaves_them_to_its_callers() {
        let callers: Vec<String> = (0..10).map(|number| format!("handle_{number}")).collect();
        let stacks = callers.iter().map(|caller| site(&["pool_get", "grab", caller, "main"]));
        let mut sites: Vec<Site> = stacks.chain([site(&["load", "main"])]).collect();
        let before = headlines(&sites).join(" ");
        skip(&mut sites[..9]);
        assert_eq!(headlines(&sites).join(" "), before, "nine callers prove nothing");
        // A function with a single caller may be the one that leaks.
        skip(&mut sites);
        assert_eq!(headlines(&sites).join(" "), before);
        let stacks = callers.iter().map(|caller| site(&["pool_get", "xmalloc", caller, "main"]));
        let mut sites: Vec<Site> = stacks.chain([site(&["load", "main"])]).collect();
        skip(&mut sites);
        let found = headlines(&sites);
        assert_eq!(found[..10], callers.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(found[10], "load");
    }
}
