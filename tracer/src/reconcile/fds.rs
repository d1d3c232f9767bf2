//! Reconciles the ledger's file descriptors with `/proc`: adds those that were open before the attach, records
//! what each one refers to, and corrects missed opens and closes.
//!
//! A descriptor that the ledger has and `/proc` does not was closed without a probe
//! seeing it; one that `/proc` has and the ledger does not was opened so. Neither is believed at the first
//! scan: a recent event may still be in flight.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tracer_common::descriptor::FdOrigin;

use super::connections::{is_connected, reconcile_connections, seed_connections};
use crate::{
    ledger::{
        Ledger,
        connections::{Address, Connection, Occurrence},
        fds::OpenDescriptor,
    },
    source::RecordSource,
    tape::Timer,
    target::{
        Pid,
        descriptors::Listed,
        sockets::{self, OVER, Socket},
    },
};

/// Scans in a row that must find a descriptor whose opening no probe saw.
pub(crate) const SCANS: u32 = 3;

/// A socket, and since when it has been in its state.
#[derive(Clone, Debug)]
pub struct SocketState {
    /// Protocol, addresses and state, from the kernel.
    pub socket: Socket,
    /// `CLOCK_MONOTONIC` of the scan that first saw this state, nanoseconds; `None` if that was the first of all scans.
    pub since_ns: Option<u64>,
}

/// An open descriptor, with what `/proc` says about it.
#[derive(Clone, Debug)]
pub struct FdDetails {
    /// The ledger's entry.
    pub open: OpenDescriptor,
    /// What it refers to, once `/proc` has been read.
    pub link: Option<Arc<str>>,
    /// The state of the socket, if it is one.
    pub socket: Option<SocketState>,
}

/// State of the reconciliation: what earlier scans of `/proc` found.
#[derive(Default)]
pub(crate) struct FdReconciliation {
    /// Descriptors that were open before recording began.
    before_attach: BTreeMap<Pid, Listed>,
    /// Open, and not in the ledger: in how many scans in a row, and what it referred to.
    unrecorded: BTreeMap<(Pid, u32), (u32, String)>,
    /// In the ledger, and not open: its sequence position.
    missing: BTreeMap<(Pid, u32), u64>,
    /// What the open ones refer to, with their sequence positions.
    pub(super) links: BTreeMap<(Pid, u32), (u64, Arc<str>)>,
    /// States of the sockets among them.
    pub(super) sockets: BTreeMap<(Pid, u32), SocketState>,
    /// Whether their states have been read before.
    has_scanned: bool,
    /// Numbers of opens and of closes that no probe saw.
    pub(crate) unseen: (u64, u64),
    /// Targets that called exec in the last cycle, with the sequence positions of the calls.
    at_exec: Vec<(Pid, u64)>,
    /// Receives the log of connections, if there is one.
    pub(super) log: Option<Box<dyn FnMut(Occurrence) + Send>>,
}

/// A scan of `/proc`, and what the ledger had at the same moment.
pub(crate) struct Scan {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    at_ns: u64,
    listed: BTreeMap<Pid, Listed>,
    known: Vec<OpenDescriptor>,
}

impl FdReconciliation {
    /// Lists the open descriptors before recording begins.
    pub(crate) fn begin(&mut self, source: &mut RecordSource, pids: impl Iterator<Item = Pid>) {
        self.before_attach = pids.filter_map(|pid| Some((pid, source.descriptors(pid)?))).collect();
    }

    /// Adds the descriptors that were open before recording began and still are, as opened before the attach.
    pub(crate) fn add_preexisting(&mut self, source: &mut RecordSource, ledger: &mut Ledger) {
        let before_attach = std::mem::take(&mut self.before_attach);
        for (pid, before) in before_attach {
            let Some(now) = source.descriptors(pid) else { continue };
            for (fd, link) in &before {
                if now.get(fd) == Some(link) && ledger.open_descriptor(pid, *fd).is_none() {
                    let (fd_type, now_ns) = (source.fd_type(pid, *fd, link), source.now_ns());
                    ledger.found_open(pid, *fd, fd_type, FdOrigin::Before, now_ns);
                }
            }
            seed_connections(source, ledger, pid, &before, &now);
        }
    }

    /// A target has called exec: closes the descriptors that exec closed.
    pub(crate) fn close_at_exec(
        &mut self,
        source: &mut RecordSource,
        ledger: &mut Ledger,
        pid: Pid,
        position: u64,
    ) {
        self.at_exec.push((pid, position));
        settle_exec(source, ledger, pid, position);
    }

    /// The same for descriptors opened shortly before: they reach the ledger with the next cycle's drain.
    pub(crate) fn close_at_exec_after_drain(
        &mut self,
        source: &mut RecordSource,
        ledger: &mut Ledger,
    ) {
        for (pid, position) in std::mem::take(&mut self.at_exec) {
            settle_exec(source, ledger, pid, position);
        }
    }

    /// Lists the descriptors of `running` targets, unless the last scan was a short while ago; `now` forces a scan.
    /// Everything read so far has reached the ledger.
    pub(crate) fn scan(
        source: &mut RecordSource,
        ledger: &Ledger,
        running: impl Iterator<Item = Pid>,
        now: bool,
    ) -> Option<Scan> {
        if !now && !source.is_due(Timer::Descriptors) {
            return None;
        }
        source.begin_scan(Timer::Descriptors);
        let at_ns = source.now_ns();
        let listed: BTreeMap<Pid, Listed> =
            running.filter_map(|pid| Some((pid, source.descriptors(pid)?))).collect();
        let known = ledger.open_descriptors();
        Some(Scan { at_ns, listed, known })
    }

    /// Compares the ledger with a scan. Everything that was opened until the scan has reached the ledger.
    pub(crate) fn reconcile(
        &mut self,
        scan: &Scan,
        ledger: &mut Ledger,
        source: &mut RecordSource,
    ) {
        let Scan { at_ns, listed, known } = scan;
        ledger.forget_owed_descriptors();
        let (mut missing, mut gone) = (BTreeMap::new(), BTreeMap::<Pid, HashMap<u64, u64>>::new());
        for one in known {
            let key = (one.pid, one.fd);
            let Some(open) = listed.get(&one.pid) else { continue };
            let link = open.get(&one.fd);
            if ledger.open_descriptor(one.pid, one.fd) != Some(one.position) {
                continue;
            }
            match link {
                Some(link) => {
                    let fresh = || (one.position, Arc::from(link.as_str()));
                    let kept = self.links.entry(key).or_insert_with(fresh);
                    if kept.0 != one.position {
                        *kept = fresh();
                        self.sockets.remove(&key);
                    }
                }
                None if self.missing.get(&key) == Some(&one.position) => {
                    gone.entry(one.pid).or_default().insert(one.fd.into(), one.position);
                }
                None => drop(missing.insert(key, one.position)),
            }
        }
        self.missing = missing;
        for (pid, gone) in gone {
            self.unseen.1 +=
                ledger.settle_descriptors(pid, |fd, block| gone.get(&fd) == Some(&block.position));
        }
        let mut unrecorded = BTreeMap::new();
        for (pid, open) in listed {
            for (fd, link) in open {
                if ledger.open_descriptor(*pid, *fd).is_some() {
                    continue;
                }
                let before = self.unrecorded.get(&(*pid, *fd)).filter(|(_, same)| same == link);
                let scans = before.map_or(1, |(scans, _)| scans + 1);
                if scans < SCANS {
                    unrecorded.insert((*pid, *fd), (scans, link.clone()));
                } else {
                    self.unseen.0 += 1;
                    let (fd_type, now_ns) = (source.fd_type(*pid, *fd, link), source.now_ns());
                    ledger.found_open(*pid, *fd, fd_type, FdOrigin::Unseen, now_ns);
                }
            }
        }
        self.unrecorded = unrecorded;
        self.links.retain(|(pid, fd), _| listed.get(pid).is_none_or(|open| open.contains_key(fd)));
        self.read_sockets(source, ledger, *at_ns);
        reconcile_connections(ledger, source, listed, *at_ns);
        source.end_scan(Timer::Descriptors);
    }

    /// Reads addresses and states of the sockets among the open descriptors.
    fn read_sockets(&mut self, source: &mut RecordSource, ledger: &Ledger, at_ns: u64) {
        let mut namespaces = BTreeMap::new();
        let mut wanted: BTreeMap<Option<String>, (Pid, Vec<u64>)> = BTreeMap::new();
        for (key, (_, link)) in &self.links {
            let Some(inode) = sockets::inode(link) else { continue };
            let namespace = namespaces.entry(key.0).or_insert_with(|| source.namespace(key.0));
            wanted.entry(namespace.clone()).or_insert((key.0, Vec::new())).1.push(inode);
        }
        let within: BTreeMap<_, _> = wanted
            .into_iter()
            .map(|(namespace, (pid, inodes))| (namespace, source.sockets(pid, &inodes)))
            .collect();
        let (mut sockets, mut unlisted) = (BTreeMap::new(), Vec::new());
        for (key, (_, link)) in &self.links {
            let Some(inode) = sockets::inode(link) else { continue };
            let Some(known) = namespaces.get(&key.0).and_then(|one| within.get(one)) else {
                continue;
            };
            match known.get(&inode) {
                Some(socket) => drop(sockets.insert(*key, socket.clone())),
                None => unlisted.push((*key, inode)),
            }
        }
        sockets.extend(self.over(ledger, unlisted));
        let mut since = |key: &(Pid, u32), socket: &Socket| match self.sockets.get(key) {
            Some(before) if before.socket.state == socket.state => before.since_ns,
            // Asked for here and nowhere else: on a tape, each answer is for one question.
            Some(before) if socket.state != Some(OVER) && before.socket.state != Some(OVER) => {
                Some(source.now_ns())
            }
            Some(_) => Some(at_ns),
            // Opened since the scan before: it has not been in this state for longer.
            None => self.has_scanned.then_some(at_ns),
        };
        self.sockets = sockets
            .into_iter()
            .map(|(key, socket)| (key, SocketState { since_ns: since(&key, &socket), socket }))
            .collect();
        self.has_scanned = true;
    }

    /// Of open sockets that are in no list of the kernel, those that had a connection: it is over. The others have no
    /// address yet.
    fn over(&self, ledger: &Ledger, unlisted: Vec<((Pid, u32), u64)>) -> Vec<((Pid, u32), Socket)> {
        let inodes = unlisted.iter().map(|(_, inode)| *inode).collect();
        let connections: HashMap<u64, &Connection> =
            ledger.connections().of_sockets(&inodes).map(|one| (one.inode, one)).collect();
        let over = |key: &(Pid, u32), inode: u64| {
            let before = self.sockets.get(key).map(|before| &before.socket);
            if let Some(before) = before.filter(|before| is_connected(before)) {
                return Some(Socket { state: Some(OVER), ..before.clone() });
            }
            let one = connections.get(&inode).filter(|one| one.protocol == "tcp")?;
            let [local, peer] =
                [&one.local, &one.peer].map(|end| end.as_ref().map(Address::to_string));
            Some(Socket { protocol: "tcp", local, peer, state: Some(OVER), traffic: None })
        };
        unlisted.into_iter().filter_map(|(key, inode)| Some((key, over(&key, inode)?))).collect()
    }

    /// The open descriptors, with what `/proc` says about each.
    pub(crate) fn descriptors(&self, ledger: &Ledger) -> Vec<FdDetails> {
        let described = |open: OpenDescriptor| {
            let key = (open.pid, open.fd);
            let known = self.links.get(&key).filter(|(position, _)| *position == open.position);
            let link = known.map(|(_, link)| Arc::clone(link));
            let socket = link.as_ref().and_then(|_| self.sockets.get(&key).cloned());
            FdDetails { open, link, socket }
        };
        ledger.open_descriptors().into_iter().map(described).collect()
    }
}

fn settle_exec(source: &mut RecordSource, ledger: &mut Ledger, pid: Pid, position: u64) {
    let Some(open) = source.descriptors(pid) else { return };
    let is_open = |fd: u64| u32::try_from(fd).is_ok_and(|fd| open.contains_key(&fd));
    ledger.settle_descriptors(pid, |fd, block| block.position <= position && !is_open(fd));
}
