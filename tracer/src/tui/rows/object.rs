//! Known values of the object or the object type under the cursor, above its call site.
//!
//! Pure; takes the state, returns rows. Columns that a narrow table leaves out are shown here.

use crate::{
    format,
    report::{LibraryObject, ObjectType},
    tui::{
        figures,
        lists::{List, Listed},
        names,
        state::ViewState,
        text::{Role, Row, Segment},
    },
};

/// At most `MOST` lines, and an empty one below; empty if the cursor is on another item.
pub(super) fn rows(state: &ViewState, width: usize) -> Vec<Row> {
    let Some(parts) = parts(state) else { return Vec::new() };
    let mut rows = Vec::new();
    let mut row = Row::of(Role::Text, " ");
    let space = width.saturating_sub(1);
    for Segment { row: part, .. } in parts {
        if row.width() > 1 && row.width() + part.width() + 3 > space {
            rows.push(row);
            row = Row::of(Role::Text, " ");
        }
        let gap = if row.width() > 1 { "   " } else { "" };
        row = row.with(Role::Text, gap).and(part);
    }
    rows.push(row);
    rows.truncate(MOST);
    rows.push(Row::new());
    rows
}

/// Maximum number of lines, which leaves space for the stack.
const MOST: usize = 3;

fn parts(state: &ViewState) -> Option<Vec<Segment>> {
    let context = state.context()?;
    let at = *state.at.order.get(state.at.cursor)?;
    match state.list {
        List::ObjectTypes => Some(of_kind(ObjectType::get(&context, at)?)),
        List::Objects => Some(of_object(LibraryObject::get(&context, at)?)),
        _ => None,
    }
}

fn part(title: &str, role: Role, text: &str) -> Segment {
    let row =
        Row::of(Role::Muted, if title.is_empty() { String::new() } else { format!("{title} ") });
    Segment { rank: 0, row: row.with(role, names::start_of(text, LONGEST)) }
}

/// Maximum width of one part in cells.
const LONGEST: usize = 48;

fn of_kind(kind: &ObjectType) -> Vec<Segment> {
    let mut parts = vec![part("library", Role::Text, &kind.library)];
    if !kind.sentence.is_empty() {
        parts.push(part("", Role::Text, &kind.sentence));
    }
    parts.push(part("made", Role::Text, &figures::count(kind.created)));
    parts.push(part("gone", Role::Text, &figures::count(kind.destroyed)));
    if let Some(asked @ 1..) = kind.release_asked {
        parts.push(part("release asked", Role::Doubtful, &figures::count(asked)));
    }
    if kind.owned_bytes > 0 {
        parts.push(part("owns", Role::Text, &format::bytes(kind.owned_bytes)));
    }
    parts
}

fn of_object(one: &LibraryObject) -> Vec<Segment> {
    let mut parts = vec![match one.release_asked_s {
        Some(since_s) => {
            part("release asked", Role::Doubtful, &format!("{} ago", format::seconds(since_s)))
        }
        None => part("", Role::Text, "live"),
    }];
    let known = [
        ("", one.label.clone(), Role::Strong),
        ("fd", one.fd.map(|fd| fd.to_string()), Role::Text),
        ("peer", one.peer.clone(), Role::Text),
        ("connection", one.connection.map(|number| number.to_string()), Role::Text),
        ("owner", one.owner.map(|owner| owner.to_string()), Role::Text),
        ("owns", (one.owned_bytes > 0).then(|| format::bytes(one.owned_bytes)), Role::Text),
        ("references", one.references.map(figures::count), Role::Text),
        ("queued", one.queued_bytes.map(format::bytes), Role::Text),
        ("pending", one.pending.map(|yes| if yes { "yes" } else { "no" }.to_owned()), Role::Text),
    ];
    let known = known.into_iter().filter_map(|(title, text, role)| Some((title, text?, role)));
    parts.extend(known.map(|(title, text, role)| part(title, role, &text)));
    parts
}
