//! The columns of the tables of single connections and of clients.

use super::{
    Column, ColumnId, Entry, Needs, Rank, age, counted, known, number, per_second, text, word,
};
use crate::{
    format,
    report::{Amount, Client, ClosedBy, Connection, ConnectionRole, Word},
    tui::{
        figures, names,
        text::{Role, Row},
    },
};

/// Every column of single connections, from left to right.
#[rustfmt::skip]
pub const CONNECTIONS: &[Column<Connection>] = &[
    Column { by: ColumnId::Pid, title: "pid", help: "process id of the target",
        needs: Needs::ManyTargets, width: |_| 7, left: false, leave: 16, largest_first: false,
        rank: |one| Rank::Number(f64::from(one.item.pid)),
        cell: |one, _| Row::of(Role::Muted, one.item.pid.to_string()) },
    Column { by: ColumnId::Fd, title: "fd", help: "its descriptor, while it is open",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 40, largest_first: false,
        rank: |one| number(one.item.fd.map(f64::from)),
        cell: |one, _| one.item.fd.map_or_else(Row::new, |fd| Row::of(Role::Muted, fd.to_string())) },
    Column { by: ColumnId::Type, title: "type", help: "its protocol",
        needs: Needs::Nothing, width: |_| 5, left: true, leave: 30, largest_first: false,
        rank: |one| Rank::Text(one.item.protocol.name()),
        cell: |one, cells| Row::of(Role::Muted, names::start_of(one.item.protocol.name(), cells)) },
    Column { by: ColumnId::Peer, title: "peer", help: "remote address and port",
        needs: Needs::Nothing, width: |_| 0, left: true, leave: 0, largest_first: false,
        rank: |one| text(one.item.peer.as_deref()),
        cell: |one, cells| known(Role::Text, one.item.peer.as_ref().map(|peer| names::middle(peer, cells))) },
    Column { by: ColumnId::Role, title: "role", help: "accepted (opened by the peer) or connected (opened by the target)",
        needs: Needs::Nothing, width: |_| 9, left: true, leave: 40, largest_first: false,
        rank: |one| text(one.item.role.map(ConnectionRole::name)),
        cell: |one, _| known(Role::Muted, one.item.role.map(|role| role.name().to_owned())) },
    Column { by: ColumnId::State, title: "state", help: "socket state; for closed ones, who closed it",
        needs: Needs::Nothing, width: |_| 14, left: true, leave: 16, largest_first: true,
        rank: |one| word(one.item.state.as_ref()).or(word(one.item.closed_by.as_ref())), cell: state },
    Column { by: ColumnId::Age, title: "age", help: "time since it was opened; for closed ones, how long it was open; – not seen",
        needs: Needs::Nothing, width: |_| 6, left: false, leave: 18, largest_first: true,
        rank: |one| number(one.item.age_s), cell: |one, _| age(one.item.age_s) },
    Column { by: ColumnId::In, title: "in", help: "bytes received; – not known",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 20, largest_first: true,
        rank: |one| number(one.item.bytes_in.map(|bytes| bytes as f64)),
        cell: |one, _| known(Role::Text, one.item.bytes_in.map(format::bytes)) },
    Column { by: ColumnId::Out, title: "out", help: "bytes sent; – not known",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 20, largest_first: true,
        rank: |one| number(one.item.bytes_out.map(|bytes| bytes as f64)),
        cell: |one, _| known(Role::Text, one.item.bytes_out.map(format::bytes)) },
    Column { by: ColumnId::Held, title: "in use", help: "outstanding bytes acquired for it",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 17, largest_first: true,
        rank: |one| counted(one.item.held.bytes), cell: |one, _| bytes_of(one.item.held, Role::Text) },
    Column { by: ColumnId::Orphans, title: "orphans", help: "bytes left behind when it closed; … closed too recently to tell",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 17, largest_first: true,
        rank: |one| counted(one.item.orphans.bytes), cell: |one, _| left(one.item, bytes_of(one.item.orphans, Role::Bad)) },
    Column { by: ColumnId::OrphanCount, title: "count", help: "number of blocks and descriptors left behind",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 44, largest_first: true,
        rank: |one| counted(one.item.orphans.count), cell: |one, _| left(one.item, some(one.item.orphans.count, Role::Bad)) },
];

/// Every column of the clients, from left to right.
#[rustfmt::skip]
pub const CLIENTS: &[Column<Client>] = &[
    Column { by: ColumnId::Peer, title: "client", help: "remote address",
        needs: Needs::Nothing, width: |_| 0, left: true, leave: 0, largest_first: false,
        rank: |one| Rank::Text(&one.item.address),
        cell: |one, cells| Row::of(Role::Strong, names::middle(&one.item.address, cells)) },
    Column { by: ColumnId::Orphans, title: "orphans", help: "bytes left behind by its closed connections",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 15, largest_first: true,
        rank: |one| counted(one.item.orphan_bytes),
        cell: |one, _| bytes_of(Amount { count: one.item.orphan_count, bytes: one.item.orphan_bytes }, Role::Bad) },
    Column { by: ColumnId::OrphanCount, title: "count", help: "number of blocks and descriptors left behind",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 24, largest_first: true,
        rank: |one| counted(one.item.orphan_count), cell: |one, _| some(one.item.orphan_count, Role::Bad) },
    Column { by: ColumnId::Leaving, title: "leaving", help: "closed connections that left something behind",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 17, largest_first: true,
        rank: |one| counted(one.item.with_orphans), cell: |one, _| some(one.item.with_orphans, Role::Text) },
    Column { by: ColumnId::Open, title: "open", help: "open connections",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 15, largest_first: true,
        rank: |one| counted(one.item.open), cell: |one, _| Row::of(Role::Strong, figures::count(one.item.open)) },
    Column { by: ColumnId::Opened, title: "opened", help: "connections opened since the start",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 16, largest_first: true,
        rank: |one| counted(one.item.opened), cell: |one, _| Row::of(Role::Text, figures::count(one.item.opened)) },
    Column { by: ColumnId::Closed, title: "closed", help: "connections closed since the start",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 28, largest_first: true,
        rank: |one| counted(one.item.closed), cell: |one, _| Row::of(Role::Text, figures::count(one.item.closed)) },
    Column { by: ColumnId::Churn, title: "opened/s", help: "connections opened per second; – not enough data yet",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 18, largest_first: true,
        rank: |one| number(one.item.opened_per_s), cell: |one, _| per_second(one.item.opened_per_s) },
    Column { by: ColumnId::In, title: "in", help: "bytes received; – not known",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 24, largest_first: true,
        rank: |one| number(one.item.bytes_in.map(|bytes| bytes as f64)),
        cell: |one, _| known(Role::Text, one.item.bytes_in.map(format::bytes)) },
    Column { by: ColumnId::Out, title: "out", help: "bytes sent; – not known",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 24, largest_first: true,
        rank: |one| number(one.item.bytes_out.map(|bytes| bytes as f64)),
        cell: |one, _| known(Role::Text, one.item.bytes_out.map(format::bytes)) },
];

fn state(one: &Entry<'_, Connection>, cells: usize) -> Row {
    let connection = one.item;
    match (&connection.state, &connection.closed_by, connection.closed_s) {
        (_, Some(by), _) => Row::of(Role::Muted, names::start_of(&closed_by(by), cells)),
        (_, None, Some(_)) => Row::of(Role::Muted, "closed"),
        (Some(state), None, None) => {
            let role = if connection.is_peer_gone() { Role::Doubtful } else { Role::Text };
            Row::of(role, names::start_of(state.name(), cells))
        }
        (None, None, None) => known(Role::Text, None),
    }
}

/// Who closed it, in words.
fn closed_by(by: &Word<ClosedBy>) -> String {
    match by.known() {
        Some(ClosedBy::Us | ClosedBy::Peer) => format!("closed by {by}"),
        _ => format!("closed {by}"),
    }
}

/// Resources that it left behind, once known: held resources count as left behind only after a grace period.
fn left(connection: &Connection, cell: Row) -> Row {
    let soon =
        connection.closed_s.is_some() && connection.held.count > 0 && connection.orphans.count == 0;
    if soon { Row::of(Role::Muted, "…") } else { cell }
}

/// Bytes; zero is muted, and resources without a size are not zero.
fn bytes_of(amount: Amount, role: Role) -> Row {
    match amount.count {
        0 => Row::of(Role::Muted, "0 B"),
        _ => Row::of(role, format::bytes(amount.bytes)),
    }
}

fn some(number: u64, role: Role) -> Row {
    Row::of(if number == 0 { Role::Muted } else { role }, figures::count(number))
}
