//! Corrects the table of connections by the sockets that targets have open: adds those that were open before the attach,
//! and ends those whose end no probe saw.
//!
//! Takes lists of descriptors, changes the ledger.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
};

use crate::{
    ledger::{Ledger, connections::Seed},
    source::RecordSource,
    target::{
        Pid,
        descriptors::Listed,
        sockets::{self, Socket},
    },
};

/// States of a socket without a peer, as in [`Socket::state`].
const WITHOUT_PEER: [&str; 6] =
    ["LISTEN", "SYN_SENT", "SYN_RECV", "TIME_WAIT", "UNCONNECTED", "CONNECTING"];

/// Whether a socket is one end of a connection. The kernel reports no peer for a unix socket; one with a name of its
/// own is more than an unnamed socket pair.
pub(super) fn is_connected(socket: &Socket) -> bool {
    let alone = socket.state.is_none_or(|state| WITHOUT_PEER.contains(&state));
    let named = if socket.protocol == "unix" { &socket.local } else { &socket.peer };
    !alone && named.is_some()
}

/// Adds the connections that a target had before recording began and still has.
pub(super) fn seed_connections(
    source: &mut RecordSource,
    ledger: &mut Ledger,
    pid: Pid,
    before: &Listed,
    now: &Listed,
) {
    let both = before.iter().filter(|(fd, link)| now.get(*fd) == Some(*link));
    let inodes: Vec<(u32, u64)> =
        both.filter_map(|(fd, link)| Some((*fd, sockets::inode(link)?))).collect();
    if inodes.is_empty() {
        return;
    }
    let wanted: Vec<u64> = inodes.iter().map(|(_, inode)| *inode).collect();
    let known = source.sockets(pid, &wanted);
    let listening = known.values().filter(|socket| socket.state == Some("LISTEN"));
    let ports: HashSet<u16> = listening.filter_map(|socket| port(socket.local.as_ref())).collect();
    for (fd, inode) in inodes {
        let Some(socket) = known.get(&inode).filter(|socket| is_connected(socket)) else {
            continue;
        };
        let connected = port(socket.local.as_ref()).is_some_and(|port| !ports.contains(&port));
        let Socket { protocol, local, peer, .. } = socket.clone();
        ledger.connections_mut().seed(Seed { pid, fd, inode, connected, protocol, local, peer });
    }
}

/// The port of an address of the internet family.
fn port(address: Option<&String>) -> Option<u16> {
    address?.parse().ok().map(|address: SocketAddr| address.port())
}

/// Compares open connections with the descriptors `listed` at `at_ns`.
pub(super) fn reconcile_connections(
    ledger: &mut Ledger,
    source: &mut RecordSource,
    listed: &BTreeMap<Pid, Listed>,
    at_ns: u64,
) {
    let links = listed.values().flat_map(|open| open.values());
    let found: HashSet<u64> = links.filter_map(|link| sockets::inode(link)).collect();
    ledger.connections_mut().scanned(&found, |pid| listed.contains_key(&pid), at_ns);
    for (socket, number) in ledger.connections_mut().take_ended_unseen() {
        source.forget_connection(socket, number);
    }
}
