//! Frames that many stacks have in common, written once.
//!
//! Takes a report whose call sites have their whole stacks, returns one in which those after the first fifty refer to
//! frames of the report, and back. A server with a thousand call sites runs through the same fifteen hundred frames in all
//! of them; written out they take nine tenths of the report. Pure.

use std::{collections::HashMap, sync::Arc};

use crate::report::{Frame, Report, Site};

/// The call sites whose stacks are written out: they are worst first, and more than anybody looks at.
const WHOLE: usize = 50;

/// Moves the frames beyond the headline to the report's list, in all but the first call sites.
pub(super) fn share(report: &mut Report) {
    let mut numbers: HashMap<Frame, u32> = HashMap::new();
    let mut shared = Vec::new();
    for site in report.sites.iter_mut().skip(WHOLE) {
        let Some((shown, callers)) = site.frames.split_at_checked(site.headline + 1) else {
            continue;
        };
        let number = |frame: &Frame| {
            let next = u32::try_from(shared.len()).unwrap_or(u32::MAX);
            *numbers.entry(frame.clone()).or_insert_with(|| {
                shared.push(frame.clone());
                next
            })
        };
        site.callers = callers.iter().map(number).collect();
        site.frames = Arc::from(shown);
    }
    report.frames = shared;
}

/// Gives each call site its whole stack again. Numbers of no frame are left out.
pub(super) fn unshare(report: &mut Report) {
    let shared = std::mem::take(&mut report.frames);
    for Site { frames, callers, .. } in &mut report.sites {
        if callers.is_empty() {
            continue;
        }
        let numbers = std::mem::take(callers).into_iter();
        let callers = numbers.filter_map(|at| shared.get(usize::try_from(at).ok()?));
        *frames = frames.iter().chain(callers).cloned().collect();
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
        assert!(written.sites[..WHOLE] == whole.sites[..WHOLE]);
        let (later, before) = (&written.sites[150], &whole.sites[150]);
        assert_eq!((later.frames.len(), later.callers.len()), (2, 29));
        // Who asked is where everybody looks for it.
        assert_eq!(later.asked(), before.asked());
        assert_eq!(written.frames.len(), 29);
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
    fn a_stack_without_a_caller_and_a_number_of_no_frame_do_no_harm() {
        let mut odd = report(52);
        odd.sites[50].frames = Arc::from([]);
        odd.sites[51].headline = 30;
        let whole = odd.clone();
        share(&mut odd);
        assert!(odd == whole);
        odd.sites[51].callers = vec![7];
        unshare(&mut odd);
        assert!(odd == whole);
    }
}
