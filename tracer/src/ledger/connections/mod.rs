//! The table of connections: the peer of each, how it ended, and what it left behind.
//!
//! A part of the ledger, which passes it every resource that is added or removed. Resources that die young never
//! reach the ledger, nor this table. Events of resources and of connections arrive in any order: the resources of a
//! connection number are kept before the connection itself is known, and after it has closed. Pure.

mod address;
mod clients;
mod ends;
mod figures;
mod holdings;
mod seeds;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque},
};

use foldhash::fast::FixedState;
use tracer_common::{
    connection::Role,
    record::{Connected, Disconnected},
};

pub use self::{
    address::Address,
    clients::{Client, Peer},
    ends::End,
    figures::{Figures, Shown},
    holdings::LeftBehind,
    seeds::Seed,
};
use self::{address::Ends, clients::Clients, holdings::Holdings};
use super::{events::Block, sum::Sum};
use crate::target::Pid;

/// Maximum number of closed connections that are kept in full.
const RECENT: usize = 200;
/// A resource acquired for a connection reaches the ledger at most this long after the connection's end: some
/// drains, and the longest walk between two.
const IN_FLIGHT_NS: u64 = 3_000_000_000;
/// Connection numbers have 32 bits; connections without one get ids from here on.
const FIRST_SEED: u64 = 1 << 32;

/// One connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// Its id, the same throughout a run.
    pub id: u64,
    /// Its number in the BPF maps; `None` while only `/proc` has shown it.
    pub number: Option<u32>,
    /// The process whose table of file descriptors has it.
    pub pid: Pid,
    /// Its descriptor.
    pub fd: u32,
    /// Kernel address of its socket; 0 when unknown.
    pub socket: u64,
    /// Inode number of the socket.
    pub inode: u64,
    /// Which side opened it.
    pub role: Role,
    /// Whether that was this side; before the attach, what its sockets say.
    connected: bool,
    /// `tcp`, `unix` …
    pub protocol: &'static str,
    /// Address on this side.
    pub local: Option<Address>,
    /// Address on the other side.
    pub peer: Option<Address>,
    /// Process on the other side, in the kernel's initial PID namespace; `None` when unknown.
    pub peer_pid: Option<u32>,
    /// When it was opened, `CLOCK_MONOTONIC`, nanoseconds; `None` when that was before the attach.
    pub opened_ns: Option<u64>,
    /// Number of the call site that opened it; 0 when unknown.
    pub site: u32,
    /// How it ended.
    pub closed: Option<Closed>,
    /// Index of its peer's entry.
    client: u32,
    /// Scans in a row that did not find its socket, and when the first of them was.
    missed: (u32, u64),
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// Who ended it, if known.
    pub by: Option<End>,
    /// Bytes received, if known.
    pub bytes_in: Option<u64>,
    /// Bytes sent that have arrived, if known.
    pub bytes_out: Option<u64>,
}

/// An entry of the log of connections.
#[derive(Clone, Debug, PartialEq)]
pub enum Occurrence {
    /// A connection was opened.
    Opened(Box<Connection>),
    /// A connection was closed; the resources that it held then.
    Closed(Box<Connection>, Sum),
    /// What a connection left behind, which is certain some time after its end.
    Orphans {
        /// The connection's id.
        id: u64,
        /// Its peer.
        client: Peer,
        /// When it was closed, `CLOCK_MONOTONIC`, nanoseconds.
        closed_ns: u64,
        /// When that was found.
        at_ns: u64,
        /// Resources left behind.
        left: Sum,
    },
}

/// A connection that has ended, ordered by its end.
type Ended = Reverse<(u64, Option<u32>, Role)>;

/// Every connection.
#[derive(Debug, Default)]
pub struct Connections {
    /// By number.
    open: HashMap<u32, Connection, FixedState>,
    by_socket: HashMap<u64, u32, FixedState>,
    /// Found in `/proc` alone, by inode.
    seeds: HashMap<u64, Connection, FixedState>,
    /// Ids of the seeds that got a number later.
    seed_ids: HashMap<u32, u64, FixedState>,
    /// The last closed ones, the newest last.
    recent: VecDeque<Connection>,
    holdings: Holdings,
    clients: Clients,
    /// Ended, but too recently to have left anything behind.
    settling: BinaryHeap<Ended>,
    /// Ended long enough ago for their resources to count as left behind, but some events may still be in flight.
    leaving: BinaryHeap<Ended>,
    by_end: BTreeMap<Option<End>, u64>,
    opened: u64,
    closed: u64,
    begun: u64,
    seeded: u64,
    /// Sockets that the BPF programs are to forget.
    unseen: Vec<(u64, u32)>,
    /// Log entries, if there is a log.
    occurrences: Option<Vec<Occurrence>>,
}

impl Connections {
    /// Adds a resource; if not `whole`, only bytes to an existing one.
    pub(super) fn add(&mut self, block: &Block, whole: bool) {
        if block.connection != 0 {
            self.holdings.add(block, whole, &mut self.clients);
        }
    }

    /// Removes a resource; if not `whole`, only some of its bytes.
    pub(super) fn take(&mut self, block: &Block, whole: bool) {
        if block.connection != 0 {
            self.holdings.take(block, whole, &mut self.clients);
        }
    }

    /// The open connections whose sockets have one of these inodes.
    pub(crate) fn of_sockets(&self, inodes: &HashSet<u64>) -> impl Iterator<Item = &Connection> {
        let all = self.open.values().chain(self.seeds.values());
        all.filter(|one| inodes.contains(&one.inode))
    }

    /// Resources and bytes by connection and call site; for tests.
    #[cfg(test)]
    pub(super) fn items(&self) -> Vec<(u32, u32, u64, u64)> {
        self.holdings.items()
    }

    /// Adds a connection that was opened, or that a probe saw for the first time.
    pub(super) fn connected(&mut self, record: &Connected) {
        self.begun += 1;
        let number = record.number;
        if let Some(known) = self.open.get(&number) {
            if known.socket == record.socket && known.inode == record.inode {
                return;
            }
            self.finish_unseen(number, record.time_ns);
        }
        // The kernel has reused the socket's memory for another one.
        if let Some(earlier) = self.by_socket.get(&record.socket).copied() {
            self.finish_unseen(earlier, record.time_ns);
        }
        let role = Role::from_number(record.role);
        let connection = match self.seeds.remove(&record.inode) {
            Some(seed) => {
                self.seed_ids.insert(number, seed.id);
                let fd = if seed.pid == Pid(record.pid) { record.fd } else { seed.fd };
                Connection { number: Some(number), socket: record.socket, fd, ..seed }
            }
            None => self.begin(record, role),
        };
        self.holdings.begin(number, connection.role, connection.client);
        self.by_socket.insert(record.socket, number);
        if let Some(all) = &mut self.occurrences
            && role != Role::Before
        {
            all.push(Occurrence::Opened(Box::new(connection.clone())));
        }
        self.open.insert(number, connection);
    }

    fn begin(&mut self, record: &Connected, role: Role) -> Connection {
        let Ends { local, peer, via } = address::ends(record);
        let client = self.clients.entry(Peer::of(peer.as_ref(), via.as_ref()));
        let seen = role != Role::Before;
        self.clients.begins(client, seen);
        self.opened += u64::from(seen);
        Connection {
            id: u64::from(record.number),
            number: Some(record.number),
            pid: Pid(record.pid),
            fd: record.fd,
            socket: record.socket,
            inode: record.inode,
            role,
            connected: role == Role::Connected,
            protocol: address::protocol(record),
            local,
            peer,
            peer_pid: (record.peer_pid != 0).then_some(record.peer_pid),
            opened_ns: seen.then_some(record.time_ns),
            site: record.site,
            closed: None,
            client,
            missed: (0, 0),
        }
    }

    /// Ends a connection.
    pub(super) fn disconnected(&mut self, record: &Disconnected) {
        if let Some(connection) = self.open.remove(&record.number) {
            let (bytes_in, bytes_out) = ends::bytes(record, connection.connected);
            let closed =
                Closed { at_ns: record.time_ns, by: ends::by(record), bytes_in, bytes_out };
            self.finish(connection, closed);
        }
    }

    /// Ends a connection whose end no probe saw.
    fn finish_unseen(&mut self, number: u32, at_ns: u64) {
        if let Some(connection) = self.open.remove(&number) {
            self.finish(connection, Closed { at_ns, ..Closed::default() });
        }
    }

    /// Records the end of a connection that has been removed from the open ones.
    fn finish(&mut self, connection: Connection, closed: Closed) {
        let Connection { number, role, client, socket, .. } = connection;
        if self.by_socket.get(&socket).copied() == number {
            self.by_socket.remove(&socket);
        }
        self.closed += 1;
        *self.by_end.entry(closed.by).or_default() += 1;
        self.clients.ends(client, closed.bytes_in, closed.bytes_out);
        let connection = Connection { closed: Some(closed), ..connection };
        if let Some(number) = number {
            self.holdings.end(number);
        }
        if let Some(all) = &mut self.occurrences {
            let (held, _) = number.map(|number| self.holdings.of(number)).unwrap_or_default();
            all.push(Occurrence::Closed(Box::new(connection.clone()), held));
        }
        self.settling.push(Reverse((closed.at_ns, number, role)));
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(connection);
    }

    /// Counts the resources of connections that ended at least `grace_ns` ago as left behind.
    pub(crate) fn settle_until(&mut self, now_ns: u64, grace_ns: u64) {
        let due = |queue: &BinaryHeap<Ended>, after_ns: u64| {
            queue.peek().is_some_and(|Reverse((at, ..))| now_ns.saturating_sub(*at) >= after_ns)
        };
        while due(&self.settling, grace_ns) {
            let Some(Reverse((closed_ns, number, role))) = self.settling.pop() else { break };
            let left = self.holdings.pass(number, role, &mut self.clients);
            let Some(number) = number else { continue };
            self.leaving.push(Reverse((closed_ns, Some(number), role)));
            if left.count > 0
                && let Some(all) = &mut self.occurrences
            {
                let id = self.seed_ids.get(&number).copied().unwrap_or(number.into());
                let client = self.clients.peer(self.holdings.client(number));
                all.push(Occurrence::Orphans { id, client, closed_ns, at_ns: now_ns, left });
            }
        }
        while due(&self.leaving, grace_ns.max(IN_FLIGHT_NS)) {
            let Some(Reverse((_, Some(number), _))) = self.leaving.pop() else { continue };
            self.holdings.settle(number);
        }
    }

    /// The figures, after settling the connections that ended at least `grace_ns` before `now_ns`.
    pub(crate) fn figures(&mut self, now_ns: u64, grace_ns: u64) -> Figures {
        self.settle_until(now_ns, grace_ns);
        figures::figures(self)
    }

    /// The resources that closed connections left behind at a call site.
    pub(crate) fn left_behind(&self, site: u32) -> LeftBehind {
        self.holdings.left(site)
    }

    /// Forgets call sites whose numbers may be used for others.
    pub(super) fn forget_sites(&mut self, gone: &HashSet<u32, FixedState>) {
        self.holdings.forget_sites(gone);
        let open = self.open.values_mut().chain(self.seeds.values_mut());
        for connection in open.chain(&mut self.recent) {
            if gone.contains(&connection.site) {
                connection.site = 0;
            }
        }
    }

    /// How many connection numbers have been used so far, so that as many can be added to the pool.
    pub(crate) const fn begun(&self) -> u64 {
        self.begun
    }

    /// Whether a number is in use: by an open connection, or by one that left resources behind.
    pub(crate) fn is_in_use(&self, number: u32) -> bool {
        self.holdings.contains(number)
    }

    /// Sockets and numbers of connections that ended without a probe seeing it, since the last call: the BPF maps are
    /// to forget them.
    pub(crate) fn take_ended_unseen(&mut self) -> Vec<(u64, u32)> {
        std::mem::take(&mut self.unseen)
    }

    /// Starts to keep entries for the log of connections.
    pub(crate) fn keep_log(&mut self) {
        self.occurrences.get_or_insert_default();
    }

    /// The log entries since the last call, in order.
    pub(crate) fn take_log(&mut self) -> Vec<Occurrence> {
        self.occurrences.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
