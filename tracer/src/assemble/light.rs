//! The kernel's own figures for the targets, for `--light`.

use std::collections::BTreeMap;

use super::members::Member;
use crate::{
    analyze::time_series::History,
    report::{Exit, Fds, Growing, Light, Word},
    snapshot::{Snapshot, TargetUsage},
    target::{Pid, usage::ProcessUsage},
};

/// The history of every figure.
#[derive(Debug, Default)]
pub(super) struct Levels {
    history: BTreeMap<(Pid, String), History>,
    last: BTreeMap<Pid, Growing>,
    begun: bool,
}

impl Levels {
    /// Adds the figures of a snapshot.
    pub(super) fn add(
        &mut self,
        at_ns: u64,
        usage: &TargetUsage,
        targets: &[Member],
        exits: &BTreeMap<Pid, Exit>,
    ) -> (Light, Option<Fds>) {
        if !std::mem::replace(&mut self.begun, true) {
            let (start_ns, figures) = &*usage.start;
            for (pid, figures) in figures {
                self.add_process(*pid, *start_ns, figures);
            }
        }
        for Member { identity, .. } in targets {
            let pid = identity.pid;
            if exits.contains_key(&pid) {
                continue;
            }
            if let Some(figures) = usage.now.get(&pid) {
                self.add_process(pid, at_ns, figures);
            }
        }
        let known = |member: &Member| self.last.get(&member.identity.pid).cloned();
        let light = Light { processes: targets.iter().filter_map(known).collect() };
        let running: Vec<&Member> =
            targets.iter().filter(|one| !exits.contains_key(&one.identity.pid)).collect();
        let fds = self.descriptors(&running);
        (light, fds)
    }

    fn add_process(&mut self, pid: Pid, at_ns: u64, figures: &ProcessUsage) {
        let growing = self.growing(pid, at_ns as f64 / 1e9, figures);
        self.last.insert(pid, growing);
    }

    fn growing(&mut self, pid: Pid, at_s: f64, figures: &ProcessUsage) -> Growing {
        let memory = &figures.memory;
        let mut level = |name: &str, now: Option<u64>| {
            let history = self.history.entry((pid, name.to_owned())).or_default();
            now.map(|now| history.push(at_s, now))
        };
        let mut growing = Growing {
            pid: pid.0,
            rss: level("rss", memory.rss),
            anonymous: level("anonymous", memory.anonymous),
            file: level("file", memory.file),
            shared: level("shared", memory.shared),
            swapped: level("swapped", memory.swapped),
            data: level("data", memory.data),
            brk: level("brk", memory.brk),
            ..Growing::default()
        };
        let Some(mut open) = figures.fds.clone() else { return growing };
        growing.fds = level("fds", Some(open.values().sum()));
        // A type that has disappeared counts 0, not unknown; a new type counted 0 at the start.
        let first = !self.last.contains_key(&pid);
        let known = self.history.keys().filter(|(whose, _)| *whose == pid);
        for name in known.filter_map(|(_, name)| name.strip_prefix("fd ")) {
            open.entry(name.to_owned()).or_default();
        }
        for (name, now) in open {
            let key = (pid, format!("fd {name}"));
            let history = self
                .history
                .entry(key)
                .or_insert_with(|| if first { History::default() } else { History::since(0) });
            growing.fds_by_type.insert(Word::named(&name), history.push(at_s, now));
        }
        growing
    }

    fn descriptors(&self, running: &[&Member]) -> Option<Fds> {
        let mut fds = Fds::default();
        let mut known = false;
        for Member { identity, .. } in running {
            let Some(growing) = self.last.get(&identity.pid) else { continue };
            let Some(level) = growing.fds else { continue };
            known = true;
            fds.open += level.now;
            for (fd_type, level) in &growing.fds_by_type {
                *fds.by_type.entry(fd_type.clone()).or_default() += level.now;
            }
        }
        if let [only] = running {
            fds.limit = only.identity.fd_limit;
        }
        known.then_some(fds)
    }
}

/// What to know about page figures.
pub(super) fn warnings(snapshot: &Snapshot) -> Vec<String> {
    if snapshot.usage.as_ref().is_none_or(|usage| usage.frames_are_shown) {
        return Vec::new();
    }
    vec![
        "the kernel does not show which page frames there are (it takes CAP_SYS_ADMIN): huge pages count as \
         4 KiB, and pages that were only read count, too"
            .to_owned(),
    ]
}
