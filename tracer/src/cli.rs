//! The flags and their words, nothing else.
//!
//! Takes the command line, hands on [`Cli`] as it was typed; `settings` says what it means. Checks
//! only what a single word can get wrong.

use std::{ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

use clap::{
    ArgAction, Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use tracer_common::{kind::Kind, limits};

use crate::probes::wish::Wish;

/// Text lists that many call sites unless told otherwise: about two screens, worst first.
pub const TOP_IN_TEXT: u32 = 20;

const AFTER_HELP: &str = "\
Durations carry their unit: 500ms, 30s, 5m, 1h.
RUST_LOG, if set, overrides --verbose.

Examples:
  leaktrace -p 4121                            watch a running server
  leaktrace -n gateway -d 5m -f json -o r.json five minutes, then a report for programs
  leaktrace -p 4121 --max-overhead 5%          a server that may not slow down by more
  leaktrace -d 30s --kind heap -- ./server -x  start a server and watch its heap

Exit status: 0 done, 2 could not do the work (stderr says why and what helps).";

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "leaktrace",
    version,
    about = "Names the call path that acquires what is never released, on a live process",
    override_usage = "leaktrace [OPTIONS] -p PID[,PID...]\n       \
                      leaktrace [OPTIONS] -n NAME\n       \
                      leaktrace [OPTIONS] -- CMD [ARGS]...\n       \
                      leaktrace doctor [-p PID]",
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Tracing, when no other deed is named.
    #[command(flatten)]
    pub trace: Trace,
    /// Another deed.
    #[command(subcommand)]
    pub deed: Option<Deed>,
}

/// Deeds other than tracing.
#[derive(Debug, Subcommand)]
pub enum Deed {
    /// Say what this host allows, and whether tracing will work
    Doctor {
        /// Also say what stands in the way of tracing these processes
        #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = pid())]
        pid: Vec<u32>,
    },
}

/// The flags of tracing.
#[derive(Debug, Args)]
pub struct Trace {
    /// Trace these processes; several by commas, or by several -p
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = pid())]
    pub pid: Vec<u32>,
    /// Trace the process with this name
    #[arg(short, long, value_name = "NAME")]
    pub name: Option<String>,
    /// Start this command and trace it from its first instruction
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    /// Put nothing into the targets, for hosts where nothing may slow down: shows which stacks' first touches
    /// make memory grow, resident memory, and file descriptors by type
    #[arg(
        long,
        conflicts_with_all = ["command", "children", "kind", "alloc", "free", "allocator_prefix", "pack", "no_packs"]
    )]
    pub light: bool,
    /// Also trace what the targets fork and start from now on. Every other process that uses the same
    /// C library meets the probes meanwhile, too, and is slowed down by their traps
    #[arg(long)]
    pub children: bool,
    /// Keep what tracing costs the targets under this share of their processor time, as in 5%: where tracing all the
    /// time would cost more, trace in short windows, and estimate the rest
    #[arg(long, value_name = "SHARE", conflicts_with_all = ["light", "children"])]
    pub max_overhead: Option<Share>,
    /// Stop by itself after this time (else Ctrl-C, or q in the terminal UI)
    #[arg(short, long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Refresh this often, at least every 100ms apart
    #[arg(
        short, long, value_name = "TIME", default_value = "1s",
        value_parser = humantime::parse_duration
    )]
    pub interval: Duration,
    /// Form of the report [default: tui on a terminal without --output, else text]
    #[arg(short, long, value_name = "FORM", value_enum)]
    pub format: Option<Format>,
    /// Write the report to this file, put in place when complete [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Add a line of JSON to this file for each connection that is opened or closed, or that left something behind;
    /// takes --kind fd,socket
    #[arg(long, value_name = "FILE")]
    pub log_connections: Option<PathBuf>,
    /// List at most this many call sites, worst first [default: 20 as text, else all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// Count as outstanding only what is at least this old
    #[arg(
        long, value_name = "TIME", default_value = "0s",
        value_parser = humantime::parse_duration
    )]
    pub min_age: Duration,
    /// Trace only these kinds of resources [default: heap,mmap,object]
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind())]
    pub kind: Vec<Kind>,
    /// Probe this function too: [LIB!]FUNC:SHAPE; an address 0xADDR is the executable's own.
    /// SHAPE is size@N, count@N,size@M or out@N,size@M, with arguments counted from 0; and ,throws behind
    /// it if FUNC may throw a C++ exception
    #[arg(long, value_name = "FUNC:SHAPE", value_parser = Wish::alloc)]
    pub alloc: Vec<Wish>,
    /// Probe this function that releases what --alloc acquires: [LIB!]FUNC, or FUNC:handle@N
    #[arg(long, value_name = "FUNC", value_parser = Wish::free)]
    pub free: Vec<Wish>,
    /// Look for an allocator too whose functions are named so: PREFIX and malloc, free, calloc ...
    #[arg(long, value_name = "PREFIX")]
    pub allocator_prefix: Vec<String>,
    /// Know a library's objects by this pack, too (docs/packs.md says how to write one), or by it instead, where
    /// leaktrace has one of the same name; takes --kind object
    #[arg(long, value_name = "FILE")]
    pub pack: Vec<PathBuf>,
    /// Know objects by what --pack names only: not by the packs that leaktrace has, nor by those in
    /// ~/.config/leaktrace/packs
    #[arg(long)]
    pub no_packs: bool,
    /// Say on stderr what is being done; twice for details
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// For benchmarks and tests
    #[command(flatten)]
    pub trial: Trial,
}

/// The hidden flags of benchmarks and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct Trial {
    /// Same probes with empty programs: what the traps alone cost (for the benchmark)
    #[arg(long, hide = true)]
    pub bare_traps: bool,
    /// Frames taken of each stack: what unwinding costs (for the benchmark)
    #[arg(long, hide = true, value_name = "N", default_value_t = limits::STACK_FRAMES, value_parser = frames())]
    pub frames: u32,
    /// Do not remember this of stacks: what remembering saves (for the benchmark)
    #[arg(long, hide = true, value_name = "WHAT")]
    pub forget: Option<Forgettable>,
    /// Read every outcome at the function's own return instructions, as where a return probe could do
    /// harm (for tests)
    #[arg(long, hide = true)]
    pub no_return_probes: bool,
    /// How file descriptors are seen (for tests)
    #[arg(long, hide = true, value_name = "HOW", value_enum, default_value_t = FdBackend::Auto)]
    pub fd_backend: FdBackend,
}

/// How file descriptors are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FdBackend {
    /// In the best way that the kernel allows
    Auto,
    /// By probes on functions of the kernel
    Kprobe,
    /// At every system call
    Tracepoint,
}

/// What of stacks need not be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Forgettable {
    /// Walks made before
    Walks,
    /// The unwind rules of addresses, and so walks
    Addresses,
}

/// The form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Terminal UI
    Tui,
    /// For people, once, at the end
    Text,
    /// For programs, as docs/report.schema.json describes it
    Json,
}

/// A share of something, above 0 and below 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        let percent = text.strip_suffix('%').ok_or("a share in percent is wanted, as in 5%")?;
        let Ok(percent) = percent.trim().parse::<f64>() else {
            return Err(format!("`{percent}` is no number"));
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

/// Process ids: the kernel's are positive and fit 31 bits.
fn pid() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(i32::MAX))
}

/// Frames of a stack: no more than there is room for.
fn frames() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(limits::STACK_FRAMES))
}

/// Kinds by their names, as the one list has them.
fn kind() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(
        Kind::OFFERED.map(|kind| PossibleValue::new(kind.name()).help(kind.sentence())),
    )
    .try_map(|name| {
        Kind::OFFERED.into_iter().find(|kind| kind.name() == name).ok_or("no kind has this name")
    })
}
