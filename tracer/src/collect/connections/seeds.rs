//! Connections that nobody saw begin, or end: what looks at `/proc` tell of them. Pure.

use std::collections::HashSet;

use tracer_common::connection::Role;

use super::{Address, Closed, Connection, Connections, End, FIRST_SEED, Peer};
use crate::target::Pid;

/// Looks in a row without its socket after which a connection is over.
const LOOKS: u32 = 3;

/// A connected socket that was found in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Whose.
    pub pid: Pid,
    /// Its descriptor.
    pub fd: u32,
    /// Inode number of the socket.
    pub inode: u64,
    /// `tcp`, `unix` …
    pub protocol: &'static str,
    /// Address on this side, as it is written.
    pub local: Option<String>,
    /// Address on the other side.
    pub peer: Option<String>,
}

impl Connections {
    /// A connection was open before the attach. Several descriptors may lead to one.
    pub(in crate::collect) fn seed(&mut self, seed: Seed) {
        let inode = seed.inode;
        if self.seeds.contains_key(&inode) || self.open.values().any(|one| one.inode == inode) {
            return;
        }
        let Seed { pid, fd, inode, protocol, local, peer } = seed;
        let [local, peer] = [local, peer].map(|text| text.map(|text| Address::read(&text)));
        let way = if protocol == "unix" { local.as_ref() } else { None };
        let client = self.clients.entry(Peer::of(peer.as_ref(), way));
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

    /// A target has ended: so have its connections, unless another process has the socket too, which is theirs
    /// then: `heir` tells who, by inode.
    pub(in crate::collect) fn exited(
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

    /// What a look at targets' descriptors found: the sockets among them, by inode, of all that could be `looked`
    /// at. A connection that several looks in a row do not find is over since the first of them.
    pub(in crate::collect) fn looked(
        &mut self,
        sockets: &HashSet<u64>,
        looked: impl Fn(Pid) -> bool,
        at_ns: u64,
    ) {
        let mut ended = Vec::new();
        for one in self.open.values_mut().chain(self.seeds.values_mut()) {
            // Inodes that are not known cannot be missed, nor what was opened after the look.
            let skipped = one.inode == 0 || one.opened_ns.is_some_and(|opened| opened >= at_ns);
            if skipped || !looked(one.pid) {
                continue;
            }
            if sockets.contains(&one.inode) {
                one.missed = (0, 0);
                continue;
            }
            let (looks, first_ns) = one.missed;
            one.missed = (looks + 1, if looks == 0 { at_ns } else { first_ns });
            if one.missed.0 >= LOOKS {
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
