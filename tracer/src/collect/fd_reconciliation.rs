//! What `/proc` says of targets' file descriptors: which were open before the attach, what each leads to, and
//! whether the ledger is right.
//!
//! A part of the collector. A descriptor that the ledger has and `/proc` does not was closed in a way that is
//! not seen; one that `/proc` has and the ledger does not was opened so. Neither is believed at the first
//! look: what happened a moment ago may still be on its way.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use tracer_common::descriptor::FdOrigin;

use super::{
    collector::{Collector, now_ns},
    connections::Occurrence,
    descriptors::OpenDescriptor,
};
use crate::target::{
    Pid,
    descriptors::{self, Listed},
    sockets::{self, Socket},
};

/// Looks take at most this part of the time.
const LOOK_SHARE: u32 = 20;
/// Looks in a row that must find a descriptor which nobody has seen opened.
const LOOKS: u32 = 3;

/// A socket, and since when it is in its state.
#[derive(Clone, Debug)]
pub struct SocketState {
    /// What the kernel says of it.
    pub socket: Socket,
    /// `CLOCK_MONOTONIC` of the look that found it so, nanoseconds; `None` when it always was.
    pub since_ns: Option<u64>,
}

/// A descriptor that is open, and what is known of it.
#[derive(Clone, Debug)]
pub struct Described {
    /// Which.
    pub open: OpenDescriptor,
    /// What it leads to, where `/proc` has told.
    pub link: Option<Arc<str>>,
    /// For a socket, what the kernel says of it.
    pub socket: Option<SocketState>,
}

/// What `/proc` said so far.
#[derive(Default)]
pub(super) struct Found {
    /// Before recording began.
    first: BTreeMap<Pid, Listed>,
    /// Open, and not known to the ledger: how often in a row, and what it led to.
    strangers: HashMap<(Pid, u32), (u32, String)>,
    /// Known to the ledger, and not open: its place in the order of things.
    missing: HashMap<(Pid, u32), u64>,
    /// What the open ones lead to, with their places in the order of things.
    pub(super) links: HashMap<(Pid, u32), (u64, Arc<str>)>,
    /// What the kernel says of the sockets among them.
    pub(super) sockets: HashMap<(Pid, u32), SocketState>,
    /// Opened and closed in ways that were not seen.
    pub(super) unseen: (u64, u64),
    /// Targets that have become another program in the last cycle, with the places of that in the order of things.
    at_exec: Vec<(Pid, u64)>,
    next_look: Option<Instant>,
    /// Is told what becomes of connections, where there is a log.
    pub(super) log: Option<Box<dyn FnMut(Occurrence) + Send>>,
}

impl Found {
    /// Lists what is open before recording begins.
    pub(super) fn begin(&mut self, pids: impl Iterator<Item = Pid>) {
        self.first = pids.filter_map(|pid| Some((pid, descriptors::list(pid)?))).collect();
    }
}

impl Collector {
    /// What was open before recording began and still is was open before the attach.
    pub(super) fn take_in_first(&mut self) {
        let Some(found) = &mut self.found else { return };
        let first = std::mem::take(&mut found.first);
        for (pid, before) in first {
            let Some(now) = descriptors::list(pid) else { continue };
            for (fd, link) in &before {
                if now.get(fd) == Some(link) && self.ledger.open_descriptor(pid, *fd).is_none() {
                    let sort = descriptors::sort(pid, *fd, link);
                    self.ledger.found_open(pid, *fd, sort, FdOrigin::Before, now_ns());
                }
            }
            self.seed_connections(pid, &before, &now);
        }
    }

    /// Another program runs in a target: what was closed by that is closed at once.
    pub(super) fn close_at_exec(&mut self, pid: Pid, position: u64) {
        let Some(found) = &mut self.found else { return };
        found.at_exec.push((pid, position));
        self.settle_exec(pid, position);
    }

    /// The same for what was opened shortly before, after this cycle's drain: the next one has brought it.
    pub(super) fn close_late_at_exec(&mut self) {
        let Some(found) = &mut self.found else { return };
        for (pid, position) in std::mem::take(&mut found.at_exec) {
            self.settle_exec(pid, position);
        }
    }

    fn settle_exec(&mut self, pid: Pid, position: u64) {
        let Some(open) = descriptors::list(pid) else { return };
        let is_open = |fd: u64| u32::try_from(fd).is_ok_and(|fd| open.contains_key(&fd));
        self.ledger.settle_descriptors(pid, |fd, block| block.position <= position && !is_open(fd));
    }

    /// Compares the ledger with `/proc`, unless that was done a short while ago; `now` says that it must be done all
    /// the same. Everything read so far has reached the ledger.
    pub(super) fn look_at_descriptors(&mut self, now: bool) -> std::io::Result<()> {
        let begun = Instant::now();
        let Some(found) = &mut self.found else { return Ok(()) };
        if !now && found.next_look.is_some_and(|next| begun < next) {
            return Ok(());
        }
        let running =
            self.targets.iter().map(|one| one.pid).filter(|one| !self.ended.contains(one));
        let at_ns = now_ns();
        let listed: BTreeMap<Pid, Listed> =
            running.filter_map(|pid| Some((pid, descriptors::list(pid)?))).collect();
        let known = self.ledger.open_descriptors();
        // What was opened until the listing is known after one more cycle.
        self.cycle()?;
        let Some(found) = &mut self.found else { return Ok(()) };
        self.ledger.forgive_descriptors();
        let (mut missing, mut gone) = (HashMap::new(), HashMap::<Pid, HashMap<u64, u64>>::new());
        for one in &known {
            let key = (one.pid, one.fd);
            let Some(open) = listed.get(&one.pid) else { continue };
            let link = open.get(&one.fd);
            if self.ledger.open_descriptor(one.pid, one.fd) != Some(one.position) {
                continue;
            }
            match link {
                Some(link) => {
                    let fresh = || (one.position, Arc::from(link.as_str()));
                    let kept = found.links.entry(key).or_insert_with(fresh);
                    if kept.0 != one.position {
                        *kept = fresh();
                        found.sockets.remove(&key);
                    }
                }
                None if found.missing.get(&key) == Some(&one.position) => {
                    gone.entry(one.pid).or_default().insert(one.fd.into(), one.position);
                }
                None => drop(missing.insert(key, one.position)),
            }
        }
        found.missing = missing;
        for (pid, gone) in gone {
            found.unseen.1 += self
                .ledger
                .settle_descriptors(pid, |fd, block| gone.get(&fd) == Some(&block.position));
        }
        let mut strangers = HashMap::new();
        for (pid, open) in &listed {
            for (fd, link) in open {
                if self.ledger.open_descriptor(*pid, *fd).is_some() {
                    continue;
                }
                let before = found.strangers.get(&(*pid, *fd)).filter(|(_, same)| same == link);
                let looks = before.map_or(1, |(looks, _)| looks + 1);
                if looks < LOOKS {
                    strangers.insert((*pid, *fd), (looks, link.clone()));
                } else {
                    found.unseen.0 += 1;
                    let sort = descriptors::sort(*pid, *fd, link);
                    self.ledger.found_open(*pid, *fd, sort, FdOrigin::Unseen, now_ns());
                }
            }
        }
        found.strangers = strangers;
        found.links.retain(|(pid, fd), _| listed.get(pid).is_none_or(|open| open.contains_key(fd)));
        self.look_at_sockets();
        self.look_for_connections(&listed, at_ns);
        if let Some(found) = &mut self.found {
            found.next_look = Some(Instant::now() + begun.elapsed() * LOOK_SHARE);
        }
        Ok(())
    }

    /// Looks as often as it takes to believe what was found.
    pub(super) fn look_at_descriptors_at_last(&mut self) -> std::io::Result<()> {
        (0..LOOKS).try_for_each(|_| self.look_at_descriptors(true))
    }

    /// Asks for addresses and states of the sockets among what is open.
    fn look_at_sockets(&mut self) {
        let Some(found) = &mut self.found else { return };
        let mut namespaces = HashMap::new();
        let mut within: HashMap<_, HashMap<u64, Socket>> = HashMap::new();
        let mut sockets = HashMap::new();
        for (key, (_, link)) in &found.links {
            let Some(inode) = sockets::inode(link) else { continue };
            let namespace = namespaces.entry(key.0).or_insert_with(|| sockets::namespace(key.0));
            let known = within.entry(namespace.clone()).or_insert_with(|| sockets::list(key.0));
            // What has no address yet is in no list.
            let Some(socket) = known.get(&inode).cloned() else { continue };
            let since_ns = match found.sockets.get(key) {
                Some(before) if before.socket.state == socket.state => before.since_ns,
                Some(_) => Some(now_ns()),
                None => None,
            };
            sockets.insert(*key, SocketState { socket, since_ns });
        }
        found.sockets = sockets;
    }

    /// The descriptors that are open, with what each leads to where `/proc` has told.
    pub(super) fn descriptors(&self) -> Vec<Described> {
        let Some(found) = &self.found else { return Vec::new() };
        let described = |open: OpenDescriptor| {
            let key = (open.pid, open.fd);
            let known = found.links.get(&key).filter(|(position, _)| *position == open.position);
            let link = known.map(|(_, link)| Arc::clone(link));
            let socket = link.as_ref().and_then(|_| found.sockets.get(&key).cloned());
            Described { open, link, socket }
        };
        self.ledger.open_descriptors().into_iter().map(described).collect()
    }
}
