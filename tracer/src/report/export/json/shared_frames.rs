//! Frames that many stacks have in common, written once.
//!
//! Takes a report whose call sites have their whole stacks, returns one in which those after the first ones refer to
//! frames of the report, and back. A server with a thousand call sites runs through the same fifteen hundred frames in all
//! of them; written out they take nine tenths of the report. Pure.

use std::{collections::HashMap, sync::Arc};

use super::{FIRST, FIRST_FINDINGS};
use crate::report::{Frame, Report, Site};

/// Moves the frames of all but the first call sites to the report's list; all but the first findings leave theirs to their
/// first call site.
pub(super) fn share(report: &mut Report) {
    let Report { findings, sites, frames: shared, .. } = report;
    let stacks: HashMap<u32, &Arc<[Frame]>> =
        sites.iter().map(|site| (site.id, &site.frames)).collect();
    for finding in findings.iter_mut().skip(FIRST_FINDINGS) {
        let of_site = finding.sites.first().and_then(|site| stacks.get(site));
        if of_site.is_some_and(|frames| **frames == finding.frames) {
            finding.frames = Arc::from([]);
        }
    }
    let mut numbers: HashMap<Frame, u32> = HashMap::new();
    for site in sites.iter_mut().skip(FIRST) {
        let number = |frame: &Frame| {
            let next = u32::try_from(shared.len()).unwrap_or(u32::MAX);
            *numbers.entry(frame.clone()).or_insert_with(|| {
                shared.push(frame.clone());
                next
            })
        };
        site.callers = site.frames.iter().map(number).collect();
        site.frames = Arc::from([]);
    }
}

/// Gives each call site and each finding its whole stack again. Numbers of no frame are left out.
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
    let Report { findings, sites, .. } = report;
    let stacks: HashMap<u32, &Arc<[Frame]>> =
        sites.iter().map(|site| (site.id, &site.frames)).collect();
    for finding in findings.iter_mut().filter(|finding| finding.frames.is_empty()) {
        if let Some(frames) = finding.sites.first().and_then(|site| stacks.get(site)) {
            finding.frames = Arc::clone(frames);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Address, Finding, fixtures};

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
        let later = &written.sites[150];
        assert_eq!((later.frames.len(), later.callers.len(), later.headline), (0, 31, 1));
        // The innermost ones differ.
        assert_eq!(written.frames.len(), 150 + 30);
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
    fn later_findings_leave_their_stacks_to_their_call_sites() {
        let mut whole = report(60);
        let template = whole.findings[0].clone();
        let finding = |site: &Site| Finding {
            sites: vec![site.id, 0],
            frames: Arc::clone(&site.frames),
            ..template.clone()
        };
        whole.findings = whole.sites[..59].iter().map(finding).collect();
        // A call site that is not in the report.
        whole.findings[58].sites[0] = 1000;
        let mut written = whole.clone();
        share(&mut written);
        let written_out: Vec<usize> =
            (0..59).filter(|at| !written.findings[*at].frames.is_empty()).collect();
        assert_eq!(written_out, [&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9][..], &[58]].concat());
        unshare(&mut written);
        assert!(written == whole);
    }

    #[test]
    fn a_stack_without_frames_and_a_number_of_no_frame_do_no_harm() {
        let mut odd = report(52);
        odd.findings.clear();
        odd.sites[50].frames = Arc::from([]);
        odd.sites[51].headline = 31;
        let whole = odd.clone();
        share(&mut odd);
        odd.sites[50].callers = vec![700];
        unshare(&mut odd);
        assert!(odd == whole);
    }
}
