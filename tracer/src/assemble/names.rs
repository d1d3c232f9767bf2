//! Names of frames, live or from a tape.
//!
//! Takes mappings and call sites, passes on frames. Which frames have names at a moment depends on files, and on how much a
//! report's time budget allows: on a tape, each step of naming has the call sites that it has named.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    report::{Frame, Module},
    symbolize::{Namer, Wanted, called_from, with_unloaded},
    tape::{Answers, Naming, Question, Redact, Redactor, redact},
    target::{
        Pid,
        mappings::{FileId, Mapping, Mappings},
    },
};

/// Names call sites.
#[derive(Debug)]
pub(super) struct Names {
    /// `None` for a tape.
    namer: Option<Namer>,
    /// The named call sites.
    sites: HashMap<u32, Arc<[Frame]>>,
    /// Each target's mappings, with unloaded code.
    mappings: HashMap<Pid, Mappings>,
}

/// What a step of naming has changed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Changes {
    named: Vec<(u32, Arc<[Frame]>)>,
    /// Will be named again.
    forgotten: Vec<u32>,
}

/// The frames of call sites, with functions but without folders.
fn redacted(frames: &Arc<[Frame]>) -> Arc<[Frame]> {
    let path = |path: &Arc<str>| Arc::from(redact::path(path));
    let one = |frame: &Frame| Frame {
        symbol: frame.symbol.as_deref().map(|name| redact::sentence(name).into()),
        module: frame.module.as_ref().map(path),
        file: frame.file.as_ref().map(path),
        why_unnamed: frame.why_unnamed.as_deref().map(|why| redact::sentence(why).into()),
        ..frame.clone()
    };
    frames.iter().map(one).collect()
}

/// A call site's frames.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Frames(Arc<[Frame]>);

impl Redact for Frames {
    fn redacted(&self, _: &mut Redactor) -> Self {
        Self(redacted(&self.0))
    }
}

impl Redact for Changes {
    fn redacted(&self, _: &mut Redactor) -> Self {
        let named = self.named.iter().map(|(site, frames)| (*site, redacted(frames))).collect();
        Self { named, forgotten: self.forgotten.clone() }
    }
}

/// Objects of the call sites' stacks.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Modules(Vec<Module>);

impl Redact for Modules {
    fn redacted(&self, _: &mut Redactor) -> Self {
        let one = |module: &Module| Module {
            path: module.path.as_deref().map(redact::path),
            why: module.why.as_deref().map(redact::sentence),
            help: module.help.as_deref().map(redact::sentence),
            ..module.clone()
        };
        Self(self.0.iter().map(one).collect())
    }
}

impl Names {
    /// No names yet.
    pub(super) fn new(answers: &Answers) -> Self {
        let namer = (!answers.is_replayed()).then(Namer::new);
        Self { namer, sites: HashMap::new(), mappings: HashMap::new() }
    }

    /// Reads a target's current mappings and opens their objects.
    pub(super) fn learn(&mut self, answers: &mut Answers, pid: Pid, mappings: &Mappings) {
        let before = self.mappings.remove(&pid).unwrap_or_default();
        self.mappings.insert(pid, with_unloaded(&before, mappings));
        let forgotten = self.namer.as_mut().map(|namer| namer.learn(pid, mappings));
        self.change(answers, Naming::Learned, &[], forgotten.unwrap_or_default());
    }

    /// Forgets the memory of a process whose call sites need no more names.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.mappings.remove(&pid);
        if let Some(namer) = &mut self.namer {
            namer.forget(pid);
        }
    }

    /// Reads new names of code that was generated at run time; its call sites are named again.
    pub(super) fn refresh(&mut self, answers: &mut Answers) {
        let forgotten = self.namer.as_mut().map(Namer::refresh);
        self.change(answers, Naming::Refreshed, &[], forgotten.unwrap_or_default());
    }

    /// Names call sites from the front of the queue, for at most about this time.
    pub(super) fn work(
        &mut self,
        answers: &mut Answers,
        mut queue: VecDeque<Wanted>,
        budget: Duration,
    ) {
        let wanted: Vec<u32> = queue.iter().map(|one| one.site).collect();
        if let Some(namer) = &mut self.namer {
            namer.work(&mut queue, budget);
        }
        self.change(answers, Naming::Looked, &wanted, Vec::new());
    }

    /// Takes over what the namer has changed: names of the `wanted` call sites, and names that are no longer valid.
    fn change(
        &mut self,
        answers: &mut Answers,
        step: Naming,
        wanted: &[u32],
        mut forgotten: Vec<u32>,
    ) {
        let Self { namer, sites, .. } = self;
        let Changes { named, forgotten } = answers.ask(Question::Names(step), || {
            let Some(namer) = namer else { return Changes::default() };
            let named = wanted.iter().filter_map(|site| Some((*site, namer.lookup(*site)?)));
            forgotten.sort_unstable();
            Changes { named: named.collect(), forgotten }
        });
        forgotten.iter().for_each(|site| drop(sites.remove(site)));
        sites.extend(named);
    }

    /// The frames of a call site that has been named.
    pub(super) fn lookup(&self, site: u32) -> Option<Arc<[Frame]>> {
        self.sites.get(&site).map(Arc::clone)
    }

    /// A call site's frames without any lookup: module and offset, and the names already known.
    pub(super) fn unnamed(
        &self,
        answers: &mut Answers,
        site: u32,
        pid: Pid,
        addresses: &[u64],
    ) -> Arc<[Frame]> {
        let Frames(frames) = answers.ask(Question::Unnamed(site), || {
            let namer = self.namer.as_ref();
            Frames(namer.map(|namer| namer.unnamed(pid, addresses)).unwrap_or_default())
        });
        frames
    }

    /// The name of the function at a frame's address, however long that takes.
    pub(super) fn function(
        &mut self,
        answers: &mut Answers,
        pid: Pid,
        frame: u64,
    ) -> Option<Arc<str>> {
        answers.ask(Question::Function(frame), || {
            self.namer.as_mut()?.name(pid, &[frame]).first()?.symbol.clone()
        })
    }

    /// Missing names of these call sites, by module; counts named call sites only.
    pub(super) fn modules(
        &mut self,
        answers: &mut Answers,
        sites: impl Iterator<Item = u32>,
    ) -> Vec<Module> {
        let Modules(modules) = answers.ask(Question::Modules, || {
            Modules(self.namer.as_mut().map(|namer| namer.modules(sites)).unwrap_or_default())
        });
        modules
    }

    /// The file that a call is in, by its return address.
    pub(super) fn file(&self, pid: Pid, frame: u64) -> Option<FileId> {
        self.mappings.get(&pid)?.find(called_from(frame)).and_then(Mapping::file)
    }
}
