//! Totals by peer: a bounded number of addresses, and one entry for all others. Pure.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use foldhash::fast::FixedState;

use super::address::Address;
use crate::ledger::sum::Sum;

/// Maximum number of addresses with an entry of their own, so that a scan from many does not exhaust memory.
const MOST: usize = 10_000;

/// The other end of a connection, without its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A host.
    Host(IpAddr),
    /// Any user of this name of a unix socket: such peers have no addresses of their own.
    Name(Arc<str>),
    /// Unknown.
    Unknown,
    /// All peers without an entry of their own.
    Others,
}

impl Peer {
    /// The peer with an address; otherwise, the one that uses the name `via`.
    pub(super) fn of(peer: Option<&Address>, via: Option<&Address>) -> Self {
        match (peer, via) {
            (Some(Address::Internet(address)), _) => Self::Host(address.ip()),
            (Some(Address::Unix(name)), _) | (None, Some(Address::Unix(name))) => {
                Self::Name(Arc::clone(name))
            }
            (None, _) => Self::Unknown,
        }
    }
}

/// Totals of the connections with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The peer.
    pub peer: Peer,
    /// Connections opened since the attach.
    pub opened: u64,
    /// Open connections.
    pub open: u64,
    /// Connections closed since the attach.
    pub closed: u64,
    /// Bytes received by closed connections; `None` when unknown for all of them.
    pub bytes_in: Option<u64>,
    /// Bytes sent by closed connections.
    pub bytes_out: Option<u64>,
    /// Resources that closed connections left behind.
    pub orphans: Sum,
    /// Closed connections that left something behind.
    pub with_orphans: u64,
}

impl Client {
    const fn new(peer: Peer) -> Self {
        Self {
            peer,
            opened: 0,
            open: 0,
            closed: 0,
            bytes_in: None,
            bytes_out: None,
            orphans: Sum { count: 0, bytes: 0 },
            with_orphans: 0,
        }
    }
}

/// Every peer.
#[derive(Debug)]
pub(super) struct Clients {
    /// The first entry is for all others.
    all: Vec<Client>,
    by_peer: HashMap<Peer, u32, FixedState>,
    most: usize,
}

impl Default for Clients {
    fn default() -> Self {
        Self::bounded(MOST)
    }
}

impl Clients {
    /// The entry of peers that have none of their own.
    pub(super) const OTHERS: u32 = 0;

    fn bounded(most: usize) -> Self {
        Self { all: vec![Client::new(Peer::Others)], by_peer: HashMap::default(), most }
    }

    /// The entry of a peer; adds one if there is space.
    pub(super) fn entry(&mut self, peer: Peer) -> u32 {
        if let Some(known) = self.by_peer.get(&peer) {
            return *known;
        }
        if self.by_peer.len() >= self.most {
            return Self::OTHERS;
        }
        let number = u32::try_from(self.all.len()).unwrap_or(Self::OTHERS);
        self.all.push(Client::new(peer.clone()));
        self.by_peer.insert(peer, number);
        number
    }

    /// The peer of an entry.
    pub(super) fn peer(&self, client: u32) -> Peer {
        self.all.get(client as usize).map_or(Peer::Others, |one| one.peer.clone())
    }

    /// Adds a connection; one from before the attach, unless `seen`.
    pub(super) fn begins(&mut self, client: u32, seen: bool) {
        self.change(client, |one| {
            one.open += 1;
            one.opened += u64::from(seen);
        });
    }

    /// Ends a connection that received and sent so many bytes.
    pub(super) fn ends(&mut self, client: u32, bytes_in: Option<u64>, bytes_out: Option<u64>) {
        self.change(client, |one| {
            one.open = one.open.saturating_sub(1);
            one.closed += 1;
            for (sum, more) in [(&mut one.bytes_in, bytes_in), (&mut one.bytes_out, bytes_out)] {
                *sum = match (*sum, more) {
                    (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
                    (known, None) | (None, known) => known,
                };
            }
        });
    }

    /// Adds resources that a closed connection left behind; `first` if it had left nothing before.
    pub(super) fn add_orphans(&mut self, client: u32, more: Sum, first: bool) {
        self.change(client, |one| {
            one.orphans.merge(more);
            one.with_orphans += u64::from(first);
        });
    }

    /// Removes resources that were released after all; `last` if the connection has none left.
    pub(super) fn remove_orphans(&mut self, client: u32, less: Sum, last: bool) {
        self.change(client, |one| {
            one.orphans.count = one.orphans.count.saturating_sub(less.count);
            one.orphans.bytes = one.orphans.bytes.saturating_sub(less.bytes);
            one.with_orphans = one.with_orphans.saturating_sub(u64::from(last));
        });
    }

    /// Every peer that has had a connection, in the order of first connections; all others first.
    pub(super) fn list(&self) -> Vec<Client> {
        self.all.iter().filter(|one| one.open + one.opened + one.closed > 0).cloned().collect()
    }

    fn change(&mut self, client: u32, change: impl FnOnce(&mut Client)) {
        if let Some(one) = self.all.get_mut(client as usize) {
            change(one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_beyond_the_maximum_share_an_entry() {
        let mut clients = Clients::bounded(2);
        for host in [1, 2, 3, 4, 1] {
            let client = clients.entry(Peer::Host(IpAddr::from([10, 0, 0, host])));
            clients.begins(client, true);
        }
        let seen: Vec<_> = clients.list().into_iter().map(|one| (one.peer, one.opened)).collect();
        let host = |last| Peer::Host(IpAddr::from([10, 0, 0, last]));
        assert_eq!(seen, [(Peer::Others, 2), (host(1), 2), (host(2), 1)]);
    }

    #[test]
    fn bytes_are_summed_where_they_are_known() {
        let mut clients = Clients::default();
        let client = clients.entry(Peer::Unknown);
        clients.ends(client, None, Some(5));
        clients.ends(client, None, None);
        clients.ends(client, None, Some(7));
        let one = clients.list().remove(0);
        assert_eq!((one.bytes_in, one.bytes_out), (None, Some(12)));
    }
}
