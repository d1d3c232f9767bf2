//! Facts about the tracing session, and what of them a redacted tape keeps.
//!
//! Takes what `run` knows when tracing begins; hands it on to the reports, or to a tape.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracer_common::attach::ProbeNumber;

use super::{Blocks, Member};
use crate::{
    options::TraceOptions,
    packs::Pack,
    probes::{Probe, allocator::Allocator},
    report::{ConnectionsLog, Host, Window},
    suppressions::Suppressions,
    tape::{Redact, Redactor, redact},
    target::{Pid, usage::OwnUsage},
};

/// Facts about the tracing session, fixed or updated by [`Assembly::probed`].
#[derive(Serialize, Deserialize)]
pub struct SessionInfo {
    /// The host.
    pub host: Host,
    /// The traced processes.
    pub targets: Vec<Member>,
    /// Every probe, by number and address; those without a number at the end.
    pub probes: Vec<Probe>,
    /// Probes that the kernel refused, by number, with the reason.
    pub refused: BTreeMap<ProbeNumber, String>,
    /// Sentences about resources that are not traced because some of their releases cannot be seen.
    pub untraced: Vec<String>,
    /// The allocators of each target.
    pub allocators: BTreeMap<Pid, Vec<Allocator>>,
    /// When tracing began, RFC 3339.
    pub started_at: String,
    /// The same on the clock of the snapshots, nanoseconds.
    pub started_ns: u64,
    /// Milliseconds until all probes were attached.
    pub attach_ms: u64,
    /// Kernel memory of the BPF maps, bytes: all but unwind tables, then unwind tables.
    pub kernel_bytes: [Option<u64>; 2],
    /// Returns leaktrace's own usage: called late, so that it includes the work on the report itself.
    #[serde(skip, default = "no_usage")]
    pub own_usage: fn() -> OwnUsage,
    /// Returns the state of the connection log, if there is one; its final state when called with `true`.
    #[serde(skip)]
    pub log: Option<Box<dyn Fn(bool) -> ConnectionsLog + Send>>,
    /// What is traced, and how.
    pub options: TraceOptions,
    /// The findings to hide. Not on a tape: whoever replays it gives their own.
    #[serde(skip)]
    pub suppressions: Suppressions,
    /// Blocks that libraries allocate internally.
    #[serde(skip)]
    pub blocks: Blocks,
    /// Libraries whose objects are traced.
    pub packs: Vec<Pack>,
    /// Problems found at the start in the user's input, a line each.
    pub faults: Vec<String>,
}

impl SessionInfo {
    /// The target, if there is one only: what has no known process is its own.
    pub(super) fn only_target(&self) -> Option<Pid> {
        match self.targets.as_slice() {
            [only] => Some(only.identity.pid),
            _ => None,
        }
    }
}

impl Redact for SessionInfo {
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        let member = |one: &Member| Member {
            identity: one.identity.redacted(redactor),
            parent: one.parent,
            since_ns: one.since_ns,
        };
        let pack = |pack: &Pack| Pack { file: redact::path(&pack.file).into(), ..pack.clone() };
        let sentences =
            |all: &[String]| all.iter().map(|one| redact::sentence(one)).collect::<Vec<_>>();
        Self {
            host: self.host.clone(),
            targets: self.targets.iter().map(member).collect(),
            probes: self.probes.iter().map(Probe::redacted).collect(),
            refused: self.refused.clone(),
            untraced: sentences(&self.untraced),
            allocators: redacted_allocators(&self.allocators),
            started_at: self.started_at.clone(),
            started_ns: self.started_ns,
            attach_ms: self.attach_ms,
            kernel_bytes: self.kernel_bytes,
            own_usage: self.own_usage,
            log: None,
            options: TraceOptions { allocator_prefixes: Vec::new(), ..self.options.clone() },
            suppressions: Suppressions::default(),
            blocks: Blocks::default(),
            packs: self.packs.iter().map(pack).collect(),
            faults: sentences(&self.faults),
        }
    }
}

/// Allocators without the folders of their objects.
pub fn redacted_allocators(all: &BTreeMap<Pid, Vec<Allocator>>) -> BTreeMap<Pid, Vec<Allocator>> {
    let one = |one: &Allocator| Allocator {
        object: redact::os_path(&one.object),
        sentence: redact::sentence(&one.sentence),
        ..one.clone()
    };
    all.iter().map(|(pid, all)| (*pid, all.iter().map(one).collect())).collect()
}

/// A tape has leaktrace's usage for each report.
fn no_usage() -> fn() -> OwnUsage {
    OwnUsage::default
}

impl SessionInfo {
    /// The time that a report of this moment covers.
    pub(super) fn window(&self, at_ns: u64) -> Window {
        Window {
            started_at: self.started_at.clone(),
            duration_s: at_ns.saturating_sub(self.started_ns) as f64 / 1e9,
            attach_ms: self.attach_ms,
        }
    }
}
