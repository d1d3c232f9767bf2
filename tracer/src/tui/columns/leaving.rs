//! The columns of the table of resources left behind, by the acquiring function.

use super::{
    Column, ColumnId, Entry, Needs, Rank, call_site::call_site, counted, known, number, text,
};
use crate::{
    format,
    report::{Leaving, Site},
    tui::{
        figures, names,
        text::{Role, Row},
    },
};

/// Every column, from left to right.
#[rustfmt::skip]
pub const LEAVING: &[Column<Leaving>] = &[
    Column { by: ColumnId::Pid, title: "pid", help: "process id of the target",
        needs: Needs::ManyTargets, width: |_| 7, left: false, leave: 16, largest_first: false,
        rank: |one| number(site(one).and_then(|site| site.pid).map(f64::from)),
        cell: |one, _| site(one).map_or_else(Row::new, |site| known(Role::Muted, site.pid.map(|pid| pid.to_string()))) },
    Column { by: ColumnId::Kind, title: "kind", help: "kind of resource; for descriptors, their type",
        needs: Needs::Nothing, width: |screen| if screen < 100 { 6 } else { 9 }, left: true, leave: 20, largest_first: false,
        rank: |one| text(site(one).map(Site::kind_name)),
        cell: |one, cells| site(one).map_or_else(Row::new, |site| Row::of(Role::Muted, names::start_of(site.kind_name(), cells))) },
    Column { by: ColumnId::Site, title: "call site", help: "the function that allocated; the worst of the call paths to it",
        needs: Needs::Nothing, width: |_| 0, left: true, leave: 0, largest_first: false,
        rank: |one| text(site(one).and_then(Site::asked).and_then(|frame| frame.symbol.as_deref())),
        cell: |one, cells| site(one).map_or_else(Row::new, |site| call_site(site, cells)) },
    Column { by: ColumnId::Paths, title: "paths", help: "number of call paths to it; the list of call sites shows each",
        needs: Needs::Nothing, width: |_| 5, left: false, leave: 40, largest_first: true,
        rank: |one| counted(one.item.sites.len() as u64),
        cell: |one, _| Row::of(Role::Muted, figures::count(one.item.sites.len() as u64)) },
    Column { by: ColumnId::Share, title: "of closed", help: "their share of the connections that closed at least 1s (or --min-age) ago",
        needs: Needs::Nothing, width: |_| 11, left: false, leave: 16, largest_first: true,
        rank: |one| number(one.item.share()), cell: |one, _| super::known(Role::Bad, one.item.share_text()) },
    Column { by: ColumnId::Leaving, title: "leaving", help: "closed connections that left something behind; a range, as some may be counted on several paths",
        needs: Needs::Nothing, width: |_| 13, left: false, leave: 16, largest_first: true,
        rank: |one| counted(one.item.connections.1),
        cell: |one, _| Row::of(Role::Strong, one.item.connections_text(figures::count)) },
    Column { by: ColumnId::Orphans, title: "orphans", help: "bytes left behind; none for descriptors",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 16, largest_first: true,
        rank: |one| if sized(one) { counted(one.item.bytes) } else { Rank::Unknown }, cell: orphans },
    Column { by: ColumnId::OrphanCount, title: "count", help: "number of blocks or descriptors left behind",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 16, largest_first: true,
        rank: |one| counted(one.item.count),
        cell: |one, _| Row::of(Role::Bad, figures::count(one.item.count)) },
];

/// The worst of its call sites.
fn site<'a>(one: &Entry<'a, Leaving>) -> Option<&'a Site> {
    one.context.site(*one.item.sites.first()?)
}

fn sized(one: &Entry<'_, Leaving>) -> bool {
    site(one).is_none_or(|site| site.kind.has_bytes())
}

fn orphans(one: &Entry<'_, Leaving>, _: usize) -> Row {
    if sized(one) { Row::of(Role::Bad, format::bytes(one.item.bytes)) } else { Row::new() }
}
