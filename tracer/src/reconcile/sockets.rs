//! Reconciles the table of connections with `/proc`: adds those that were open before the attach, ends those whose
//! end no probe saw, and reads the states of their sockets.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use tracer_common::connection::Role;

use super::fds::FdReconciliation;
use crate::{
    ledger::{
        Ledger,
        connections::{Figures, Occurrence, Seed},
    },
    source::RecordSource,
    target::{
        Pid,
        descriptors::Listed,
        sockets::{self, Socket, Traffic},
    },
};

/// States of a socket without a peer, as in [`Socket::state`].
const WITHOUT_PEER: [&str; 7] =
    ["LISTEN", "CLOSE", "SYN_SENT", "SYN_RECV", "TIME_WAIT", "UNCONNECTED", "CONNECTING"];

/// Whether a socket is one end of a connection. The kernel reports no peer for a unix socket; one with a name of its
/// own is more than an unnamed socket pair.
fn is_connected(socket: &Socket) -> bool {
    let alone = socket.state.is_none_or(|state| WITHOUT_PEER.contains(&state));
    let named = if socket.protocol == "unix" { &socket.local } else { &socket.peer };
    !alone && named.is_some()
}

/// Resources count as left behind when they are still outstanding so long after the connection's end: event loops
/// and thread pools release a connection's resources after the close.
const MIN_GRACE: Duration = Duration::from_secs(1);

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
    for (fd, inode) in inodes {
        let Some(socket) = known.get(&inode).filter(|socket| is_connected(socket)) else {
            continue;
        };
        let Socket { protocol, local, peer, .. } = socket.clone();
        ledger.seed_connection(Seed { pid, fd, inode, protocol, local, peer });
    }
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
    ledger.connections_scanned(&found, |pid| listed.contains_key(&pid), at_ns);
    for (socket, number) in ledger.connections_ended_unseen() {
        source.forget_connection(socket, number);
    }
}

impl FdReconciliation {
    /// Ends the connections of a target that has ended, unless another target has the socket open.
    pub(crate) fn end_connections(
        &self,
        ledger: &mut Ledger,
        pid: Pid,
        ended: &[Pid],
        now_ns: u64,
    ) {
        let heirs: HashMap<u64, (Pid, u32)> = self
            .links
            .iter()
            .filter(|((owner, _), _)| *owner != pid && !ended.contains(owner))
            .filter_map(|(key, (_, link))| Some((sockets::inode(link)?, *key)))
            .collect();
        ledger.connections_exited(pid, now_ns, |inode| heirs.get(&inode).copied());
    }

    /// Starts the log of connections.
    pub(crate) fn log_connections(
        &mut self,
        ledger: &mut Ledger,
        log: impl FnMut(Occurrence) + Send + 'static,
    ) {
        self.log = Some(Box::new(log));
        ledger.log_connections();
    }

    /// Writes what happened to connections since the last call to the log.
    pub(crate) fn log_occurrences(&mut self, ledger: &mut Ledger) {
        if let Some(log) = &mut self.log {
            ledger.occurrences().into_iter().for_each(log);
        }
    }
}

/// The figures of connections, where descriptors are traced.
pub(crate) fn connections(
    fds: Option<&mut FdReconciliation>,
    ledger: &mut Ledger,
    min_age: Duration,
    at_ns: u64,
) -> Option<Figures> {
    let grace = min_age.max(MIN_GRACE);
    let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
    let mut figures = ledger.connections(at_ns, grace_ns);
    let fds = fds?;
    fds.log_occurrences(ledger);
    for shown in &mut figures.table {
        let key = (shown.connection.pid, shown.connection.fd);
        let link = fds.links.get(&key).and_then(|(_, link)| sockets::inode(link));
        if link != Some(shown.connection.inode) {
            continue;
        }
        let Some(known) = fds.sockets.get(&key) else { continue };
        shown.state = known.socket.state.map(|state| (state, known.since_ns));
        let first = u64::from(shown.connection.role == Role::Connected);
        let bytes = |traffic: Traffic| (traffic.received, traffic.sent.saturating_sub(first));
        shown.bytes = known.socket.traffic.map(bytes);
    }
    Some(figures)
}
