//! The finished picture: plain public data, the contract with every reader.
//!
//! Takes nothing and knows nothing but itself: screen, text and JSON all read a [`Report`]. Its JSON
//! form is described by `docs/report.schema.json`. Unknown values are `null`, never made up.

mod connections;
mod estimate;
mod fds;
#[cfg(test)]
#[path = "../../tests/fixtures/mod.rs"]
pub(crate) mod fixtures;
pub mod json;
mod leaving;
mod light;
mod log;
mod number;
mod objects;
mod resource;
pub mod text;
mod verdict;
mod words;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tracer_common::{loss::Loss, stack::StackEnd};

pub use connections::{
    Client, ClosedBy, Connection, ConnectionRole, Connections, LeftBehind, Protocol, SocketState,
};
pub use estimate::{Budget, Errors};
pub use fds::{Fd, FdOrigin, FdType, Fds, Turnover};
pub use leaving::Leaving;
pub use light::{Growing, Level, Light};
pub use log::{ConnectionsLog, LogLine, Logged};
pub use number::{Address, Offset};
pub use objects::{LibraryObject, LibraryObjects, ObjectState, ObjectType};
pub use resource::Resource;
pub use verdict::{Verdict, VerdictClass};
use words::names;
pub use words::{Named, Word};

/// The name of this report format.
pub const SCHEMA: &str = "leaktrace/1";

/// Everything leaktrace has to say at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Version of leaktrace that wrote it.
    pub version: String,
    /// Where it was taken.
    pub host: Host,
    /// The traced processes, in the order they were named.
    pub targets: Vec<Target>,
    /// When it was taken.
    pub window: Window,
    /// What was seen and what was not.
    pub accounting: Accounting,
    /// The allocators of each target, those in use first.
    #[serde(default)]
    pub allocators: Vec<Allocator>,
    /// What a reader must know to trust the figures, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Every probe, attached or not, in the order of the catalog.
    pub probes: Vec<Probe>,
    /// Sums by kind.
    pub totals: BTreeMap<Resource, Total>,
    /// Call sites, worst first.
    pub sites: Vec<Site>,
    /// Objects that the call sites' stacks run through, those with most frames without a name first.
    #[serde(default)]
    pub modules: Vec<Module>,
    /// What the kernel counts of the targets; `null` without `--light`.
    #[serde(default)]
    pub light: Option<Light>,
    /// Objects of libraries; `null` when they were not asked for.
    #[serde(default)]
    pub objects: Option<LibraryObjects>,
    /// File descriptors; `null` when they were not asked for.
    pub fds: Option<Fds>,
    /// Connections; `null` while they are not traced.
    pub connections: Option<Connections>,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Release of the running kernel, as `uname -r` prints it.
    pub kernel: String,
    /// Architecture, as `uname -m` prints it.
    pub arch: String,
    /// Where fd events come from; `null` while they are not traced.
    pub fd_backend: Option<Word<FdBackend>>,
    /// Lockdown mode of the kernel; `null` when it cannot be read.
    pub lockdown: Option<Word<Lockdown>>,
}

names! {
    /// Where events of file descriptors come from.
    pub enum FdBackend {
        /// Probes on functions of the kernel.
        Kprobe = "kprobe",
        /// Tracepoints of system calls.
        Tracepoint = "tracepoint",
    }
}

names! {
    /// What a locked-down kernel forbids even to root; `kernel_lockdown(7)`.
    pub enum Lockdown {
        /// Nothing.
        None = "none",
        /// To change the running kernel.
        Integrity = "integrity",
        /// To read its memory, too.
        Confidentiality = "confidentiality",
    }
}

/// One traced process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Process id.
    pub pid: u32,
    /// Process id of the target whose child it is; `null` for one that was named.
    #[serde(default)]
    pub parent: Option<u32>,
    /// Seconds from the start until it became a target by being born; `null` for one that was named.
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
}

/// How a target ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status, when known: it is for a command that leaktrace started.
    pub status: Option<i32>,
    /// Signal that ended it, when known and one did.
    pub signal: Option<i32>,
}

/// An allocator of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocator {
    /// The process.
    pub pid: u32,
    /// What it is, where it comes from and whether it is used, for a person.
    pub sentence: String,
    /// What it is called: `jemalloc`, `glibc`; the object's file name when nothing tells.
    pub name: String,
    /// Its version, when the object says it.
    pub version: Option<String>,
    /// Path of the object that holds it, as the target sees it.
    pub object: String,
    /// Whether anybody's `malloc` is bound to it.
    pub in_use: bool,
}

/// When the report was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// When tracing began, RFC 3339 in UTC.
    pub started_at: String,
    /// Seconds traced.
    pub duration_s: f64,
    /// Milliseconds from the start of leaktrace until all probes were on.
    pub attach_ms: u64,
}

/// What was seen and what was not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accounting {
    /// Acquisitions and releases seen.
    pub events: u64,
    /// The same per second, over the last refresh interval.
    pub events_per_s: f64,
    /// What was not recorded, by reason; a reason without a case is left out.
    pub lost: BTreeMap<Word<Loss>, u64>,
    /// Releases of resources acquired before the attach (or of what was never acquired).
    pub unknown_frees: u64,
    /// Acquisitions that failed: no resource.
    pub failed_acquires: u64,
    /// Acquisitions whose stack does not reach the thread's bottom.
    pub truncated_stacks: u64,
    /// The same by reason; a reason without a case is left out.
    pub truncated_by: BTreeMap<Word<StackEnd>, u64>,
    /// How far unwind tables have come.
    pub unwind: Unwind,
    /// Whether the figures of totals and call sites are estimates from a sample.
    pub estimated: bool,
    /// How the budget was kept; `null` without one.
    #[serde(default)]
    pub budget: Option<Budget>,
    /// How the log of connections fared; `null` without one.
    #[serde(default)]
    pub connections_log: Option<ConnectionsLog>,
    /// What leaktrace itself used.
    pub collector: Collector,
}

/// The tables that lead through code without frame pointers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwind {
    /// Objects whose table is in use.
    pub objects: u64,
    /// Objects whose table is being made: stacks through them are cut until then.
    pub loading: u64,
    /// Objects without one: no unwind information, not readable, or no room. Their frame pointers are
    /// followed.
    pub without: u64,
    /// Kernel memory that tables take, bytes.
    pub bytes: u64,
}

/// What leaktrace itself used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Collector {
    /// Processor time of all its threads since the start, seconds.
    pub cpu_s: f64,
    /// The same over the last refresh interval, in percent of one processor; `null` before there was one.
    #[serde(default)]
    pub cpu_percent: Option<f64>,
    /// Its resident memory, bytes.
    pub rss_bytes: Option<u64>,
    /// The most that its resident memory ever was, bytes.
    #[serde(default)]
    pub peak_rss_bytes: Option<u64>,
    /// Kernel memory that the programs' maps take, but for unwind tables, bytes; `null` where the kernel does not say.
    #[serde(default)]
    pub kernel_bytes: Option<u64>,
    /// Kernel memory held for unwind tables, bytes: what the targets' code needs, and room for what is loaded later.
    #[serde(default)]
    pub kernel_unwind_bytes: Option<u64>,
}

/// One probed function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Name of the function.
    pub function: String,
    /// Path of the object that holds it, as the target sees it; `null` when none does.
    pub object: Option<String>,
    /// Offset of the probed instruction in the file; `null` when not attached.
    pub offset: Option<Offset>,
    /// Whether the kernel emulates the probed instruction (fast) or single-steps it (slow).
    pub emulated: Option<bool>,
    /// Calls seen.
    pub hits: u64,
    /// Whether the probe is on.
    pub status: ProbeStatus,
    /// Why it is not on, or what is special about it.
    pub why: Option<String>,
}

names! {
    /// Whether a probe is on.
    pub enum ProbeStatus {
        /// Attached.
        On = "on",
        /// No object of the target has the function: information, not a failure.
        Missing = "missing",
        /// The kernel, or leaktrace itself, declined.
        Refused = "refused",
    }
}

/// Sums of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Outstanding resources.
    pub outstanding_count: u64,
    /// Their bytes.
    pub outstanding_bytes: u64,
    /// Resources acquired since the start; never falls.
    pub acquired_count: u64,
    /// Their bytes.
    pub acquired_bytes: u64,
    /// Copies that came with forks, of what parents held; not among what was acquired.
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
    /// Target it belongs to.
    pub pid: u32,
    /// What sort of resource.
    pub kind: Resource,
    /// The function that acquired: `malloc`, `mmap` …; for file descriptors the system call.
    pub acquired_by: String,
    /// What descriptors lead to that are opened there; `null` for other kinds.
    #[serde(default)]
    pub fd_type: Option<Word<FdType>>,
    /// Outstanding resources (of the least age asked for).
    pub outstanding_count: u64,
    /// Their bytes.
    pub outstanding_bytes: u64,
    /// Resources acquired since the start.
    pub acquired_count: u64,
    /// Their bytes.
    pub acquired_bytes: u64,
    /// Copies that came with a fork, of what the parent held; not among what was acquired.
    #[serde(default)]
    pub inherited: Amount,
    /// Resources released.
    pub released_count: u64,
    /// Their bytes.
    pub released_bytes: u64,
    /// How far the figures may be off; `null` when they are exact.
    #[serde(default)]
    pub error: Option<Errors>,
    /// Ages of what is outstanding; `null` when nothing is.
    pub age_s: Option<Age>,
    /// Change of outstanding bytes per second over the recent past; `null` when too young to tell.
    pub growth_bytes_per_s: Option<f64>,
    /// Change of outstanding resources per second; `null` when too young to tell.
    pub growth_count_per_s: Option<f64>,
    /// What closed connections left behind; unknown while connections are not traced.
    pub orphans: Option<Orphans>,
    /// What no pointer leads to; unknown until it was looked for.
    pub lost: Option<Amount>,
    /// The judgement.
    pub verdict: Verdict,
    /// Whether the stack does not reach the thread's bottom.
    pub truncated: bool,
    /// Why the stack ends where it does, for a person; `null` for a whole one.
    pub truncated_why: Option<String>,
    /// Index into `frames` of the frame that "asked": the headline.
    pub headline: usize,
    /// Innermost first, starting with the function that called the allocator.
    pub frames: Arc<[Frame]>,
    /// Outstanding bytes at the last refreshes, oldest first.
    pub trend_bytes: Vec<u64>,
}

/// Ages in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Age {
    /// The youngest.
    pub min: f64,
    /// As many are older as younger.
    pub median: f64,
    /// The oldest.
    pub max: f64,
}

/// What closed connections left behind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Orphans {
    /// Resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Connections that left one.
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

/// One level of a stack. Its texts are shared: tens of thousands of call sites have common frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Return address in the target; the same for inlined levels of one address.
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
    /// Line in it.
    pub line: Option<u32>,
    /// Whether the function was inlined into the one of the next level.
    pub inlined: bool,
    /// Whether the function had left by a tail jump to the frame before: it is on the way, and not on the
    /// stack. `address` is then the one behind the jump.
    #[serde(default)]
    pub tail_call: bool,
    /// Why there is no name; `null` when there is one.
    pub why_unnamed: Option<Arc<str>>,
}

/// An object that stacks run through, and what its names are worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its path as the target sees it; `null` for code that was made at run time.
    pub path: Option<String>,
    /// Its build id in hexadecimal, when it has one.
    pub build_id: Option<String>,
    /// Where its names come from.
    pub names: Names,
    /// Frames of the call sites' stacks that lie in it and have no name.
    pub frames_without_name: u64,
    /// Why the first of them has none; `null` when all have names.
    pub why: Option<String>,
    /// What would mend it; `null` when all have names.
    pub help: Option<String>,
}

/// What is known of an object's functions. The order is from poor to rich.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Names {
    /// Nothing.
    None,
    /// The functions that others may call.
    Exports,
    /// Every function: a symbol table, or what a run time tells.
    Symbols,
    /// Functions, inlined functions, files and lines: debug information.
    Full,
}

impl Module {
    /// What stands for it on a screen.
    pub fn label(&self) -> &str {
        self.path.as_deref().map_or("code made at run time", crate::format::file_name)
    }
}

impl Frame {
    /// What stands for the frame on a screen: its function, else `module+0xoffset`, else its address.
    pub fn label(&self) -> String {
        match (&self.symbol, &self.module, self.module_offset) {
            (Some(symbol), _, _) => symbol.as_ref().to_owned(),
            (None, Some(module), Some(offset)) => {
                format!("{}+{offset:#x}", crate::format::file_name(module))
            }
            _ => self.address.to_string(),
        }
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
    /// What sort of resource; of descriptors what they lead to.
    pub fn kind_name(&self) -> &str {
        self.fd_type.as_ref().map_or_else(|| self.kind.name(), Word::name)
    }

    /// The frame that "asked", if the stack has any.
    pub fn asked(&self) -> Option<&Frame> {
        self.frames.get(self.headline).or_else(|| self.frames.first())
    }
}
