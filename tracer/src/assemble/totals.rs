//! The sums of each kind over all call sites.
//!
//! Takes the figures of call sites and of processes that have ended, passes on a total for each kind asked for. Pure.

use std::collections::BTreeMap;

use tracer_common::kind::ResourceKind;

use super::{Assembly, processes, report_errors};
use crate::{
    analyze::estimate::Estimated,
    report::{Resource, Total},
    snapshot::Snapshot,
};

/// The totals of a report.
pub(super) fn of(
    assembly: &Assembly,
    snapshot: &Snapshot,
    errors: Option<&Estimated>,
) -> BTreeMap<Resource, Total> {
    let kinds = assembly.session.options.kinds.iter().copied();
    let mut totals: BTreeMap<Resource, Total> = kinds
        .filter(|kind| *kind != ResourceKind::Object)
        .map(|kind| (kind.into(), Total::default()))
        .collect();
    for site in snapshot.sites.iter().filter(|site| assembly.is_wanted(site)) {
        let total = totals.entry(assembly.kind(site)).or_default();
        total.outstanding_count += site.aged.count;
        total.outstanding_bytes += site.aged.bytes;
        total.acquired_count += site.acquired.count;
        total.acquired_bytes += site.acquired.bytes;
        total.inherited_count += site.inherited.count;
        total.inherited_bytes += site.inherited.bytes;
        total.released_count += site.released.count;
        total.released_bytes += site.released.bytes;
    }
    for (key, acquired) in &snapshot.past {
        let site = processes::of_past(*key, *acquired);
        if assembly.is_wanted(&site) {
            let total = totals.entry(assembly.kind(&site)).or_default();
            total.acquired_count += acquired.count;
            total.acquired_bytes += acquired.bytes;
            total.released_count += acquired.count;
            total.released_bytes += acquired.bytes;
        }
    }
    if let Some(errors) = errors {
        for (kind, total) in &mut totals {
            let of_kind = snapshot.sites.iter().filter(|site| assembly.kind(site) == *kind);
            let batches: Vec<_> = of_kind.filter_map(|site| site.batches.as_deref()).collect();
            total.error = Some(report_errors(errors.errors_of_sum(&batches)));
        }
    }
    totals
}
