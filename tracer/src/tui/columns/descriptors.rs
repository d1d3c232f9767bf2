//! The columns of the table of open file descriptors, and of the summary by type above it.

use super::{
    Column, ColumnId, Entry, Needs, Rank, age, call_site::call_site, counted, known, number, rate,
    text, word,
};
use crate::{
    format,
    report::{Fd, Site},
    tui::{
        figures, names,
        summary::TypeRow,
        text::{Role, Row},
    },
};

/// Every column of the open descriptors, from left to right.
#[rustfmt::skip]
pub const FDS: &[Column<Fd>] = &[
    Column { by: ColumnId::Pid, title: "pid", help: "process id of the target",
        needs: Needs::ManyTargets, width: |_| 7, left: false, leave: 16, largest_first: false,
        rank: |one| Rank::Number(f64::from(one.item.pid)),
        cell: |one, _| Row::of(Role::Muted, one.item.pid.to_string()) },
    Column { by: ColumnId::Fd, title: "fd", help: "number of the descriptor",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 16, largest_first: false,
        rank: |one| Rank::Number(f64::from(one.item.fd)),
        cell: |one, _| Row::of(Role::Strong, one.item.fd.to_string()) },
    Column { by: ColumnId::Type, title: "type", help: "its type",
        needs: Needs::Nothing, width: |screen| if screen < 100 { 8 } else { 10 }, left: true,
        leave: 16, largest_first: false,
        rank: |one| Rank::Text(one.item.fd_type.name()),
        cell: |one, cells| Row::of(Role::Muted, names::start_of(one.item.fd_type.name(), cells)) },
    Column { by: ColumnId::What, title: "target", help: "path, or remote (→) or local (*) address",
        needs: Needs::Nothing, width: |_| 0, left: true, leave: 0, largest_first: false,
        rank: |one| text(one.item.peer.as_deref().or(one.item.local.as_deref()).or(one.item.what.as_deref())),
        cell: what },
    Column { by: ColumnId::State, title: "state", help: "socket state; CLOSE_WAIT: the peer has closed; CLOSE: the connection is over, after a reset for example",
        needs: Needs::States, width: |_| 11, left: true, leave: 17, largest_first: true,
        rank: |one| word(one.item.state.as_ref()), cell: state },
    Column { by: ColumnId::StateTime, title: "for", help: "time in that state",
        needs: Needs::States, width: |_| 6, left: false, leave: 24, largest_first: true,
        rank: |one| number(one.item.state_s),
        cell: |one, _| if one.item.state.is_some() { age(one.item.state_s) } else { Row::new() } },
    Column { by: ColumnId::Age, title: "age", help: "time since it was opened; – not seen",
        needs: Needs::Nothing, width: |_| 6, left: false, leave: 16, largest_first: true,
        rank: |one| number(one.item.age_s), cell: |one, _| age(one.item.age_s) },
    Column { by: ColumnId::Site, title: "opened by", help: "the system call and its call site",
        needs: Needs::Nothing, width: |screen| if screen < 100 { 20 } else { screen * 7 / 20 }, left: true,
        leave: 18, largest_first: false,
        rank: |one| text(site(one).and_then(Site::asked).and_then(|frame| frame.symbol.as_deref())),
        cell: opened_by },
];

/// Every column of the summary by type.
#[rustfmt::skip]
pub const TYPES: &[Column<TypeRow>] = &[
    Column { by: ColumnId::Type, title: "type", help: "type of the descriptors",
        needs: Needs::Nothing, width: |_| 0, left: true, leave: 0, largest_first: false,
        rank: |one| Rank::Text(one.item.fd_type.name()),
        cell: |one, cells| Row::of(Role::Text, names::start_of(one.item.fd_type.name(), cells)) },
    Column { by: ColumnId::Open, title: "open", help: "open now",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 12, largest_first: true,
        rank: |one| counted(one.item.open),
        cell: |one, _| Row::of(Role::Strong, figures::count(one.item.open)) },
    Column { by: ColumnId::CountGrowth, title: "growth", help: "change in open descriptors per second; – not known",
        needs: Needs::TypeGrowth, width: |_| 9, left: false, leave: 12, largest_first: true,
        rank: |one| number(one.item.growth_per_s),
        cell: |one, _| rate(one.item.growth_per_s, format::count_per_s) },
    Column { by: ColumnId::Opened, title: "opened", help: "since the start",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 12, largest_first: true,
        rank: |one| number(one.item.opened.map(|number| number as f64)),
        cell: |one, _| known(Role::Text, one.item.opened.map(figures::count)) },
    Column { by: ColumnId::Closed, title: "closed", help: "since the start",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 12, largest_first: true,
        rank: |one| number(one.item.closed.map(|number| number as f64)),
        cell: |one, _| known(Role::Text, one.item.closed.map(figures::count)) },
];

/// The peer if there is one, else the kernel's name.
fn what(one: &Entry<'_, Fd>, cells: usize) -> Row {
    let fd = one.item;
    let (mark, text) = match (&fd.peer, &fd.local, &fd.what) {
        (Some(peer), _, _) => ("→ ", peer),
        (None, Some(local), _) => ("* ", local),
        (None, None, Some(what)) => ("", what),
        (None, None, None) => return known(Role::Text, None),
    };
    let space = cells.saturating_sub(names::width(mark));
    Row::of(Role::Muted, mark).with(Role::Text, names::middle(text, space))
}

fn state(one: &Entry<'_, Fd>, cells: usize) -> Row {
    let Some(state) = &one.item.state else { return Row::new() };
    let role = if one.item.is_peer_gone() { Role::Doubtful } else { Role::Muted };
    Row::of(role, names::start_of(state.name(), cells))
}

fn site<'a>(one: &Entry<'a, Fd>) -> Option<&'a Site> {
    one.context.site(one.item.site?)
}

/// The call, and the call site's headline.
fn opened_by(one: &Entry<'_, Fd>, cells: usize) -> Row {
    let fd = one.item;
    let Some(call) = &fd.acquired_by else {
        return Row::of(Role::Muted, if fd.pre_attach { "before the attach" } else { "not seen" });
    };
    let row = Row::of(Role::Muted, names::start_of(call.name(), cells));
    let space = cells.saturating_sub(row.width() + 1);
    match site(one) {
        None => row,
        // The headline matters more than the name of the call.
        Some(site) if space < LEAST_SITE => call_site(site, cells),
        Some(site) => row.with(Role::Text, " ").and(call_site(site, space)),
    }
}

/// A shorter call site would not be recognizable.
const LEAST_SITE: usize = 18;
