//! The columns of the tables of library objects: by type, and single objects.

use super::{
    Column, ColumnId, Entry, Needs, Rank, UNKNOWN, age, call_site::call_site, counted, known,
    number, per_second, rate, text,
};
use crate::{
    format,
    report::{Address, LibraryObject, ObjectType, Resource, Site},
    tui::{
        figures, names,
        text::{Role, Row},
    },
};

/// Every column of object types, from left to right.
#[rustfmt::skip]
pub const OBJECT_TYPES: &[Column<ObjectType>] = &[
    Column { by: ColumnId::ObjectType, title: "kind", help: "the library's type name",
        needs: Needs::Nothing, width: |screen| if screen < 100 { 8 } else { 11 }, left: true, leave: 12, largest_first: false,
        rank: |one| Rank::Text(&one.item.name),
        cell: |one, cells| Row::of(live_or(one.item, Role::Strong), names::start_of(&one.item.name, cells)) },
    Column { by: ColumnId::Library, title: "library", help: "the library that defines the type",
        needs: Needs::Nothing, width: |_| 10, left: true, leave: 40, largest_first: false,
        rank: |one| Rank::Text(&one.item.library),
        cell: |one, cells| Row::of(Role::Muted, names::start_of(&one.item.library, cells)) },
    Column { by: ColumnId::Site, title: "call site of most", help: "the function that created most of the live objects",
        needs: Needs::Nothing, width: |_| 0, left: true, leave: 0, largest_first: false,
        rank: |one| text(most(one).and_then(Site::asked).and_then(|frame| frame.symbol.as_deref())),
        cell: |one, cells| most(one).map_or_else(Row::new, |site| call_site(site, cells)) },
    Column { by: ColumnId::Count, title: "live", help: "objects not released yet, of any age",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 12, largest_first: true,
        rank: |one| counted(one.item.live),
        cell: |one, _| Row::of(live_or(one.item, Role::Strong), figures::count(one.item.live)) },
    Column { by: ColumnId::Asked, title: "asked", help: "live objects whose release was requested; – not known",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 13, largest_first: true,
        rank: |one| number(one.item.release_asked.map(|asked| asked as f64)), cell: |one, _| asked(one.item.release_asked) },
    Column { by: ColumnId::Churn, title: "made/s", help: "created per second recently; – not enough data yet",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 16, largest_first: true,
        rank: |one| number(one.item.created_per_s), cell: |one, _| per_second(one.item.created_per_s) },
    Column { by: ColumnId::Acquired, title: "made", help: "created since the start",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 44, largest_first: true,
        rank: |one| counted(one.item.created),
        cell: |one, _| Row::of(Role::Muted, figures::count(one.item.created)) },
    Column { by: ColumnId::Oldest, title: "oldest", help: "age of the oldest live object; – not known",
        needs: Needs::Nothing, width: |_| 6, left: false, leave: 16, largest_first: true,
        rank: |one| number(one.item.oldest_s),
        cell: |one, _| if one.item.live == 0 { Row::new() } else { age(one.item.oldest_s) } },
    Column { by: ColumnId::Bytes, title: "bytes", help: "bytes of their blocks",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 14, largest_first: true,
        rank: |one| counted(one.item.bytes),
        cell: |one, _| bytes(one.item.bytes, live_or(one.item, Role::Text)) },
    Column { by: ColumnId::Owned, title: "with owned", help: "the same including the objects that they own, of any kind",
        needs: Needs::Nothing, width: |_| 10, left: false, leave: 22, largest_first: true,
        rank: |one| counted(one.item.all_bytes()),
        cell: |one, _| bytes(one.item.all_bytes(), live_or(one.item, Role::Text)) },
    Column { by: ColumnId::Growth, title: "growth", help: "recent growth in bytes per second; – not enough data yet",
        needs: Needs::Nothing, width: |_| 11, left: false, leave: 24, largest_first: true,
        rank: |one| number(growth(one)), cell: |one, _| rate(growth(one), format::bytes_per_s) },
    Column { by: ColumnId::Queued, title: "queued", help: "bytes queued in them, if their layout is known; ≥ not all objects were read",
        needs: Needs::Known, width: |_| 11, left: false, leave: 30, largest_first: true,
        rank: |one| number(one.item.queued_bytes.map(|bytes| bytes as f64)),
        cell: |one, _| summed(one, one.item.queued_bytes.map(format::bytes)) },
    Column { by: ColumnId::Pending, title: "pending", help: "objects waiting for an event; ≥ not all objects were read",
        needs: Needs::Known, width: |_| 9, left: false, leave: 32, largest_first: true,
        rank: |one| number(one.item.pending.map(|pending| pending as f64)),
        cell: |one, _| summed(one, one.item.pending.map(figures::count)) },
];

/// Every column of single objects, from left to right.
#[rustfmt::skip]
pub const OBJECTS: &[Column<LibraryObject>] = &[
    Column { by: ColumnId::Pid, title: "pid", help: "process id of the target",
        needs: Needs::ManyTargets, width: |_| 7, left: false, leave: 16, largest_first: false,
        rank: |one| Rank::Number(f64::from(one.item.pid)),
        cell: |one, _| Row::of(Role::Muted, one.item.pid.to_string()) },
    Column { by: ColumnId::ObjectType, title: "kind", help: "the library's type name",
        needs: Needs::Nothing, width: |screen| if screen < 100 { 8 } else { 11 }, left: true, leave: 12, largest_first: false,
        rank: |one| Rank::Text(&one.item.type_name),
        cell: |one, cells| Row::of(Role::Muted, names::start_of(&one.item.type_name, cells)) },
    Column { by: ColumnId::Address, title: "address", help: "its address in the target's memory",
        needs: Needs::Nothing, width: |_| 14, left: true, leave: 12, largest_first: false,
        rank: |one| address(Some(one.item.address)),
        cell: |one, cells| Row::of(Role::Text, names::middle(&one.item.address.to_string(), cells)) },
    Column { by: ColumnId::Label, title: "label", help: "its name, callback or subtype",
        needs: Needs::Nothing, width: |_| 0, left: true, leave: 0, largest_first: false,
        rank: |one| text(one.item.label.as_deref()),
        cell: |one, cells| one.item.label.as_ref().map_or_else(Row::new, |label| Row::of(Role::Strong, short(label, cells))) },
    Column { by: ColumnId::State, title: "state", help: "live, or asked: time since its release was requested",
        needs: Needs::Nothing, width: |_| 12, left: true, leave: 12, largest_first: true,
        rank: |one| number(one.item.release_asked_s), cell: |one, _| state(one.item) },
    Column { by: ColumnId::Age, title: "age", help: "time since it was created",
        needs: Needs::Nothing, width: |_| 6, left: false, leave: 12, largest_first: true,
        rank: |one| Rank::Number(one.item.age_s), cell: |one, _| age(Some(one.item.age_s)) },
    Column { by: ColumnId::Fd, title: "fd", help: "its file descriptor",
        needs: Needs::Known, width: |_| 6, left: false, leave: 18, largest_first: false,
        rank: |one| number(one.item.fd.map(f64::from)),
        cell: |one, _| one.item.fd.map_or_else(Row::new, |fd| Row::of(Role::Text, fd.to_string())) },
    Column { by: ColumnId::Peer, title: "peer", help: "remote address of that descriptor, or of the connection that the object was created for",
        needs: Needs::Known, width: |screen| if screen < 140 { 16 } else { 22 }, left: true, leave: 20, largest_first: false,
        rank: |one| text(one.item.peer.as_deref()),
        cell: |one, cells| one.item.peer.as_ref().map_or_else(Row::new, |peer| Row::of(Role::Text, names::middle(peer, cells))) },
    Column { by: ColumnId::Bytes, title: "bytes", help: "bytes of its block",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 14, largest_first: true,
        rank: |one| counted(one.item.bytes), cell: |one, _| bytes(one.item.bytes, Role::Text) },
    Column { by: ColumnId::Owned, title: "with owned", help: "the same including the objects that it owns, of any kind",
        needs: Needs::Nothing, width: |_| 10, left: false, leave: 26, largest_first: true,
        rank: |one| counted(one.item.all_bytes()), cell: |one, _| bytes(one.item.all_bytes(), Role::Text) },
    Column { by: ColumnId::Queued, title: "queued", help: "bytes queued in it; – layout not known",
        needs: Needs::Known, width: |_| 9, left: false, leave: 20, largest_first: true,
        rank: |one| number(one.item.queued_bytes.map(|bytes| bytes as f64)),
        cell: |one, _| one.item.queued_bytes.map_or_else(|| known(Role::Text, None), |queued| bytes(queued, Role::Text)) },
    Column { by: ColumnId::Pending, title: "pending", help: "whether it is waiting for an event; – layout not known",
        needs: Needs::Known, width: |_| 7, left: false, leave: 24, largest_first: true,
        rank: |one| number(one.item.pending.map(|pending| f64::from(u8::from(pending)))),
        cell: |one, _| known(Role::Text, one.item.pending.map(|pending| if pending { "yes" } else { "no" }.to_owned())) },
    Column { by: ColumnId::References, title: "refs", help: "its reference count; – layout not known",
        needs: Needs::Known, width: |_| 5, left: false, leave: 22, largest_first: true,
        rank: |one| number(one.item.references.map(|number| number as f64)),
        cell: |one, cells| known(Role::Text, one.item.references.map(|number| names::start_of(&figures::count(number), cells))) },
    Column { by: ColumnId::Owner, title: "owner", help: "address of the object that owns it",
        needs: Needs::Known, width: |_| 14, left: true, leave: 28, largest_first: false,
        rank: |one| address(one.item.owner),
        cell: |one, cells| one.item.owner.map_or_else(Row::new, |owner| Row::of(Role::Muted, names::middle(&owner.to_string(), cells))) },
    Column { by: ColumnId::Site, title: "made by", help: "the function that created it",
        needs: Needs::Nothing, width: |screen| screen / 5, left: true, leave: 22, largest_first: false,
        rank: |one| text(creator(one).and_then(Site::asked).and_then(|frame| frame.symbol.as_deref())),
        cell: |one, cells| creator(one).map_or_else(|| Row::of(Role::Muted, UNKNOWN), |site| call_site(site, cells)) },
];

/// The call site that created most objects of a type.
fn most<'a>(one: &Entry<'a, ObjectType>) -> Option<&'a Site> {
    one.context.site(one.item.site?)
}

fn creator<'a>(one: &Entry<'a, LibraryObject>) -> Option<&'a Site> {
    one.context.site(one.item.site)
}

/// Types without live objects are muted.
const fn live_or(kind: &ObjectType, role: Role) -> Role {
    if kind.live == 0 { Role::Muted } else { role }
}

/// Zero is muted.
fn asked(number: Option<u64>) -> Row {
    let Some(number) = number else { return known(Role::Text, None) };
    let role = if number == 0 { Role::Muted } else { Role::Doubtful };
    Row::of(role, figures::count(number))
}

fn bytes(number: u64, role: Role) -> Row {
    Row::of(if number == 0 { Role::Muted } else { role }, format::bytes(number))
}

fn growth(one: &Entry<'_, ObjectType>) -> Option<f64> {
    one.context.summary.growth.get(&Resource::from(one.item.name.as_str())).copied()
}

/// A sum over the objects that could be read.
fn summed(one: &Entry<'_, ObjectType>, number: Option<String>) -> Row {
    match number {
        None => Row::new(),
        Some(number) if one.item.is_all_summed() => Row::of(Role::Text, number),
        Some(number) => Row::of(Role::Text, format!("≥ {number}")),
    }
}

fn state(one: &LibraryObject) -> Row {
    match one.release_asked_s {
        Some(since_s) => Row::of(Role::Doubtful, format!("asked {}", format::seconds(since_s))),
        None => Row::of(Role::Muted, "live"),
    }
}

/// Shortens a label: a function's name, or a text of which both ends matter: `tcp://10.0.0.20:5557`.
fn short(label: &str, cells: usize) -> String {
    if label.contains("::") { names::function(label, cells) } else { names::middle(label, cells) }
}

/// An address as a sort key.
fn address<'a>(address: Option<Address>) -> Rank<'a> {
    number(address.map(|address| address.0 as f64))
}
