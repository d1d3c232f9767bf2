//! Connections by the sockets that the last scan of `/proc` found: their states and traffic, their log, and which of them
//! end with a target.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tracer_common::connection::Role;

use super::fds::FdReconciliation;
use crate::{
    ledger::{
        Ledger,
        connections::{Figures, Occurrence},
    },
    target::{
        Pid,
        sockets::{self, Traffic},
    },
};

/// Resources count as left behind when they are still outstanding so long after the connection's end: event loops
/// and thread pools release a connection's resources after the close.
const MIN_GRACE: Duration = Duration::from_secs(1);

impl FdReconciliation {
    /// Ends the connections of a target that has ended, unless another one of `others`, which run, has the socket open.
    pub(crate) fn end_connections(
        &self,
        ledger: &mut Ledger,
        pid: Pid,
        others: &HashSet<Pid>,
        now_ns: u64,
    ) {
        let heirs: HashMap<u64, (Pid, u32)> = self
            .links
            .iter()
            .filter(|((owner, _), _)| others.contains(owner))
            .filter_map(|(key, (_, link))| Some((sockets::inode(link)?, *key)))
            .collect();
        ledger.connections_mut().exited(pid, now_ns, |inode| heirs.get(&inode).copied());
    }

    /// Forgets what a process referred to that has ended.
    pub(crate) fn forget(&mut self, pid: Pid) {
        let fds: Vec<u32> =
            self.links.range((pid, 0)..=(pid, u32::MAX)).map(|((_, fd), _)| *fd).collect();
        for fd in fds {
            self.links.remove(&(pid, fd));
            self.sockets.remove(&(pid, fd));
        }
    }

    /// Starts the log of connections.
    pub(crate) fn log_connections(
        &mut self,
        ledger: &mut Ledger,
        log: impl FnMut(Occurrence) + Send + 'static,
    ) {
        self.log = Some(Box::new(log));
        ledger.connections_mut().keep_log();
    }

    /// Writes what happened to connections since the last call to the log.
    pub(crate) fn log_occurrences(&mut self, ledger: &mut Ledger) {
        if let Some(log) = &mut self.log {
            ledger.connections_mut().take_log().into_iter().for_each(log);
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
    let mut figures = ledger.connections_mut().figures(at_ns, grace_ns);
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
