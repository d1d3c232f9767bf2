//! Accounting: events seen and lost, and leaktrace's own resource use.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tracer_common::{
    attach::{ProbeNumber, Shape},
    kind::ResourceKind,
    stack::StackEnd,
};

use super::{Assembly, rates::Reading};
use crate::{
    analyze::quiet::Quiet,
    report::{Accounting, Budget, Collector, ConnectionsLog, Unwind, VerifiedBlocks, Word},
    snapshot::{Snapshot, windows::Sampling},
    tape::{Question, Redact, Redactor, redact},
    target::usage::OwnUsage,
};

/// The state of the log of connections, if there is one.
#[derive(Debug, Default, Serialize, Deserialize)]
struct LogState(Option<ConnectionsLog>);

impl Redact for LogState {
    fn redacted(&self, _: &mut Redactor) -> Self {
        Self(self.0.as_ref().map(|log| ConnectionsLog {
            path: redact::path(&log.path),
            why: log.why.as_deref().map(redact::sentence),
            ..log.clone()
        }))
    }
}

/// The budget, and how far it was kept.
fn budget(sampling: &Sampling) -> Budget {
    Budget {
        share: sampling.overhead.budget,
        cost: sampling.overhead.cost,
        windows: sampling.windows,
        recorded_s: sampling.recorded_ns.iter().sum::<u64>() as f64 / 1e9,
        pace: sampling.overhead.pace,
    }
}

/// Names the objects without an unwind table because the tables' size limit was reached; `None` if it was not.
pub(super) fn out_of_table_space(objects: &[String]) -> Option<String> {
    let (first, more) = objects.split_first()?;
    let rest = match more.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "the kernel memory for unwind tables is full: {first}{rest} without a table, so stacks through that code can be cut",
    ))
}

impl Assembly {
    /// Acquisitions that failed: all failures but those of joins, which release.
    fn failed_acquires(&self, snapshot: &Snapshot) -> u64 {
        let is_join = |number: ProbeNumber| {
            let probe = self.probe(Some(number));
            probe.is_some_and(|probe| probe.function.shape == Shape::JoinThread)
        };
        let failed = (0..).zip(&snapshot.hits).filter(|(number, _)| !is_join(*number));
        failed.map(|(_, (_, failed))| failed).sum()
    }

    /// Whether memory grows by functions that are not traced, where blocks are.
    pub(super) fn quiet(&mut self, snapshot: &Snapshot) -> Option<Quiet> {
        if let Some(limits) = &snapshot.limits {
            let anonymous = limits.processes.values().filter_map(|one| one.memory.anonymous);
            let now = anonymous.sum();
            let (first, _) = self.anonymous.unwrap_or((now, now));
            self.anonymous = Some((first, now));
        }
        let (first_bytes, resident_bytes) = self.anonymous?;
        self.session.options.kinds.contains(&ResourceKind::Heap).then(|| Quiet {
            traced: Duration::from_nanos(snapshot.at_ns.saturating_sub(self.session.started_ns)),
            hits: snapshot.hits.iter().map(|(hits, _)| hits).sum(),
            first_bytes,
            resident_bytes,
        })
    }

    /// The accounting of one snapshot.
    pub(super) fn accounting(&mut self, snapshot: &Snapshot) -> Accounting {
        let sites = &snapshot.sites;
        let of_sites = sites.iter().map(|site| site.acquired.count + site.released.count);
        // All that ended processes had acquired has been released.
        let of_past = snapshot.past.iter().map(|(_, acquired)| 2 * acquired.count);
        let events = of_sites.chain(of_past).sum::<u64>() + snapshot.unknown_releases;
        let mut truncated_by: BTreeMap<Word<StackEnd>, u64> = BTreeMap::new();
        for site in sites.iter().filter(|site| site.end != StackEnd::Bottom) {
            *truncated_by.entry(site.end.into()).or_default() += site.acquired.count;
        }
        truncated_by.retain(|_, count| *count > 0);
        let tables = &snapshot.unwind;
        let OwnUsage { cpu_s, rss_bytes, peak_rss_bytes } =
            self.answers.ask(Question::OwnUsage, self.session.own_usage);
        let log = &self.session.log;
        let LogState(connections_log) = self
            .answers
            .ask(Question::Log, || LogState(log.as_ref().map(|account| account(snapshot.last))));
        let reading = Reading { at_ns: snapshot.at_ns, events, cpu_s };
        let started_ns = self.session.started_ns;
        let (events_per_s, cpu_percent) = self.rates.update(started_ns, reading, snapshot.last);
        let [kernel_bytes, kernel_unwind_bytes] = self.session.kernel_bytes;
        Accounting {
            events,
            events_per_s,
            lost: snapshot
                .losses
                .iter()
                .map(|(reason, count)| ((*reason).into(), *count))
                .collect(),
            verified: snapshot.verified.map(|verified| VerifiedBlocks {
                blocks: verified.allocated,
                of: verified.asked,
                missed_releases: verified.missed_releases,
                missed_acquires: None,
            }),
            unknown_frees: snapshot.unknown_releases,
            failed_acquires: self.failed_acquires(snapshot),
            truncated_stacks: truncated_by.values().sum(),
            truncated_by,
            unwind: Unwind {
                objects: tables.ready as u64,
                loading: tables.loading as u64,
                without: tables.without as u64,
                bytes: tables.bytes,
            },
            estimated: snapshot.sampling.is_some_and(|sampling| sampling.estimated),
            budget: snapshot.sampling.map(|sampling| budget(&sampling)),
            connections_log,
            collector: Collector {
                cpu_s,
                cpu_percent,
                rss_bytes,
                peak_rss_bytes,
                kernel_bytes,
                kernel_unwind_bytes,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::out_of_table_space;

    #[test]
    fn first_object_without_a_table_is_named_and_the_rest_counted() {
        let of = |count: usize| out_of_table_space(&vec!["/usr/bin/browser".to_owned(); count]);
        assert_eq!(of(0), None);
        assert!(of(1).unwrap().contains("full: /usr/bin/browser without"), "{:?}", of(1));
        assert!(of(3).unwrap().contains("/usr/bin/browser and 2 more without"), "{:?}", of(3));
    }
}
