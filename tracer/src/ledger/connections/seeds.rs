//! Connections whose start or end no probe saw: what scans of `/proc` find. Pure.

use std::collections::HashSet;

use tracer_common::connection::Role;

use super::{Address, Closed, Connection, Connections, End, FIRST_SEED, Peer};
use crate::target::Pid;

/// Scans in a row without its socket after which a connection counts as ended.
const SCANS: u32 = 3;

/// A connected socket that was found in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Its process.
    pub pid: Pid,
    /// Its descriptor.
    pub fd: u32,
    /// Inode number of the socket.
    pub inode: u64,
    /// Whether this side connected: the target has no listening socket with its local port.
    pub connected: bool,
    /// `tcp`, `unix` …
    pub protocol: &'static str,
    /// Address on this side, in text form.
    pub local: Option<String>,
    /// Address on the other side.
    pub peer: Option<String>,
}

impl Connections {
    /// Adds a connection that was open before the attach. Several descriptors may refer to one.
    pub(crate) fn seed(&mut self, seed: Seed) {
        let inode = seed.inode;
        if self.seeds.contains_key(&inode) || self.open.values().any(|one| one.inode == inode) {
            return;
        }
        let Seed { pid, fd, inode, connected, protocol, local, peer } = seed;
        let [local, peer] = [local, peer].map(|text| text.map(|text| Address::parse(&text)));
        let via = if protocol == "unix" { local.as_ref() } else { None };
        let client = self.clients.entry(Peer::of(peer.as_ref(), via));
        self.clients.begins(client, false);
        let id = FIRST_SEED + self.seeded;
        self.seeded += 1;
        self.seeds.insert(
            inode,
            Connection {
                id,
                number: None,
                pid,
                fd,
                socket: 0,
                inode,
                role: Role::Before,
                connected,
                protocol,
                local,
                peer,
                peer_pid: None,
                opened_ns: None,
                site: 0,
                closed: None,
                client,
                missed: (0, 0),
            },
        );
    }

    /// Ends the connections of a target that has ended, unless another process has the socket open, which owns it
    /// then: `heir` returns that process and its descriptor, by inode.
    pub(crate) fn exited(
        &mut self,
        pid: Pid,
        at_ns: u64,
        heir: impl Fn(u64) -> Option<(Pid, u32)>,
    ) {
        let closed = Closed { at_ns, by: Some(End::Exit), ..Closed::default() };
        let mut ended = Vec::new();
        for one in self.open.values_mut().chain(self.seeds.values_mut()) {
            if one.pid == pid {
                match heir(one.inode) {
                    Some(heir) => (one.pid, one.fd) = heir,
                    None => ended.push((one.number, one.inode)),
                }
            }
        }
        self.finish_all(ended, closed);
    }

    /// Applies a scan of the targets' descriptors: `sockets` are those it found, by inode, and `scanned` says which
    /// targets it could read. A connection that several scans in a row do not find has ended at the first of them.
    pub(crate) fn scanned(
        &mut self,
        sockets: &HashSet<u64>,
        scanned: impl Fn(Pid) -> bool,
        at_ns: u64,
    ) {
        let mut ended = Vec::new();
        for one in self.open.values_mut().chain(self.seeds.values_mut()) {
            // Sockets with an unknown inode, or opened after the scan, cannot be missed.
            let skipped = one.inode == 0 || one.opened_ns.is_some_and(|opened| opened >= at_ns);
            if skipped || !scanned(one.pid) {
                continue;
            }
            if sockets.contains(&one.inode) {
                one.missed = (0, 0);
                continue;
            }
            let (scans, first_ns) = one.missed;
            one.missed = (scans + 1, if scans == 0 { at_ns } else { first_ns });
            if one.missed.0 >= SCANS {
                ended.push((one.number, one.inode, one.missed.1, one.socket));
            }
        }
        for (number, inode, at_ns, socket) in ended {
            if let Some(number) = number {
                self.unseen.push((socket, number));
            }
            self.finish_all(vec![(number, inode)], Closed { at_ns, ..Closed::default() });
        }
    }

    fn finish_all(&mut self, ended: Vec<(Option<u32>, u64)>, closed: Closed) {
        let mut ended: Vec<Connection> = ended
            .into_iter()
            .filter_map(|(number, inode)| match number {
                Some(number) => self.open.remove(&number),
                None => self.seeds.remove(&inode),
            })
            .collect();
        ended.sort_unstable_by_key(|one| one.id);
        ended.into_iter().for_each(|one| self.finish(one, closed));
    }
}
