//! What a run traces, and how: the options that several stages obey, each defined once. The command line fills them in.
//!
//! Depends on nothing else, so that any stage may name it.

use std::{str::FromStr, time::Duration};

use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::{Deserialize, Serialize};
use tracer_common::{kind::ResourceKind, limits};

/// The name of the best backend that the kernel allows.
const BEST_BACKEND: &str = "auto";

/// What a run traces, and how.
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceOptions {
    /// The kinds to trace: at least one, in the order of [`ResourceKind::ALL`].
    pub kinds: Vec<ResourceKind>,
    /// Whether `--kind` or `--pack` explicitly requests objects of libraries.
    pub objects_are_named: bool,
    /// Whether `--kind` or `--log-connections` explicitly requests descriptors: then a host that cannot trace them is an
    /// error. Not on a tape, which has what was traced.
    #[serde(skip)]
    pub descriptors_are_named: bool,
    /// Whether to trace page faults only, without probes on functions.
    pub light: bool,
    /// Whether the targets' children become targets.
    pub children: bool,
    /// The share of the targets' CPU time that tracing may cost; unlimited if `None`.
    pub max_overhead: Option<Share>,
    /// Minimum age: younger resources are not counted as outstanding.
    pub min_age: Duration,
    /// Prefixes of allocator functions, in addition to the known ones.
    pub allocator_prefixes: Vec<String>,
    /// Whether every report is shown, not only the last.
    pub live: bool,
    /// Maximum number of call sites in the last report; all if `None`.
    pub top: Option<usize>,
    /// Hidden options for benchmarks and tests.
    #[serde(skip)]
    pub test_options: TestOptions,
}

impl TraceOptions {
    /// How memory is traced.
    pub fn mode(&self) -> TraceMode {
        if self.light {
            TraceMode::PageFaults
        } else if self.kinds.iter().any(|kind| ResourceKind::PROBED.contains(kind)) {
            TraceMode::Probes
        } else {
            TraceMode::None
        }
    }

    /// Whether to trace file descriptors.
    pub fn traces_descriptors(&self) -> bool {
        self.kinds.iter().any(|kind| kind.is_descriptor())
    }

    /// The same without file descriptors, if they are traced only by default, and not alone.
    pub fn without_descriptors(&self) -> Option<Self> {
        let (descriptors, kinds): (Vec<_>, Vec<_>) =
            self.kinds.iter().copied().partition(|kind| kind.is_descriptor());
        let left_out = !descriptors.is_empty() && !kinds.is_empty() && !self.descriptors_are_named;
        left_out.then(|| Self { kinds, ..self.clone() })
    }

    /// Whether to trace objects of libraries.
    pub fn traces_objects(&self) -> bool {
        self.kinds.contains(&ResourceKind::Object)
    }

    /// Whether to trace threads.
    pub fn traces_threads(&self) -> bool {
        !self.light && self.kinds.contains(&ResourceKind::Thread)
    }
}

impl Default for TraceOptions {
    /// The options of a command line without flags, with a report at the end.
    fn default() -> Self {
        Self {
            kinds: ResourceKind::OFFERED.to_vec(),
            objects_are_named: false,
            descriptors_are_named: false,
            light: false,
            children: false,
            max_overhead: None,
            min_age: Duration::ZERO,
            allocator_prefixes: Vec::new(),
            live: false,
            top: None,
            test_options: TestOptions::default(),
        }
    }
}

/// How memory is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceMode {
    /// By programs attached to functions.
    Probes,
    /// By programs that run at page faults.
    PageFaults,
    /// By neither.
    None,
}

/// How file descriptors are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdBackend {
    /// By kprobes on functions of the kernel.
    Kprobe,
    /// By tracepoints at every system call.
    Tracepoint,
}

impl FdBackend {
    /// Every backend.
    pub const ALL: [Self; 2] = [Self::Kprobe, Self::Tracepoint];

    /// Its name in the report and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// The backend to use; `None` selects the best one that the kernel allows.
pub type RequestedBackend = Option<FdBackend>;

/// A cache of the BPF programs to disable, to measure what it saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DisabledCache {
    /// The stack cache: every stack is unwound, through cached rules for its addresses
    Walks,
    /// The rule cache too: every address is looked up in its unwind table
    Addresses,
}

/// A share, above 0 and below 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// In hundredths of a percent.
    hundredths: u16,
}

impl Share {
    /// As a number between 0 and 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.hundredths) / 10_000.0
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_suffix('%').ok_or("expected a percentage, such as 5%")?;
        let Ok(percent) = percent.trim().parse::<f64>() else {
            return Err(format!("`{percent}` is not a number"));
        };
        let hundredths = (percent * 100.0).round();
        if !(1.0..10_000.0).contains(&hundredths) {
            return Err("it must be above 0% and below 100%".to_owned());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range, see above"
        )]
        Ok(Self { hundredths: hundredths as u16 })
    }
}

/// The hidden flags of benchmarks and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct TestOptions {
    /// Attach empty programs, to measure the cost of the traps alone (for the benchmark)
    #[arg(long, hide = true)]
    pub bare_traps: bool,
    /// Maximum frames of each stack, to measure the cost of unwinding (for the benchmark)
    #[arg(long, hide = true, value_name = "N", default_value_t = limits::STACK_FRAMES, value_parser = frames())]
    pub frames: u32,
    /// Do not cache this, to measure what the cache saves (for the benchmark)
    #[arg(long, hide = true, value_name = "WHAT")]
    pub forget: Option<DisabledCache>,
    /// Read every outcome at the function's own return instructions, as if return probes were unsafe (for tests)
    #[arg(long, hide = true)]
    pub no_return_probes: bool,
    /// How to trace file descriptors (for tests)
    #[arg(long, hide = true, value_name = "HOW", default_value = BEST_BACKEND, value_parser = fd_backend())]
    pub fd_backend: RequestedBackend,
}

impl Default for TestOptions {
    fn default() -> Self {
        Self {
            bare_traps: false,
            frames: limits::STACK_FRAMES,
            forget: None,
            no_return_probes: false,
            fd_backend: None,
        }
    }
}

/// Parses a number of frames, up to the size of the programs' buffer.
fn frames() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(limits::STACK_FRAMES))
}

/// Parses the name of a backend.
fn fd_backend() -> impl TypedValueParser<Value = RequestedBackend> {
    let names = FdBackend::ALL.map(FdBackend::name);
    PossibleValuesParser::new(std::iter::once(BEST_BACKEND).chain(names))
        .map(|name| FdBackend::ALL.into_iter().find(|backend| backend.name() == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_decide_how_memory_is_traced() {
        let of = |light, kinds: &[ResourceKind]| {
            TraceOptions { light, kinds: kinds.to_vec(), ..TraceOptions::default() }.mode()
        };
        assert_eq!(of(false, &[ResourceKind::Fd, ResourceKind::Object]), TraceMode::Probes);
        assert_eq!(of(false, &[ResourceKind::Fd, ResourceKind::Socket]), TraceMode::None);
        assert_eq!(of(true, &[ResourceKind::Pages]), TraceMode::PageFaults);
    }
}
