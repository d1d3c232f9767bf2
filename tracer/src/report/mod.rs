//! The finished report: plain public data, the contract with every reader.
//!
//! Depends on nothing else: screen, text and JSON all read a [`Report`]. `docs/report.schema.json` describes its JSON
//! form. Unknown values are `null`, never made up.

mod census;
mod connections;
mod estimate;
pub mod export;
mod fds;
mod finding;
#[cfg(test)]
#[path = "../../tests/fixtures/mod.rs"]
pub(crate) mod fixtures;
mod invalid_releases;
mod leaving;
mod light;
mod log;
mod memory;
mod number;
mod objects;
mod resource;
mod verdict;
mod words;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tracer_common::{loss::Loss, stack::StackEnd};

pub use census::{
    CENSUS_SCHEMA, Census, CensusArena, CensusDifference, CensusPinned, CensusReport, CensusSize,
    CensusTarget, CensusType, PinnedBySize, SizeDifference, TypeDifference,
};
pub use connections::{
    Client, ClosedBy, Connection, ConnectionRole, Connections, LeftBehind, Protocol, SocketState,
};
pub use estimate::{Budget, Errors};
pub use fds::{Fd, FdOrigin, FdType, Fds, Turnover};
pub use finding::{
    Answer, Fault, Finding, FindingClient, FindingCohort, FindingOwner, FindingPart, FindingRate,
    PerConnection, Suppressed,
};
pub use invalid_releases::{InvalidRelease, WhyInvalid};
pub use leaving::Leaving;
pub use light::{Growing, Level, Light};
pub use log::{ConnectionsLog, LogLine, Logged};
pub use memory::{Limit, MemoryGrowth, PartGrowth, ProcessMemory, TimeToLimit};
pub use number::{Address, Offset};
pub use objects::{LibraryObject, LibraryObjects, Messages, ObjectState, ObjectType};
pub use resource::Resource;
pub use verdict::{Verdict, VerdictClass};
use words::names;
pub use words::{Named, Word};

/// The name of this report format.
pub const SCHEMA: &str = "leaktrace/1";

/// Everything that leaktrace reports at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Version of leaktrace that wrote it.
    pub version: String,
    /// The host it was recorded on.
    pub host: Host,
    /// The traced processes, in the order given.
    pub targets: Vec<Target>,
    /// The time it covers.
    pub window: Window,
    /// Events seen and lost.
    pub accounting: Accounting,
    /// The allocators of each target, those in use first.
    #[serde(default)]
    pub allocators: Vec<Allocator>,
    /// What to know before trusting the figures, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Every probe, attached or not, in the order of the catalog.
    pub probes: Vec<Probe>,
    /// Whether anything leaks.
    #[serde(default)]
    pub answer: Answer,
    /// What leaks, or may, worst first.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// What the user's suppressions hide, in their order; those that hide nothing are omitted.
    #[serde(default)]
    pub suppressed: Vec<Suppressed>,
    /// Releases of what is not there, most frequent first.
    #[serde(default)]
    pub invalid_releases: Vec<InvalidRelease>,
    /// The targets' memory as a whole; `null` when it cannot be read.
    #[serde(default)]
    pub memory: Option<ProcessMemory>,
    /// How close the targets are to their limits, those that will be reached first.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// Totals by kind.
    pub totals: BTreeMap<Resource, Total>,
    /// Call sites, worst first.
    pub sites: Vec<Site>,
    /// Call sites that are not in `sites`: nothing is outstanding there, or there are more than was asked for. Only in a
    /// written report.
    #[serde(default)]
    pub sites_left_out: u64,
    /// Frames that the `callers` of call sites refer to; only in a written report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<Frame>,
    /// Objects that the call sites' stacks run through, those with most unnamed frames first.
    #[serde(default)]
    pub modules: Vec<Module>,
    /// The kernel's figures for the targets; `null` without `--light`.
    #[serde(default)]
    pub light: Option<Light>,
    /// Library objects; `null` when not requested.
    #[serde(default)]
    pub objects: Option<LibraryObjects>,
    /// File descriptors; `null` when not requested.
    pub fds: Option<Fds>,
    /// Connections; `null` while they are not traced.
    pub connections: Option<Connections>,
}

/// The host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Release of the running kernel, as `uname -r` prints it.
    pub kernel: String,
    /// Architecture, as `uname -m` prints it.
    pub arch: String,
    /// Source of fd events; `null` while they are not traced.
    pub fd_backend: Option<Word<FdBackend>>,
    /// Lockdown mode of the kernel; `null` when it cannot be read.
    pub lockdown: Option<Word<Lockdown>>,
}

names! {
    /// Source of file descriptor events.
    pub enum FdBackend {
        /// Probes on functions of the kernel.
        Kprobe = "kprobe",
        /// Tracepoints of system calls.
        Tracepoint = "tracepoint",
    }
}

names! {
    /// Restrictions of a locked-down kernel, even for root; `kernel_lockdown(7)`.
    pub enum Lockdown {
        /// Nothing.
        None = "none",
        /// Modifying the running kernel.
        Integrity = "integrity",
        /// Also reading its memory.
        Confidentiality = "confidentiality",
    }
}

/// One traced process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Process id.
    pub pid: u32,
    /// Process id of its parent, if it became a target as a child; `null` for a target given by the user.
    #[serde(default)]
    pub parent: Option<u32>,
    /// Seconds from the start until its fork; `null` for a target that was running before.
    #[serde(default)]
    pub since_s: Option<f64>,
    /// Path of the executable.
    pub exe: Option<String>,
    /// Arguments, the program's name first.
    pub cmdline: Vec<String>,
    /// Resident memory now (or when last seen), bytes.
    pub rss_bytes: Option<u64>,
    /// Soft limit of open file descriptors.
    pub fd_limit: Option<u64>,
    /// How it ended; `null` while it runs.
    pub exited: Option<Exit>,
    /// Children that have ended and that it has not waited for, by the name of their program, most first.
    #[serde(default)]
    pub zombies: Vec<Zombies>,
}

/// Children that have ended, and that their parent has not waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zombies {
    /// Name of their program.
    pub name: String,
    /// Their number.
    pub count: u64,
}

/// How a target ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status, when known: always for a command that leaktrace started.
    pub status: Option<i32>,
    /// Signal that killed it, if any and known.
    pub signal: Option<i32>,
}

/// An allocator of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocator {
    /// The process.
    pub pid: u32,
    /// Name, origin and use, for people to read.
    pub sentence: String,
    /// Its name: `jemalloc`, `glibc`; the object's file name when it cannot be identified.
    pub name: String,
    /// Its version, if the object contains it.
    pub version: Option<String>,
    /// Path of the object that contains it, as the target sees it.
    pub object: String,
    /// Whether any object's `malloc` is bound to it.
    pub in_use: bool,
}

/// The time that the report covers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// When tracing began, RFC 3339 in UTC.
    pub started_at: String,
    /// Seconds traced.
    pub duration_s: f64,
    /// Milliseconds from the start of leaktrace until all probes were attached.
    pub attach_ms: u64,
}

/// Events seen and lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accounting {
    /// Acquisitions and releases seen.
    pub events: u64,
    /// Events per second: over the last second or more, in the last report over the whole run; 0 before the first second.
    pub events_per_s: f64,
    /// Events not recorded, by reason; reasons that did not occur are omitted.
    pub lost: BTreeMap<Word<Loss>, u64>,
    /// Releases of resources acquired before the attach, or never acquired.
    pub unknown_frees: u64,
    /// How outstanding blocks compare with the heaps themselves, at the end; `null` before, and where no heap was read.
    #[serde(default)]
    pub verified: Option<VerifiedBlocks>,
    /// Acquisitions that failed and yielded no resource.
    pub failed_acquires: u64,
    /// Acquisitions whose stack does not reach the thread's bottom frame.
    pub truncated_stacks: u64,
    /// Truncated stacks by reason; reasons that did not occur are omitted.
    pub truncated_by: BTreeMap<Word<StackEnd>, u64>,
    /// State of the unwind tables.
    pub unwind: Unwind,
    /// Whether the figures of totals and call sites are estimates from a sample.
    pub estimated: bool,
    /// The budget, and how far it was kept; `null` without one.
    #[serde(default)]
    pub budget: Option<Budget>,
    /// State of the connection log; `null` without one.
    #[serde(default)]
    pub connections_log: Option<ConnectionsLog>,
    /// Resources that leaktrace itself used.
    pub collector: Collector,
}

/// How outstanding blocks compare with the heaps themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedBlocks {
    /// Outstanding blocks that are allocated in the heap.
    pub blocks: u64,
    /// Outstanding blocks that the heaps were asked about.
    pub of: u64,
    /// Blocks that were free there, in two looks: releases that no probe saw. They are no longer outstanding.
    pub missed_releases: u64,
    /// Blocks of the heap that were acquired while traced, and are not outstanding; `null` since it is not known.
    pub missed_acquires: Option<u64>,
}

/// Tables for unwinding code without frame pointers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwind {
    /// Objects whose table is in use.
    pub objects: u64,
    /// Objects whose table is being built: stacks through them are truncated until then.
    pub loading: u64,
    /// Objects without a table: no unwind information, not readable, or no space. Their frame pointers are used
    /// instead.
    pub without: u64,
    /// Kernel memory that tables take, bytes.
    pub bytes: u64,
}

/// Resources that leaktrace itself used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Collector {
    /// Processor time of all its threads since the start, seconds.
    pub cpu_s: f64,
    /// Processor time in percent of one processor: over the last second or more, in the last report since the first;
    /// `null` before there is a second to look at.
    #[serde(default)]
    pub cpu_percent: Option<f64>,
    /// Its resident memory, bytes.
    pub rss_bytes: Option<u64>,
    /// Its peak resident memory, bytes.
    #[serde(default)]
    pub peak_rss_bytes: Option<u64>,
    /// Kernel memory of the BPF maps, except unwind tables, bytes; `null` where the kernel does not report it.
    #[serde(default)]
    pub kernel_bytes: Option<u64>,
    /// Kernel memory reserved for unwind tables, bytes: for the targets' code, and for objects loaded later.
    #[serde(default)]
    pub kernel_unwind_bytes: Option<u64>,
}

/// One probed function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Name of the function.
    pub function: String,
    /// Path of the object that has the function, as the target sees it; `null` when none does.
    pub object: Option<String>,
    /// Offset of the probed instruction in the file; `null` when not attached.
    pub offset: Option<Offset>,
    /// Whether the kernel emulates the probed instruction (fast) or single-steps it (slow).
    pub emulated: Option<bool>,
    /// Calls seen.
    pub hits: u64,
    /// Whether the probe is attached.
    pub status: ProbeStatus,
    /// Why it is not attached, or what is special about it.
    pub why: Option<String>,
}

names! {
    /// Whether a probe is attached.
    pub enum ProbeStatus {
        /// Attached.
        On = "on",
        /// No object of the target has the function: information, not a failure.
        Missing = "missing",
        /// The kernel, or leaktrace itself, refused it.
        Refused = "refused",
    }
}

/// Totals of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Outstanding resources.
    pub outstanding_count: u64,
    /// Their bytes.
    pub outstanding_bytes: u64,
    /// Resources acquired since the start; never decreases.
    pub acquired_count: u64,
    /// Their bytes.
    pub acquired_bytes: u64,
    /// Copies of the parent's resources, created by forks; not counted as acquired.
    #[serde(default)]
    pub inherited_count: u64,
    /// Their bytes.
    #[serde(default)]
    pub inherited_bytes: u64,
    /// Resources acquired (or inherited) since the start and released again.
    pub released_count: u64,
    /// Their bytes.
    pub released_bytes: u64,
    /// How far the figures may be off; `null` when they are exact.
    #[serde(default)]
    pub error: Option<Errors>,
}

/// One call site: a function called from one stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Number of the call site, the same through one run.
    pub id: u32,
    /// Target it belongs to; with several, one that holds much there; `null` for an unknown stack of one of several
    /// targets.
    pub pid: Option<u32>,
    /// Number of targets that run this code and hold anything acquired there; at least 1.
    #[serde(default = "one")]
    pub processes: u32,
    /// What each of several holds, at most twenty of them, most first; empty for one.
    #[serde(default)]
    pub by_process: Vec<OfProcess>,
    /// Kind of resource.
    pub kind: Resource,
    /// The acquiring function: `malloc`, `mmap` …; for file descriptors the system call.
    pub acquired_by: String,
    /// Type of the descriptors opened there; `null` for other kinds.
    #[serde(default)]
    pub fd_type: Option<Word<FdType>>,
    /// Outstanding resources (of at least the requested age).
    pub outstanding_count: u64,
    /// Their bytes.
    pub outstanding_bytes: u64,
    /// Resources acquired since the start.
    pub acquired_count: u64,
    /// Their bytes.
    pub acquired_bytes: u64,
    /// Copies of the parent's resources, created by a fork; not counted as acquired.
    #[serde(default)]
    pub inherited: Amount,
    /// Resources released.
    pub released_count: u64,
    /// Their bytes.
    pub released_bytes: u64,
    /// How far the figures may be off; `null` when they are exact.
    #[serde(default)]
    pub error: Option<Errors>,
    /// Ages of outstanding resources; `null` when there are none.
    pub age_s: Option<Age>,
    /// Change in outstanding bytes per second over the recent past; `null` with too little history, and where nothing is
    /// outstanding.
    pub growth_bytes_per_s: Option<f64>,
    /// Change in outstanding resources per second; `null` as above.
    pub growth_count_per_s: Option<f64>,
    /// Resources that closed connections left behind; `null` while connections are not traced.
    pub orphans: Option<Orphans>,
    /// Resources that no pointer refers to; `null` until they were searched for.
    pub lost: Option<Amount>,
    /// Number of the call site whose objects most of these belong to, where a library has acquired them by itself and the
    /// target's memory shows it; `null` elsewhere.
    #[serde(default)]
    pub owner: Option<u32>,
    /// Resident memory of the stacks of threads; `null` for other kinds.
    #[serde(default)]
    pub resident_bytes: Option<u64>,
    /// The states of threads, and the address space of their stacks; `null` for other kinds.
    #[serde(default)]
    pub threads: Option<Threads>,
    /// Of what runtime this memory is an arena; `null` where it is none that leaktrace knows.
    #[serde(default)]
    pub arena: Option<Arena>,
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the stack does not reach the thread's bottom frame.
    pub truncated: bool,
    /// Why the stack is truncated, for people to read; `null` for a complete one.
    pub truncated_why: Option<String>,
    /// Index into `frames` of the headline: the frame that "asked" for the resource.
    pub headline: usize,
    /// Innermost first, starting with the function that called the allocator.
    pub frames: Arc<[Frame]>,
    /// The rest of the stack after `frames`, as indices into the report's `frames`; only in a written report, after its first
    /// call sites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<u32>,
    /// Outstanding bytes at the last refreshes, oldest first.
    pub trend_bytes: Vec<u64>,
}

/// Memory that a language's runtime acquires for a heap of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arena {
    /// The runtime.
    pub of: String,
    /// How to see what is inside.
    pub see_inside: String,
}

impl Arena {
    /// What that means for the figures.
    pub fn sentence(&self) -> String {
        format!(
            "an arena of {}, whose objects are inside and are not counted: {}",
            self.of, self.see_inside
        )
    }
}

/// What one process holds of a call site's resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfProcess {
    /// Its process id.
    pub pid: u32,
    /// Outstanding resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

const fn one() -> u32 {
    1
}

/// Ages in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Age {
    /// The youngest.
    pub min: f64,
    /// The median.
    pub median: f64,
    /// The oldest.
    pub max: f64,
}

/// Threads that have not been released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threads {
    /// Those that run.
    pub alive: u64,
    /// Those that have ended, and that nobody has joined or detached.
    pub ended: u64,
    /// Address space of their stacks, bytes.
    pub stack_bytes: u64,
}

/// Resources that closed connections left behind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Orphans {
    /// Resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Connections that left any.
    pub connections: u64,
    /// Their share of all closed connections, 0 to 1; `null` when that is not known.
    #[serde(default)]
    pub share: Option<f64>,
}

/// A number of resources and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One level of a stack. Its strings are shared: tens of thousands of call sites have frames in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Return address in the target; the same for all inlined levels of one address.
    pub address: Address,
    /// Function, demangled.
    pub symbol: Option<Arc<str>>,
    /// Bytes from the start of the function.
    pub offset: Option<u64>,
    /// Path of the object.
    pub module: Option<Arc<str>>,
    /// Offset of the address in the object's file, for `module+0x…`.
    pub module_offset: Option<u64>,
    /// Source file.
    pub file: Option<Arc<str>>,
    /// Line number.
    pub line: Option<u32>,
    /// Whether the function was inlined into the one of the next level.
    pub inlined: bool,
    /// Whether the function had left by a tail jump to the previous frame: it is on the call path, but not on the
    /// stack. `address` is then the one after the jump.
    #[serde(default)]
    pub tail_call: bool,
    /// Why the frame has no name; `null` when it has one.
    pub why_unnamed: Option<Arc<str>>,
}

/// An object that stacks run through, and the quality of its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its path as the target sees it; `null` for JIT code.
    pub path: Option<String>,
    /// Its build id in hexadecimal, when it has one.
    pub build_id: Option<String>,
    /// Source of its names.
    pub names: Names,
    /// Unnamed frames of the call sites' stacks in this object.
    pub frames_without_name: u64,
    /// Why the first of them has no name; `null` when all have names.
    pub why: Option<String>,
    /// How to get the missing names; `null` when all have names.
    pub help: Option<String>,
}

/// Quality of an object's names. The order is from poor to rich.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Names {
    /// Nothing.
    None,
    /// Exported functions only.
    Exports,
    /// Every function: from a symbol table, or listed by a runtime.
    Symbols,
    /// Functions, inlined functions, files and lines: debug information.
    Full,
}

impl Module {
    /// Its word on the screen.
    pub fn label(&self) -> &str {
        self.path.as_deref().map_or("code made at run time", crate::format::file_name)
    }
}

/// With what the reason begins why generated code has no name.
pub const JIT: &str = "JIT";

impl Frame {
    /// The frame's text on the screen: its function, else `module+0xoffset`, else its address.
    pub fn label(&self) -> String {
        if self.is_nameless_jit() {
            return "JIT code".to_owned();
        }
        match (&self.symbol, &self.module, self.module_offset) {
            (Some(symbol), _, _) => symbol.as_ref().to_owned(),
            (None, Some(module), Some(offset)) => {
                format!("{}+{offset:#x}", crate::format::file_name(module))
            }
            _ => self.address.to_string(),
        }
    }

    /// The same with a long function's template arguments folded.
    pub fn short_label(&self) -> String {
        crate::format::short_symbol(&self.label())
    }

    /// Whether it is in code that a run time generated, and that has no name. The memory's own name and an offset in it
    /// say nothing.
    pub fn is_nameless_jit(&self) -> bool {
        self.symbol.is_none() && self.why_unnamed.as_deref().is_some_and(|why| why.starts_with(JIT))
    }

    /// `file:line` with the last part of the file's path, when the source is known.
    pub fn source(&self) -> Option<String> {
        let file = crate::format::file_name(self.file.as_deref()?);
        Some(match self.line {
            Some(line) => format!("{file}:{line}"),
            None => file.to_owned(),
        })
    }
}

impl Site {
    /// The kind of resource; for descriptors, their type.
    pub fn kind_name(&self) -> &str {
        self.fd_type.as_ref().map_or_else(|| self.kind.name(), Word::name)
    }

    /// The headline frame, if the stack has any.
    pub fn asked(&self) -> Option<&Frame> {
        self.frames.get(self.headline).or_else(|| self.frames.first())
    }
}
