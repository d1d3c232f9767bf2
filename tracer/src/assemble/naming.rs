//! Names call sites within a report's time budget.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tracer_common::attach::ProbeNumber;

use super::{fds, names::Names};
use crate::{
    format::file_name,
    probes::Probe,
    report::{Arena, FdOrigin, Frame},
    snapshot::{SiteFigures, Snapshot},
    symbolize::{Wanted, call_site::headline, runtimes::arena},
    tape::Answers,
    target::{Pid, mappings::FileId},
};

/// Time for new names per report. Loading the symbols of a large object often takes longer, but each report is
/// delayed by at most this much.
const NAMING: Duration = Duration::from_millis(50);
/// Time for names in the last report.
const LAST_NAMING: Duration = Duration::from_secs(30);

/// What is shown of a stack.
#[derive(Clone, Default)]
pub(super) struct Shown {
    pub(super) frames: Arc<[Frame]>,
    /// Index of the headline frame.
    pub(super) asked: usize,
    /// The arena that is acquired there, unless it is an object of a library.
    pub(super) arena: Option<Arena>,
}

/// A stack.
struct Stack {
    /// With its names.
    named: Arc<[Frame]>,
    shown: Shown,
}

/// The names of frames, and every stack as shown.
pub(super) struct Naming {
    pub(super) names: Names,
    stacks: HashMap<u32, Stack>,
}

impl Naming {
    /// No names yet, or those of a tape.
    pub(super) fn new(answers: &Answers) -> Self {
        Self { names: Names::new(answers), stacks: HashMap::new() }
    }

    /// Learns the targets' mappings. Before an exec replaces a program, its pending call sites are named: it is the
    /// last chance.
    pub(super) fn learn_mappings(
        &mut self,
        answers: &mut Answers,
        snapshot: &Snapshot,
        probes: &[Probe],
    ) {
        let mut executed: Vec<Pid> = snapshot
            .process_events
            .iter()
            .filter(|event| event.executed)
            .map(|event| event.pid)
            .collect();
        for (at, (pid, mappings)) in snapshot.mappings.iter().enumerate() {
            let rest = snapshot.mappings.get(at + 1..).unwrap_or_default();
            if executed.contains(pid) && !rest.iter().any(|(other, _)| other == pid) {
                self.name_before_exec(answers, snapshot, *pid, probes);
                executed.retain(|one| one != pid);
            }
            self.names.learn(answers, *pid, mappings);
        }
        for pid in executed {
            self.name_before_exec(answers, snapshot, pid, probes);
        }
    }

    /// Looks up names of the program that ran in a process before its exec.
    fn name_before_exec(
        &mut self,
        answers: &mut Answers,
        snapshot: &Snapshot,
        executed: Pid,
        probes: &[Probe],
    ) {
        // A newly forked child has its parent's memory.
        let birth =
            snapshot.process_events.iter().find(|one| one.pid == executed && one.parent.is_some());
        let pid = birth.and_then(|birth| birth.parent).unwrap_or(executed);
        let former = snapshot
            .sites
            .iter()
            .filter(|site| site.former && site.pid == Some(executed) && self.named(site).is_none());
        let queue: VecDeque<Wanted> = former.map(|site| wanted(site, pid, probes)).collect();
        self.names.work(answers, queue, LAST_NAMING);
    }

    /// The named frames of a call site, or of the parent's call site that it is a copy of.
    fn named(&self, site: &SiteFigures) -> Option<Arc<[Frame]>> {
        let own = self.names.lookup(site.number);
        own.or_else(|| site.origin.and_then(|origin| self.names.lookup(origin)))
    }

    /// Looks up names, worst call sites first. The last report shows no more than `top` of them.
    pub(super) fn look_up(
        &mut self,
        answers: &mut Answers,
        (order, probes): (&[&SiteFigures], &[Probe]),
        top: usize,
        last: bool,
    ) {
        self.names.refresh(answers);
        let shown = if last { top } else { usize::MAX };
        let queue: VecDeque<Wanted> = order
            .iter()
            .take(shown)
            .filter(|site| !site.former && self.named(site).is_none())
            .filter_map(|site| Some(wanted(site, site.pid?, probes)))
            .collect();
        self.names.work(answers, queue, if last { LAST_NAMING } else { NAMING });
    }

    /// A call site's stack: cached, first without names, then with them.
    pub(super) fn shown(
        &mut self,
        answers: &mut Answers,
        site: &SiteFigures,
        probe: Option<&Probe>,
    ) -> Shown {
        let Some(pid) = site.pid else { return Shown::default() };
        let named = self.named(site);
        if let Some(stack) = self.stacks.get(&site.number)
            && named.as_ref().is_none_or(|frames| Arc::ptr_eq(&stack.named, frames))
        {
            return stack.shown.clone();
        }
        let named =
            named.unwrap_or_else(|| self.names.unnamed(answers, site.number, pid, &site.frames));
        let frames = match fds::opener(site).and_then(FdOrigin::name) {
            None => without_own_forwarders(&named, probe),
            Some(call) => fds::without_syscall_wrappers(&named, call),
        };
        let arena = probe.and_then(|probe| arena(probe.function.kind, &frames));
        let shown = Shown { asked: headline(&frames), frames, arena };
        self.stacks.insert(site.number, Stack { named, shown: shown.clone() });
        shown
    }
}

/// The probe with a number.
pub(super) fn probe_of(probes: &[Probe], number: Option<ProbeNumber>) -> Option<&Probe> {
    // Those without a place share a number.
    probes.iter().find(|probe| Some(probe.number) == number && probe.place.is_ok())
}

/// A call site to name.
fn wanted(site: &SiteFigures, pid: Pid, probes: &[Probe]) -> Wanted {
    let probed = probe_of(probes, site.probe).and_then(place);
    Wanted { site: site.number, pid, addresses: Arc::clone(&site.frames), probed }
}

/// The file of a probed function, and the offset of the probe.
fn place(probe: &Probe) -> Option<(FileId, u64)> {
    let (file, _) = probe.object.as_ref()?;
    Some((*file, probe.place.as_ref().ok()?.offset))
}

/// A stack without the entry points of a library that only jump to its probed constructor (`BIO_new` to `BIO_new_ex`):
/// their caller is the one that asked.
fn without_own_forwarders(frames: &Arc<[Frame]>, probe: Option<&Probe>) -> Arc<[Frame]> {
    let of_object = probe.filter(|probe| probe.function.object.is_some());
    let library = of_object.and_then(|probe| probe.object.as_ref()?.1.to_str());
    let Some(library) = library.filter(|path| file_name(path).contains(".so")) else {
        return Arc::clone(frames);
    };
    let forwards = |frame: &&Frame| frame.tail_call && frame.module.as_deref() == Some(library);
    match frames.iter().take_while(forwards).count() {
        0 => Arc::clone(frames),
        count => Arc::from(frames.get(count..).unwrap_or_default()),
    }
}
