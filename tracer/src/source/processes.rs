//! Questions about processes: `/proc`, sockets, page tables, target memory.

use std::{collections::BTreeMap, io, sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};
use tracer_common::descriptor::FdType;

use super::{RecordSource, live::Live};
use crate::{
    kernel::CodeLoad,
    tape::{Question, Redact, Redactor, Timer, redact::plain},
    target::{
        Identity, Pid,
        code_history::Load,
        descriptors::{self, Listed},
        identify,
        limits::{Bounded, ProcessReading, Wanted},
        mappings::{self, Mapping, Mappings},
        memory::{self, Numbers},
        pages::{self, Frames, PageTable},
        rss_bytes, socket_list,
        sockets::{self, Socket},
        stacks::{self, StackBytes},
        usage::{self, ProcessUsage},
        watch::Watch,
        zombies::{self, Zombies},
    },
};

/// The type of a descriptor, by its number.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct FdTypeNumber(u8);

plain!(FdTypeNumber);

/// What descriptors refer to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Links(Listed);

impl Redact for Links {
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        Self(self.0.iter().map(|(fd, link)| (*fd, redactor.link(link))).collect())
    }
}

/// What each of a process's touched pages is part of: start and bytes. `None` if it has no anonymous memory.
pub(crate) type Pieces = Vec<Option<(u64, u64)>>;

impl RecordSource {
    /// Watches a process, so that its end is seen; `false` if it has ended already.
    pub fn watch(&mut self, pid: Pid) -> bool {
        self.ask(Question::Watched(pid.0), |live| {
            live.watches.remove(&pid);
            live.prompt.remove(&pid);
            live.maps_read.remove(&pid);
            let watch = Watch::new(pid);
            watch.is_ok_and(|watch| live.watches.insert(pid, watch).is_none())
        })
    }

    /// Whether a watched process has ended.
    pub fn ended(&mut self, pid: Pid) -> bool {
        self.ask(Question::Ended(pid.0), |live| {
            let ended = live.watches.get(&pid).is_some_and(Watch::ended);
            if ended {
                live.maps_read.remove(&pid);
            }
            ended
        })
    }

    /// The mappings of a process if its code is no longer that of `known`. `None` also for one that has just ended.
    pub fn changed_mappings(&mut self, pid: Pid, known: &Mappings) -> Option<Mappings> {
        let is_known = known.iter().next().is_some();
        self.ask(Question::Mappings(pid.0), |live| {
            if is_known && live.knows_maps(pid) {
                return None;
            }
            let begun = Instant::now();
            let read = mappings::read(pid).ok()?;
            read.iter().next()?;
            live.maps_read.insert(pid, begun);
            if read.same_code(known) {
                live.process_limits.keep(pid, read);
                return None;
            }
            Some(read)
        })
    }

    /// The code that targets have mapped since the last call, in the order of time.
    pub fn code_loads(&mut self) -> Vec<Load> {
        let Self { live, answers } = self;
        answers.ask_since(Question::CodeLoads, || {
            let Some(Live { code_loads: Some(loads), watches, maps_read, .. }) =
                live.as_deref_mut()
            else {
                return Vec::new();
            };
            let all = loads.take(|pid| watches.contains_key(&Pid(pid)));
            for load in &all {
                maps_read.remove(&Pid(load.pid));
            }
            all.into_iter().map(load).collect()
        })
    }

    /// Whether a target has mapped code since the last call of [`Self::code_loads`]; not for a tape.
    pub fn has_code_loads(&self) -> bool {
        self.live.as_ref().is_some_and(|live| {
            let of_target = |pid| live.watches.contains_key(&Pid(pid));
            live.code_loads.as_ref().is_some_and(|loads| loads.look(of_target))
        })
    }

    /// The identity of a process that has forked or called exec, if it still exists.
    pub fn identity(&mut self, pid: Pid) -> Option<Identity> {
        self.ask(Question::Identity(pid.0), |live| {
            live.maps_read.remove(&pid);
            identify(pid).ok()
        })
    }

    /// The open descriptors of a process; `None` if they cannot be listed.
    pub fn descriptors(&mut self, pid: Pid) -> Option<Listed> {
        let links = self.ask(Question::Descriptors(pid.0), |_| descriptors::list(pid).map(Links));
        links.map(|Links(listed)| listed)
    }

    /// The type of a descriptor: by its link, and for a path by the file's metadata.
    pub fn fd_type(&mut self, pid: Pid, fd: u32, link: &str) -> FdType {
        let FdTypeNumber(number) = self.ask(Question::FdType(pid.0, fd), |_| {
            FdTypeNumber(descriptors::fd_type(pid, fd, link) as u8)
        });
        FdType::from_number(number)
    }

    /// The network namespace of a process; `None` if the process has ended, or if we may not read it.
    pub fn namespace(&mut self, pid: Pid) -> Option<String> {
        self.ask(Question::Namespace(pid.0), |_| sockets::namespace(pid))
    }

    /// Those of these sockets, by inode, that the network namespace of a process has.
    pub fn sockets(&mut self, pid: Pid, inodes: &[u64]) -> BTreeMap<u64, Socket> {
        self.ask(Question::Sockets(pid.0), |_| {
            let mut all = socket_list::list(pid);
            inodes.iter().filter_map(|inode| Some((*inode, all.remove(inode)?))).collect()
        })
    }

    /// What each of a process's pages (ascending) is part of. The list is shorter if the process has ended.
    pub(crate) fn touched(&mut self, pid: Pid, pages: &[u64]) -> Pieces {
        self.ask(Question::Touched(pid.0), |live| {
            let frames = live.frames.get_or_insert_with(Frames::open);
            let mut pieces = Vec::new();
            look(pid, pages, |page, entry| {
                pieces.push(entry.is_anonymous().then(|| frames.piece(page, entry)));
            });
            pieces
        })
    }

    /// Whether each of a process's pages (ascending) still has anonymous memory. The list is shorter if the process has
    /// ended.
    pub fn resident(&mut self, pid: Pid, pages: &[u64]) -> Vec<bool> {
        self.ask(Question::Resident(pid.0), |_| {
            let mut resident = Vec::new();
            look(pid, pages, |_, entry| resident.push(entry.is_anonymous()));
            resident
        })
    }

    /// The stacks of a process that have these addresses (ascending) at their top.
    pub fn stacks(&mut self, pid: Pid, tops: &[u64]) -> Vec<StackBytes> {
        self.ask(Question::ThreadStacks(pid.0), |_| stacks::read(pid, tops))
    }

    /// Resident memory, bytes; `None` when the process has ended.
    pub fn rss_bytes(&mut self, pid: Pid) -> Option<u64> {
        self.ask(Question::ResidentBytes(pid.0), |_| rss_bytes(pid))
    }

    /// Memory and open descriptors of a process, as the kernel counts them; `None` if it has ended.
    pub fn usage(&mut self, pid: Pid) -> Option<ProcessUsage> {
        self.ask(Question::Usage(pid.0), |_| usage::read(pid))
    }

    /// Whether limits are to be read again; fresh ones are, in any case. Older tapes have none.
    pub fn limits_are_due(&mut self, fresh: bool) -> bool {
        let Self { live, answers } = self;
        answers.ask_since(Question::IsDue(Timer::Limits), || {
            live.as_deref_mut().is_some_and(|live| fresh || live.timers.is_due(Timer::Limits))
        })
    }

    /// Memory and limits of a process; `None` if it has ended.
    pub fn limits(&mut self, pid: Pid, wanted: Wanted) -> Option<ProcessReading> {
        self.ask(Question::Limits(pid.0), |live| live.process_limits.read(pid, wanted))
    }

    /// The children of a process that it has not waited for. Older tapes do not say.
    pub fn zombies(&mut self, pid: Pid) -> Zombies {
        self.answers.ask_since(Question::Zombies(pid.0), || zombies::read(pid))
    }

    /// The limits that these processes share with each other or with the rest of the system.
    pub fn shared_limits(&mut self, pids: &[Pid]) -> Vec<Bounded> {
        self.ask(Question::SharedLimits, |live| live.shared_limits.read(pids))
    }

    /// Whether the kernel shows which page frames there are.
    pub fn frames_are_shown(&mut self) -> bool {
        self.ask(Question::FramesShown, |_| pages::frames_are_shown())
    }

    /// The integers at these addresses of a process's memory, with their sizes in bytes; `None` where nothing is mapped.
    /// Fails if the process has ended, or if we may not read its memory.
    pub fn numbers(&mut self, pid: Pid, locations: &[(u64, u8)]) -> io::Result<Numbers> {
        let numbers: Option<Numbers> =
            self.ask(Question::Numbers(pid.0), |_| memory::numbers(pid, locations).ok());
        numbers.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn load(CodeLoad { pid, time_ns, start, bytes, file_offset, file, path }: CodeLoad) -> Load {
    let (major, minor, inode) = file;
    let file = (path, (major, minor), inode);
    let mapping = Mapping::of_code((start, bytes), file_offset, file);
    Load { pid: Pid(pid), time_ns, mapping: Arc::new(mapping) }
}

/// Passes the entries of pages to `visit`, in their order.
fn look(pid: Pid, pages: &[u64], mut visit: impl FnMut(u64, crate::target::pages::Entry)) {
    let Ok(table) = PageTable::open(pid) else { return };
    let result = table.look(pages, |index, entry| {
        if let Some(page) = pages.get(index) {
            visit(*page, entry);
        }
    });
    // Not a warning: the target has ended.
    if let Err(error) = result {
        log::info!("could not read the page table of process {pid}: {error}");
    }
}
