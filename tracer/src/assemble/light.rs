//! The kernel's own figures for the targets, for `--light`.

use std::collections::BTreeMap;

use super::{Assembly, members::Member};
use crate::{
    analyze::time_series::History,
    report::{Exit, Fds, Growing, Light, Word},
    snapshot::Snapshot,
    target::{Pid, pages, usage},
};

/// The history of every figure.
#[derive(Debug, Default)]
pub struct Levels {
    history: BTreeMap<(Pid, String), History>,
    last: BTreeMap<Pid, Growing>,
}

impl Levels {
    /// The figures at the start; time by the clock of the snapshots.
    pub fn begin(at_ns: u64, targets: &[Member]) -> Self {
        let mut levels = Self::default();
        levels.read(at_ns, targets, &BTreeMap::new());
        levels
    }

    /// Reads the figures of all running targets.
    pub(super) fn read(
        &mut self,
        at_ns: u64,
        targets: &[Member],
        exits: &BTreeMap<Pid, Exit>,
    ) -> (Light, Option<Fds>) {
        let at_s = at_ns as f64 / 1e9;
        for Member { identity, .. } in targets {
            let pid = identity.pid;
            if exits.contains_key(&pid) {
                continue;
            }
            if let Some(growing) = self.growing(pid, at_s) {
                self.last.insert(pid, growing);
            }
        }
        let known = |member: &Member| self.last.get(&member.identity.pid).cloned();
        let light = Light { processes: targets.iter().filter_map(known).collect() };
        let running: Vec<&Member> =
            targets.iter().filter(|one| !exits.contains_key(&one.identity.pid)).collect();
        let fds = self.descriptors(&running);
        (light, fds)
    }

    fn growing(&mut self, pid: Pid, at_s: f64) -> Option<Growing> {
        let memory = usage::memory(pid)?;
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
        let Some(mut open) = usage::descriptors(pid) else { return Some(growing) };
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
        Some(growing)
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
            let left = identity.fd_limit.map(|limit| limit.saturating_sub(level.now) as f64);
            let pace = level.growth_per_s.filter(|rate| *rate > 0.0);
            if let (Some(left), Some(pace)) = (left, pace) {
                let seconds = left / pace;
                fds.seconds_to_limit =
                    Some(fds.seconds_to_limit.map_or(seconds, |least| least.min(seconds)));
            }
        }
        if let [only] = running {
            fds.limit = only.identity.fd_limit;
        }
        known.then_some(fds)
    }
}

/// What to know about page figures.
pub(super) fn warnings() -> Vec<String> {
    if pages::frames_are_shown() {
        return Vec::new();
    }
    vec![
        "the kernel does not show which page frames there are (it takes CAP_SYS_ADMIN): huge pages count as \
         4 KiB, and pages that were only read count, too"
            .to_owned(),
    ]
}

impl Assembly {
    /// The kernel's figures, if `--light` is on.
    pub(super) fn light(&mut self, snapshot: &Snapshot) -> (Option<Light>, Option<Fds>) {
        let Some(levels) = &mut self.session.light else { return (None, None) };
        let (light, fds) = levels.read(snapshot.at_ns, &self.session.targets, &self.exits);
        (Some(light), fds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::FdType, target::identify};

    #[test]
    fn opened_and_closed_descriptors_change_the_levels() {
        let own = Member::named(identify(Pid::own()).unwrap());
        let exits = BTreeMap::new();
        let targets = [own];
        let mut levels = Levels::begin(0, &targets);
        let pair = std::io::pipe().unwrap();
        let (light, fds) = levels.read(1_000_000_000, &targets, &exits);
        let pipes = light.processes[0].fds_by_type[&FdType::Pipe.into()];
        assert!(pipes.change >= 2 && pipes.now >= 2, "{pipes:?}");
        let fds = fds.unwrap();
        assert!(fds.open >= 2 && fds.limit.is_some() && fds.opened.is_none());
        assert_eq!(fds.open, fds.by_type.values().sum::<u64>());
        drop(pair);
        let (light, _) = levels.read(2_000_000_000, &targets, &exits);
        assert!(light.processes[0].rss.unwrap().now > 1 << 20);
        // A target that has ended keeps its last figures.
        let gone = BTreeMap::from([(Pid::own(), Exit { status: Some(0), signal: None })]);
        let (last, fds) = levels.read(3_000_000_000, &targets, &gone);
        assert_eq!((last, fds), (light, None));
    }
}
