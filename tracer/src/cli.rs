//! The command-line flags and their help.
//!
//! Takes the command line, passes on [`Cli`], which `settings` interprets. Checks single values only, not how they fit
//! together.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    ArgAction, Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use tracer_common::kind::ResourceKind;

use crate::{
    options::{Share, TestOptions},
    probes::user_defined::UserProbe,
    report::export,
};

/// Default number of call sites in text: about two screens, worst first.
pub const TOP_IN_TEXT: u32 = 20;

const AFTER_HELP: &str = "\
Durations have a unit: 500ms, 30s, 5m, 1h.
RUST_LOG, if set, overrides --verbose.

Examples:
  leaktrace -p 4121                            watch a running server
  leaktrace -n gateway -d 5m -f json -o r.json five minutes, then a report for programs
  leaktrace -p 4121 --max-overhead 5%          a server that must not slow down much
  leaktrace -d 30s --kind heap -- ./server -x  start a server and watch its heap

Exit status: 0 success, 2 failure (stderr says why and what helps).";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "leaktrace",
    version,
    about = "Finds the call paths that leak memory and file descriptors in a running process",
    override_usage = "leaktrace [OPTIONS] -p PID[,PID...]\n       \
                      leaktrace [OPTIONS] -n NAME\n       \
                      leaktrace [OPTIONS] -- CMD [ARGS]...\n       \
                      leaktrace replay [OPTIONS] FILE\n       \
                      leaktrace census [OPTIONS] -p PID\n       \
                      leaktrace doctor [-p PID]",
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Tracing, without a subcommand.
    #[command(flatten)]
    pub trace: Trace,
    /// Another action.
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// Actions other than tracing.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Check whether tracing will work on this host
    Doctor {
        /// Also check these processes
        #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = pid())]
        pid: Vec<u32>,
    },
    /// Count what is in the heap of a process, without tracing: every allocated block by size and by type, also those
    /// from long ago, and what the allocator keeps free
    Census(CensusArgs),
    /// Report what a tape of --record has recorded: no root, no target, no other file needed
    Replay {
        /// The tape
        #[arg(value_name = "FILE")]
        tape: PathBuf,
        /// Report as of these times after tracing began, separated by commas, instead of the end: the last refresh at
        /// or before each; with -f json a line of JSON for each
        #[arg(long, value_name = "TIME", value_delimiter = ',', value_parser = duration)]
        at: Vec<Duration>,
        /// The report
        #[command(flatten)]
        report: ReportArgs,
        /// Log progress to stderr; repeat for details
        #[arg(short, long, action = ArgAction::Count)]
        verbose: u8,
    },
}

/// The flags of tracing.
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
#[derive(Debug, Args)]
pub struct Trace {
    /// Trace these processes, separated by commas or given by repeated -p
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = pid())]
    pub pid: Vec<u32>,
    /// Trace the process with this name
    #[arg(short, long, value_name = "NAME")]
    pub name: Option<String>,
    /// Start this command and trace it from its first instruction
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    /// Trace without probes, for hosts that must not slow down: shows which call stacks make memory grow by first
    /// touching it, resident memory, and file descriptors by type
    #[arg(
        long,
        conflicts_with_all = ["command", "children", "kind", "alloc", "free", "allocator_prefix", "pack", "no_packs"]
    )]
    pub light: bool,
    /// Also trace processes that the targets start from now on. Meanwhile every other process that uses the same
    /// C library hits the probes too, and is slowed down by them
    #[arg(long)]
    pub children: bool,
    /// Limit the cost of tracing to this share of the targets' CPU time, such as 5%: if continuous tracing costs
    /// more, trace in short windows and estimate the rest
    #[arg(long, value_name = "SHARE", conflicts_with_all = ["light", "children"])]
    pub max_overhead: Option<Share>,
    /// Stop after this time [default: at Ctrl-C, or q in the terminal UI]
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Refresh interval, 100ms or more
    #[arg(
        short, long, value_name = "TIME", default_value = "1s",
        value_parser = duration
    )]
    pub interval: Duration,
    /// The report
    #[command(flatten)]
    pub report: ReportArgs,
    /// Append a line of JSON to this file for each connection that is opened or closed, or that left something behind
    #[arg(long, value_name = "FILE")]
    pub log_connections: Option<PathBuf>,
    /// Record all that is traced on a tape, from which leaktrace replay makes the same reports again, anywhere
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Leave names and addresses of the target, its users and its peers out of the tape, so that it can be sent to
    /// others
    #[arg(long, requires = "record")]
    pub redact: bool,
    /// Count only resources of at least this age as outstanding
    #[arg(
        long, value_name = "TIME", default_value = "0s",
        value_parser = duration
    )]
    pub min_age: Duration,
    /// Trace only these kinds of resources [default: all]
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind())]
    pub kind: Vec<ResourceKind>,
    /// Also probe this allocation function: [LIB!]FUNC:SHAPE; an address 0xADDR refers to the executable.
    /// SHAPE is size@N, count@N,size@M or out@N,size@M, with arguments counted from 0; append ,throws
    /// if FUNC may throw a C++ exception
    #[arg(long, value_name = "FUNC:SHAPE", value_parser = UserProbe::alloc)]
    pub alloc: Vec<UserProbe>,
    /// Probe this function, which releases what --alloc acquires: [LIB!]FUNC, or FUNC:handle@N
    #[arg(long, value_name = "FUNC", value_parser = UserProbe::free)]
    pub free: Vec<UserProbe>,
    /// Also look for an allocator whose function names are PREFIX followed by malloc, free ...
    #[arg(long, value_name = "PREFIX")]
    pub allocator_prefix: Vec<String>,
    /// Also load this pack of library object types (see docs/packs.md); it replaces a built-in pack of the same name;
    /// requires --kind object
    #[arg(long, value_name = "FILE")]
    pub pack: Vec<PathBuf>,
    /// Load only the packs given by --pack: neither the built-in ones, nor those in
    /// ~/.config/leaktrace/packs
    #[arg(long)]
    pub no_packs: bool,
    /// Log progress to stderr; repeat for details
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// For benchmarks and tests
    #[command(flatten)]
    pub test_options: TestOptions,
}

/// The flags of a report.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ReportArgs {
    /// Format of the report [default: tui on a terminal without --output, else text]
    #[arg(short, long, value_name = "FORMAT", value_parser = format())]
    pub format: Option<Format>,
    /// Write the report to this file, which is replaced atomically [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// List at most this many call sites, worst first [default: 20 in text, else all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// Hide findings with part of a function, source file or module in their stack that a line leak:PATTERN of this file
    /// names (see docs/modes.md)
    #[arg(long, value_name = "FILE")]
    pub suppress: Vec<PathBuf>,
    /// List what the suppressions hide
    #[arg(long, requires = "suppress")]
    pub show_suppressed: bool,
}

/// The flags of a census.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct CensusArgs {
    /// The process
    #[arg(short, long, value_name = "PID", value_parser = pid())]
    pub pid: u32,
    /// Format of the census
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = CensusFormat::Text)]
    pub format: CensusFormat,
    /// Write it to this file, which is replaced atomically [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Take one after each such time, and report what has changed; with -f json a line of JSON for each
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub every: Option<Duration>,
    /// Stop after this time [default: at Ctrl-C, or when the process ends]
    #[arg(short, long, value_name = "TIME", value_parser = duration, requires = "every")]
    pub duration: Option<Duration>,
    /// List at most this many types
    #[arg(long, value_name = "N", default_value_t = TOP_IN_TEXT, value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,
    /// Show the first N bytes of one block of each type, in hexadecimal: they may contain secrets
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub show_content: u32,
    /// Also write all blocks to this file, a line each: address, usable bytes, type
    #[arg(long, value_name = "FILE", conflicts_with = "every")]
    pub list_blocks: Option<PathBuf>,
    /// Limit the cost of reading to this share of one processor [default: no limit]
    #[arg(long, value_name = "SHARE")]
    pub max_cpu: Option<Share>,
    /// Log progress to stderr; repeat for details
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The format of a census.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CensusFormat {
    /// Plain text
    Text,
    /// JSON, described by docs/census.schema.json
    Json,
}

/// The format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// On the screen, as long as leaktrace runs.
    Tui,
    /// Written once, at the end.
    Export(export::Format),
}

impl Format {
    /// The default where there is no terminal.
    pub const TEXT: Self = Self::Export(export::Format::Text);

    /// The format of the written report: text after a terminal UI that has failed.
    pub const fn written(self) -> export::Format {
        match self {
            Self::Tui => export::Format::Text,
            Self::Export(format) => format,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        let exports = export::Format::ALL.iter().copied().map(Self::Export);
        std::iter::once(Self::Tui).chain(exports)
    }

    /// Its name, and its description in the help.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Tui => ("tui", "Terminal UI"),
            Self::Export(format) => (format.name(), format.sentence()),
        }
    }
}

/// Parses a duration. The parser's own error message suggests units that the help does not mention.
fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).or(Err("expected a duration, such as 500ms, 30s, 5m or 1h"))
}

/// Parses a process id: ids are positive and fit into 31 bits.
fn pid() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(i32::MAX))
}

/// Parses the name of a format.
fn format() -> impl TypedValueParser<Value = Format> {
    let possible = |format: Format| {
        let (name, sentence) = format.words();
        PossibleValue::new(name).help(sentence)
    };
    PossibleValuesParser::new(Format::all().map(possible)).try_map(|name| {
        Format::all().find(|format| format.words().0 == name).ok_or("unknown format")
    })
}

/// Parses the name of a kind.
fn kind() -> impl TypedValueParser<Value = ResourceKind> {
    PossibleValuesParser::new(
        ResourceKind::OFFERED.map(|kind| PossibleValue::new(kind.name()).help(kind.sentence())),
    )
    .try_map(|name| {
        ResourceKind::OFFERED.into_iter().find(|kind| kind.name() == name).ok_or("unknown kind")
    })
}
