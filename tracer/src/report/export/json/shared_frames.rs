//! Frames that many stacks have in common, written once.
//!
//! Takes a report whose call sites have their whole stacks, returns one in which those after the first ones refer to
//! frames of the report, and back. A server with a thousand call sites runs through the same fifteen hundred frames in all
//! of them; written out they take nine tenths of the report. Pure.

use std::{collections::HashMap, sync::Arc};

use super::FIRST;
use crate::report::{Frame, Report, Site};

/// Moves all frames but the headline to the report's list, in all but the first call sites.
pub(super) fn share(report: &mut Report) {
    let mut numbers: HashMap<Frame, u32> = HashMap::new();
    let mut shared = Vec::new();
    for site in report.sites.iter_mut().skip(FIRST) {
        let Some((callees, rest)) = site.frames.split_at_checked(site.headline) else { continue };
        let Some((shown, callers)) = rest.split_first() else { continue };
        let mut number = |frame: &Frame| {
            let next = u32::try_from(shared.len()).unwrap_or(u32::MAX);
            *numbers.entry(frame.clone()).or_insert_with(|| {
                shared.push(frame.clone());
                next
            })
        };
        site.callees = callees.iter().map(&mut number).collect();
        site.callers = callers.iter().map(number).collect();
        site.headline = 0;
        site.frames = Arc::from([shown.clone()]);
    }
    report.frames = shared;
}

/// Gives each call site its whole stack again. Numbers of no frame are left out.
pub(super) fn unshare(report: &mut Report) {
    let shared = std::mem::take(&mut report.frames);
    let frame = |at: u32| shared.get(usize::try_from(at).ok()?);
    for Site { frames, headline, callees, callers, .. } in &mut report.sites {
        if callees.is_empty() && callers.is_empty() {
            continue;
        }
        let callees: Vec<Frame> =
            std::mem::take(callees).into_iter().filter_map(frame).cloned().collect();
        *headline += callees.len();
        let callers = std::mem::take(callers).into_iter().filter_map(frame).cloned();
        *frames = callees.into_iter().chain(frames.iter().cloned()).chain(callers).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Address, fixtures};

    /// A report with this many call sites, whose stacks differ in their innermost frame only.
    fn report(sites: u32) -> Report {
        let mut report = fixtures::sample();
        let template = report.sites.remove(0);
        let frame = |address| Frame { address: Address(address), ..template.frames[0].clone() };
        let site = |id: u32| {
            let own = std::iter::once(frame(u64::from(id) << 20));
            let frames = own.chain((0..30).map(frame)).collect();
            Site { id, headline: 1, frames, ..template.clone() }
        };
        report.sites = (0..sites).map(site).collect();
        report
    }

    #[test]
    fn the_first_stacks_are_whole_and_the_others_come_back_whole() {
        let whole = report(200);
        let mut written = whole.clone();
        share(&mut written);
        assert!(written.sites[..FIRST] == whole.sites[..FIRST]);
        let (later, before) = (&written.sites[150], &whole.sites[150]);
        assert_eq!((later.callees.len(), later.frames.len(), later.callers.len()), (1, 1, 29));
        // Who asked is where everybody looks for it.
        assert_eq!(later.asked(), before.asked());
        // The innermost ones differ.
        assert_eq!(written.frames.len(), 150 + 29);
        unshare(&mut written);
        assert!(written == whole);
    }

    #[test]
    fn a_report_of_few_call_sites_is_as_it_is() {
        let mut few = report(50);
        share(&mut few);
        assert!(few == report(50));
    }

    #[test]
    fn a_stack_without_its_headline_and_a_number_of_no_frame_do_no_harm() {
        let mut odd = report(52);
        odd.sites[50].frames = Arc::from([]);
        odd.sites[51].headline = 31;
        let whole = odd.clone();
        share(&mut odd);
        assert!(odd == whole);
        odd.sites[51].callers = vec![7];
        unshare(&mut odd);
        assert!(odd == whole);
    }
}
