//! What `/proc` says of targets' connections: which were open before the attach, which are over though nobody saw
//! it, and in which state their sockets are.
//!
//! A part of the collector.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use tracer_common::connection::Role;

use super::{
    collector::{Collector, now_ns},
    connections::{Figures, Occurrence, Seed},
};
use crate::target::{
    Pid,
    descriptors::Listed,
    sockets::{self, Socket, Traffic},
};

/// States of a socket that has no peer, or none yet, as [`Socket::state`] has them.
const ALONE: [&str; 7] =
    ["LISTEN", "CLOSE", "SYN_SENT", "SYN_RECV", "TIME_WAIT", "UNCONNECTED", "CONNECTING"];

/// Whether a socket that was found is one end of a connection. Of a unix socket the kernel tells no peer; one with
/// a name of its own is no mere pair of sockets.
fn is_connected(socket: &Socket) -> bool {
    let alone = socket.state.is_none_or(|state| ALONE.contains(&state));
    let named = if socket.protocol == "unix" { &socket.local } else { &socket.peer };
    !alone && named.is_some()
}

/// What a connection has acquired is left behind when it is still there so long after the end: event loops and pools of
/// threads release after a close what belonged to it.
const LEAST_GRACE: Duration = Duration::from_secs(1);

impl Collector {
    /// Takes in the connections that a target had before recording began and has now.
    pub(super) fn seed_connections(&mut self, pid: Pid, before: &Listed, now: &Listed) {
        let both = before.iter().filter(|(fd, link)| now.get(*fd) == Some(*link));
        let inodes: Vec<(u32, u64)> =
            both.filter_map(|(fd, link)| Some((*fd, sockets::inode(link)?))).collect();
        if inodes.is_empty() {
            return;
        }
        let known = sockets::list(pid);
        for (fd, inode) in inodes {
            let Some(socket) = known.get(&inode).filter(|socket| is_connected(socket)) else {
                continue;
            };
            let Socket { protocol, local, peer, .. } = socket.clone();
            self.ledger.seed_connection(Seed { pid, fd, inode, protocol, local, peer });
        }
    }

    /// Compares open connections with the descriptors that were `listed` at that time.
    pub(super) fn look_for_connections(&mut self, listed: &BTreeMap<Pid, Listed>, at_ns: u64) {
        let links = listed.values().flat_map(|open| open.values());
        let found: HashSet<u64> = links.filter_map(|link| sockets::inode(link)).collect();
        self.ledger.connections_looked(&found, |pid| listed.contains_key(&pid), at_ns);
        for (socket, number) in self.ledger.connections_ended_unseen() {
            self.tables.forget_connection(socket, number);
        }
    }

    /// A target has ended, and its connections, unless another target has them, too.
    pub(super) fn end_connections(&mut self, pid: Pid) {
        let Some(found) = &self.found else { return };
        let heirs: HashMap<u64, (Pid, u32)> = found
            .links
            .iter()
            .filter(|((owner, _), _)| *owner != pid && !self.ended.contains(owner))
            .filter_map(|(key, (_, link))| Some((sockets::inode(link)?, *key)))
            .collect();
        self.ledger.connections_exited(pid, now_ns(), |inode| heirs.get(&inode).copied());
    }

    /// From now on tells what becomes of connections, where descriptors are traced.
    pub fn log_connections(&mut self, tell: impl FnMut(Occurrence) + Send + 'static) {
        if let Some(found) = &mut self.found {
            found.log = Some(Box::new(tell));
            self.ledger.log_connections();
        }
    }

    /// Tells what has become of connections by now.
    pub(super) fn tell_of_connections(&mut self) {
        if let Some(tell) = self.found.as_mut().and_then(|found| found.log.as_mut()) {
            self.ledger.occurrences().into_iter().for_each(tell);
        }
    }

    /// What is known of connections, where descriptors are traced.
    pub(super) fn connections(&mut self, at_ns: u64) -> Option<Figures> {
        let grace = self.manner.min_age.max(LEAST_GRACE);
        let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
        let mut figures = self.ledger.connections(at_ns, grace_ns);
        self.tell_of_connections();
        let found = self.found.as_ref()?;
        for told in &mut figures.table {
            let key = (told.connection.pid, told.connection.fd);
            let link = found.links.get(&key).and_then(|(_, link)| sockets::inode(link));
            if link != Some(told.connection.inode) {
                continue;
            }
            let Some(known) = found.sockets.get(&key) else { continue };
            told.state = known.socket.state.map(|state| (state, known.since_ns));
            let first = u64::from(told.connection.role == Role::Connected);
            let bytes = |traffic: Traffic| (traffic.received, traffic.sent.saturating_sub(first));
            told.bytes = known.socket.traffic.map(bytes);
        }
        Some(figures)
    }
}
