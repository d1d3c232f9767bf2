//! How close the targets are to their limits, as the report shows it.
//!
//! Takes the snapshots' readings in order, keeps the history of every limited amount, hands on the limits that will be
//! reached first.

use std::collections::BTreeMap;

use super::{Assembly, Member};
use crate::{
    analyze::limit::Forecast,
    report::{Exit, Fds, Light, Limit, TimeToLimit},
    snapshot::Snapshot,
    target::{
        Pid,
        limits::{Bounded, LimitedBy},
    },
};

/// Limits in a report. A server with hundreds of children has several for each of them, and the first ones matter.
const MOST_LIMITS: usize = 100;

/// The kernel's figures, the descriptors, and the limits that both approach.
pub(super) fn figures(
    assembly: &mut Assembly,
    snapshot: &Snapshot,
) -> (Option<Light>, Option<Fds>, Vec<Limit>) {
    let traced = assembly.session.options.traces_descriptors();
    let (targets, exits) = (&assembly.session.targets, &assembly.exits);
    let usage = snapshot.usage.as_ref();
    let light = usage.map(|usage| assembly.levels.add(snapshot.at_ns, usage, targets, exits));
    let (light, fds) = light.map_or((None, None), |(light, fds)| (Some(light), fds));
    let approached = assembly.limits.report(snapshot, targets, exits, traced);
    let mut fds = fds.or_else(|| traced.then(|| assembly.descriptors.report(snapshot, targets)));
    if let Some(fds) = &mut fds {
        fds.seconds_to_limit = approached.descriptors.map(|time| time.mid);
        fds.seconds_to_limit_between = approached.descriptors.map(|time| (time.low, time.high));
    }
    (light, fds, approached.limits)
}

/// A limited amount: of one process, or of several.
type Key = (Option<Pid>, LimitedBy);

/// An amount, its history and its limit.
#[derive(Debug, Default)]
struct Approaching {
    forecast: Forecast,
    used: Option<u64>,
    limit: u64,
}

/// The history of every limited amount.
#[derive(Debug, Default)]
pub(super) struct Limits {
    amounts: BTreeMap<Key, Approaching>,
    first_ns: Option<u64>,
}

/// The limits of one moment.
#[derive(Debug, Default)]
pub(super) struct Approached {
    /// Those that will be reached first.
    pub(super) limits: Vec<Limit>,
    /// When the first target runs out of descriptors.
    pub(super) descriptors: Option<TimeToLimit>,
}

impl Limits {
    /// Adds the figures of a snapshot. `traced` says whether it has all descriptors.
    pub(super) fn report(
        &mut self,
        snapshot: &Snapshot,
        targets: &[Member],
        exits: &BTreeMap<Pid, Exit>,
        traced: bool,
    ) -> Approached {
        let at_ms = since_ms(*self.first_ns.get_or_insert(snapshot.at_ns), snapshot.at_ns);
        for event in snapshot.process_events.iter().filter(|event| event.parent.is_some()) {
            // Its pid may have been another process's.
            self.amounts.retain(|(pid, _), _| *pid != Some(event.pid));
        }
        self.amounts.retain(|(pid, _), _| pid.is_none_or(|pid| !exits.contains_key(&pid)));
        if let Some(readings) = &snapshot.limits {
            // A process has no others than those read now; one that was not read has ended, or will be read again.
            self.amounts.retain(|(pid, by), _| {
                let now = match pid {
                    Some(pid) => readings.processes.get(pid).map(|one| &one.limits),
                    None => Some(&readings.shared),
                };
                now.is_none_or(|now| now.iter().any(|one| one.by == *by))
            });
            for one in &readings.shared {
                self.add(at_ms, None, one);
            }
            for (pid, reading) in &readings.processes {
                let running = !exits.contains_key(pid);
                reading.limits.iter().filter(|_| running).for_each(|one| {
                    self.add(at_ms, Some(*pid), one);
                });
            }
        }
        if traced {
            self.add_descriptors(at_ms, snapshot, targets, exits);
        }
        self.approached()
    }

    fn add(&mut self, at_ms: u32, pid: Option<Pid>, Bounded { by, used, limit }: &Bounded) {
        let amount = self.amounts.entry((pid, by.clone())).or_default();
        amount.limit = *limit;
        if let Some(used) = used {
            amount.used = Some(*used);
            amount.forecast.push(at_ms, *used);
        }
    }

    /// Where descriptors are traced, their numbers are those of the table in the report.
    fn add_descriptors(
        &mut self,
        at_ms: u32,
        snapshot: &Snapshot,
        targets: &[Member],
        exits: &BTreeMap<Pid, Exit>,
    ) {
        let mut open: BTreeMap<Pid, u64> = BTreeMap::new();
        for one in &snapshot.descriptors {
            *open.entry(one.open.pid).or_default() += 1;
        }
        for Member { identity, .. } in targets {
            let pid = identity.pid;
            let known = self.amounts.get(&(Some(pid), LimitedBy::OpenFiles));
            let limit = known.map(|known| known.limit).or(identity.fd_limit);
            if let Some(limit) = limit.filter(|_| !exits.contains_key(&pid)) {
                let used = Some(open.get(&pid).copied().unwrap_or(0));
                let bounded = Bounded { by: LimitedBy::OpenFiles, used, limit };
                self.add(at_ms, Some(pid), &bounded);
            }
        }
    }

    fn approached(&self) -> Approached {
        let mut approached = Approached::default();
        let sooner = |one: &TimeToLimit, other: &Option<TimeToLimit>| {
            other.is_none_or(|other| one.mid < other.mid)
        };
        for ((pid, by), amount) in &self.amounts {
            let Some(used) = amount.used else { continue };
            let time_to_limit_s = amount.forecast.reaches(amount.limit);
            if *by == LimitedBy::OpenFiles
                && let Some(time) = time_to_limit_s
                && sooner(&time, &approached.descriptors)
            {
                approached.descriptors = Some(time);
            }
            let (pid, limit) = (pid.map(|pid| pid.0), amount.limit);
            approached.limits.push(Limit { what: what(by), pid, used, limit, time_to_limit_s });
        }
        let order = |one: &Limit| {
            let time = one.time_to_limit_s.map_or(f64::INFINITY, |time| time.mid);
            (time, -one.share())
        };
        approached.limits.sort_by(|one, other| {
            let ((time, share), (other_time, other_share)) = (order(one), order(other));
            time.total_cmp(&other_time).then(share.total_cmp(&other_share))
        });
        approached.limits.truncate(MOST_LIMITS);
        approached
    }
}

/// Milliseconds since the first snapshot.
pub(super) fn since_ms(first_ns: u64, at_ns: u64) -> u32 {
    u32::try_from(at_ns.saturating_sub(first_ns) / 1_000_000).unwrap_or(u32::MAX)
}

/// What is limited, with the one that limits it.
fn what(by: &LimitedBy) -> String {
    match by {
        LimitedBy::OpenFiles => "open files (RLIMIT_NOFILE)".to_owned(),
        LimitedBy::Mappings => "mappings (vm.max_map_count)".to_owned(),
        LimitedBy::AddressSpace => "address space (RLIMIT_AS)".to_owned(),
        LimitedBy::Data => "data (RLIMIT_DATA)".to_owned(),
        LimitedBy::UserThreads(user) => format!("threads of user {user} (RLIMIT_NPROC)"),
        LimitedBy::CgroupThreads(path) => format!("threads (cgroup {path})"),
        LimitedBy::CgroupMemory(path) => format!("memory (cgroup {path})"),
        LimitedBy::SystemThreads => "threads (kernel.threads-max)".to_owned(),
        LimitedBy::ThreadIds => "threads (kernel.pid_max)".to_owned(),
        LimitedBy::SystemMemory => "memory (system)".to_owned(),
        LimitedBy::SystemFiles => "open files (fs.file-max)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        snapshot::LimitReadings,
        target::{Identity, limits::ProcessReading},
    };

    const PID: Pid = Pid(7);

    fn target() -> Vec<Member> {
        let identity = Identity {
            pid: PID,
            exe: None,
            cmdline: Vec::new(),
            fd_limit: Some(64),
            start_time: 1,
        };
        vec![Member::named(identity)]
    }

    fn bound(by: LimitedBy, used: impl Into<Option<u64>>, limit: u64) -> Bounded {
        Bounded { by, used: used.into(), limit }
    }

    fn snapshot(second: u64, own: Vec<Bounded>, shared: Vec<Bounded>) -> Snapshot {
        let reading = ProcessReading { limits: own, ..ProcessReading::default() };
        let limits = LimitReadings {
            processes: [(PID, reading)].into(),
            shared,
            ..LimitReadings::default()
        };
        Snapshot { at_ns: second * 1_000_000_000, limits: Some(limits), ..Snapshot::default() }
    }

    fn report(limits: &mut Limits, snapshot: &Snapshot) -> Approached {
        limits.report(snapshot, &target(), &BTreeMap::new(), false)
    }

    #[test]
    fn limits_are_ordered_by_time_and_then_by_share() {
        let mut limits = Limits::default();
        let mut last = Approached::default();
        for second in 0..20 {
            let own = vec![
                bound(LimitedBy::OpenFiles, 10 + second, 129),
                bound(LimitedBy::Mappings, 30 + 2 * second, 168),
                bound(LimitedBy::Data, 1, 1000),
            ];
            let shared = vec![
                bound(LimitedBy::SystemMemory, 90, 100),
                bound(LimitedBy::CgroupThreads("/box".to_owned()), 5, 10),
            ];
            last = report(&mut limits, &snapshot(second, own, shared));
        }
        let shown: Vec<_> = last.limits.iter().map(|one| (one.what.as_str(), one.pid)).collect();
        let wanted = [
            ("mappings (vm.max_map_count)", Some(7)),
            ("open files (RLIMIT_NOFILE)", Some(7)),
            ("memory (system)", None),
            ("threads (cgroup /box)", None),
            ("data (RLIMIT_DATA)", Some(7)),
        ];
        assert_eq!(shown, wanted);
        let times: Vec<_> = last
            .limits
            .iter()
            .map(|one| one.time_to_limit_s.map(|time| time.mid.round()))
            .collect();
        assert_eq!(times, [Some(50.0), Some(100.0), None, None, None]);
        assert_eq!(last.descriptors, last.limits[1].time_to_limit_s);
    }

    #[test]
    fn a_limit_that_is_gone_and_a_process_that_has_ended_are_not_shown() {
        let mut limits = Limits::default();
        let both = vec![bound(LimitedBy::Data, 1, 10), bound(LimitedBy::OpenFiles, 3, 8)];
        let memory = || vec![bound(LimitedBy::SystemMemory, 1, 4)];
        assert_eq!(report(&mut limits, &snapshot(0, both, memory())).limits.len(), 3);
        let one = vec![bound(LimitedBy::OpenFiles, 3, 8)];
        assert_eq!(report(&mut limits, &snapshot(1, one.clone(), memory())).limits.len(), 2);
        // Between two readings the last ones are shown.
        let between = Snapshot { at_ns: 2_000_000_000, ..Snapshot::default() };
        assert_eq!(report(&mut limits, &between).limits.len(), 2);
        let exits = [(PID, Exit { status: None, signal: None })].into();
        let ended = snapshot(3, one, memory());
        let left = limits.report(&ended, &target(), &exits, false).limits;
        assert_eq!(left.iter().map(|one| one.pid).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn traced_descriptors_are_those_of_the_table() {
        let mut limits = Limits::default();
        // No reading: the limit is the one from the start.
        let without = Snapshot { at_ns: 1, ..Snapshot::default() };
        let first = limits.report(&without, &target(), &BTreeMap::new(), true).limits;
        assert_eq!((first[0].used, first[0].limit), (0, 64));
        let reading = snapshot(1, vec![bound(LimitedBy::OpenFiles, None, 32)], Vec::new());
        let next = limits.report(&reading, &target(), &BTreeMap::new(), true).limits;
        assert_eq!((next[0].used, next[0].limit), (0, 32));
        // Not known is not shown.
        assert!(report(&mut Limits::default(), &reading).limits.is_empty());
    }
}
