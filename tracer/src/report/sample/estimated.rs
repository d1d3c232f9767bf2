//! The made-up server under a budget that does not allow to trace it all the time.

use tracer_common::stack::StackEnd;

use super::sample;
use crate::report::{Amount, Budget, Errors, Report};

/// A server whose figures are estimates from windows of time.
pub fn estimated() -> Report {
    let mut report = sample();
    estimate(&mut report);
    report
}

/// Makes estimates of a report's figures: some whose error is known, and one whose is not.
pub fn estimate(report: &mut Report) {
    let account = &mut report.accounting;
    account.estimated = true;
    account.budget = Some(Budget {
        share: 0.05,
        cost: Some(0.0483),
        windows: 143,
        recorded_s: 31.5,
        pace: Some(0.154),
    });
    // What was seen is less than what it stands for.
    account.events /= 150;
    account.events_per_s /= 150.0;
    account.truncated_stacks = 131;
    account.truncated_by =
        [(StackEnd::FramePointerLost.into(), 128), (StackEnd::Loading.into(), 3)].into();
    report.probes.iter_mut().for_each(|probe| probe.hits = probe.hits.div_ceil(150));
    for site in &mut report.sites {
        let left = (site.outstanding_count, site.outstanding_bytes);
        site.error = Some(errors(left, (site.acquired_count, site.acquired_bytes)));
    }
    for total in report.totals.values_mut() {
        let left = (total.outstanding_count, total.outstanding_bytes);
        total.error = Some(errors(left, (total.acquired_count, total.acquired_bytes)));
    }
}

/// An eighth of what is left and of what was acquired; unknown below ten.
fn errors(left: (u64, u64), acquired: (u64, u64)) -> Errors {
    let eighth = |(count, bytes)| {
        (acquired.0 >= 10).then_some(Amount { count: count / 8, bytes: bytes / 8 })
    };
    Errors { outstanding: eighth(left), acquired: eighth(acquired) }
}
