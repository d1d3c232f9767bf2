//! The settings of a session, from the command line.
//!
//! Takes [`Cli`] and whether stdout is a terminal, passes on a [`Command`] with all defaults filled in and without
//! contradictions. Must not read processes, or files other than packs and suppressions.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use tracer_common::kind::ResourceKind;

pub use crate::cli::{CensusFormat, Format};
use crate::{
    cli::{Action, CensusArgs, Cli, ReportArgs, TOP_IN_TEXT, Trace},
    error::Failure,
    options::{Share, TraceOptions},
    packs::{Fault, Loaded, Pack, Sources},
    probes::user_defined::UserProbe,
    suppressions::{BadLine, Suppressions},
};

/// A refresh takes a few milliseconds on a large ledger: a shorter interval would only waste CPU time.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The shortest useful duration: attaching alone takes longer than that.
const MIN_DURATION: Duration = Duration::from_millis(1);

/// The command to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Trace and report.
    Trace(Box<Settings>),
    /// Check this host, and these processes.
    Doctor(Vec<u32>),
    /// Report what a tape has recorded.
    Replay(Replay),
    /// Count what is in a heap.
    Census(CensusSettings),
}

/// Whose heap to count, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct CensusSettings {
    /// The process.
    pub pid: u32,
    /// Format of the report.
    pub format: CensusFormat,
    /// File for it; stdout if `None`.
    pub output: Option<PathBuf>,
    /// Time between two of them; only one if `None`.
    pub every: Option<Duration>,
    /// When to stop; never if `None`.
    pub duration: Option<Duration>,
    /// Maximum number of types in text.
    pub top: usize,
    /// Bytes of one block of each type to show.
    pub show_content: usize,
    /// File for a list of all blocks; none if `None`.
    pub list_blocks: Option<PathBuf>,
    /// The share of one processor that reading may take.
    pub max_cpu: f64,
    /// How often `-v` was given.
    pub verbosity: u8,
}

/// How to replay a tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The tape.
    pub tape: PathBuf,
    /// Times after tracing began whose reports are wanted; the report of the end if empty.
    pub at: Vec<Duration>,
    /// Format of the report.
    pub format: Format,
    /// File for the report; stdout if `None`.
    pub output: Option<PathBuf>,
    /// Maximum number of call sites in the report; all if `None`.
    pub top: Option<usize>,
    /// The findings to hide.
    pub suppressions: Suppressions,
    /// The file that new suppressions are appended to.
    pub new_suppressions: PathBuf,
    /// Whether the report lists what they hide.
    pub show_suppressed: bool,
    /// How often `-v` was given.
    pub verbosity: u8,
}

/// Which targets to trace, what to trace of them, and where the report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The processes to trace.
    pub target: TargetSpec,
    /// What to trace, and how.
    pub options: TraceOptions,
    /// When to stop; never if `None`.
    pub duration: Option<Duration>,
    /// Time between two refreshes.
    pub interval: Duration,
    /// Format of the report.
    pub format: Format,
    /// File for the report; stdout if `None`.
    pub output: Option<PathBuf>,
    /// File for the log of connections; no log if `None`.
    pub log_connections: Option<PathBuf>,
    /// File for the tape; none if `None`.
    pub record: Option<PathBuf>,
    /// Whether the tape is without names and addresses of the target and its peers.
    pub redact: bool,
    /// The findings to hide.
    pub suppressions: Suppressions,
    /// The file that new suppressions are appended to.
    pub new_suppressions: PathBuf,
    /// Whether the report lists what they hide.
    pub show_suppressed: bool,
    /// User-defined probes.
    pub functions: Vec<UserProbe>,
    /// Packs of the libraries whose objects are traced; empty if objects are not traced.
    pub packs: Vec<Pack>,
    /// Errors in packs that were skipped.
    pub pack_faults: Vec<Fault>,
    /// Why descriptors, traced by default, are not traced; `None` if they are, or if nobody wants them.
    pub no_descriptors: Option<String>,
    /// How often `-v` was given.
    pub verbosity: u8,
}

/// The processes to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetSpec {
    /// Running processes without duplicates, in the given order; at least one.
    Pids(Vec<u32>),
    /// The running process with this name.
    Name(String),
    /// A command to start.
    Command {
        /// The program: a path, or a name to be found in `PATH`.
        program: OsString,
        /// Its arguments, without its name.
        args: Vec<OsString>,
    },
}

impl Command {
    /// Converts the command line. `terminal` says whether stdout is a terminal.
    pub fn from_cli(cli: Cli, terminal: bool) -> Result<Self, Failure> {
        match cli.action {
            Some(Action::Census(census)) => CensusSettings::from_cli(census).map(Self::Census),
            Some(Action::Doctor { pid }) => Ok(Self::Doctor(without_duplicates(pid))),
            Some(Action::Replay { tape, at, report, verbose }) => {
                if !at.is_empty() && report.format == Some(Format::Tui) {
                    return Err(Failure::ScreenAtTimes);
                }
                // The screen has no use for single moments.
                let (format, top) = format_and_top(&report, terminal && at.is_empty())?;
                Ok(Self::Replay(Replay {
                    tape,
                    at,
                    format,
                    top,
                    suppressions: suppressions(&report.suppress)?,
                    new_suppressions: new_suppressions(&report.suppress),
                    show_suppressed: report.show_suppressed,
                    output: report.output,
                    verbosity: verbose,
                }))
            }
            None => Settings::from_cli(cli.trace, terminal).map(Box::new).map(Self::Trace),
        }
    }
}

impl CensusSettings {
    fn from_cli(census: CensusArgs) -> Result<Self, Failure> {
        let every = census.every.map(|time| at_least("--every", time, MIN_INTERVAL)).transpose()?;
        Ok(Self {
            pid: census.pid,
            format: census.format,
            output: census.output,
            every,
            duration: census.duration,
            top: usize::try_from(census.top).unwrap_or(usize::MAX),
            show_content: usize::try_from(census.show_content).unwrap_or(usize::MAX),
            list_blocks: census.list_blocks,
            max_cpu: census.max_cpu.map_or(1.0, Share::fraction),
            verbosity: census.verbose,
        })
    }
}

impl Settings {
    /// The same settings for a host that cannot trace descriptors, if they are only traced by default.
    #[must_use]
    pub fn without_descriptors(&self, why: &str) -> Option<Self> {
        let options = self.options.without_descriptors()?;
        let why = format!("file descriptors and connections are not traced: {why}");
        Some(Self { options, no_descriptors: Some(why), ..self.clone() })
    }

    /// The settings without `--light`, for these processes.
    #[must_use]
    pub fn full(&self, pids: Vec<u32>) -> Self {
        let options = TraceOptions {
            light: false,
            kinds: ResourceKind::OFFERED.to_vec(),
            ..self.options.clone()
        };
        Self { target: TargetSpec::Pids(pids), options, ..self.clone() }
    }

    fn from_cli(trace: Trace, terminal: bool) -> Result<Self, Failure> {
        let target = TargetSpec::from_cli(trace.pid, trace.name, trace.command)?;
        let (format, top) = format_and_top(&trace.report, terminal)?;
        let without = trace.no_packs && trace.pack.is_empty();
        let kinds = kinds(trace.light, trace.max_overhead.is_some(), without, &trace.kind)?;
        // The user may switch from light to full tracing.
        let objects = kinds.contains(&ResourceKind::Object) || trace.light;
        let objects_are_named =
            trace.kind.contains(&ResourceKind::Object) || !trace.pack.is_empty();
        let Loaded { packs, faults: pack_faults } = packs(objects, trace.pack, !trace.no_packs)?;
        let descriptors_are_named =
            trace.kind.iter().any(|kind| kind.is_descriptor()) || trace.log_connections.is_some();
        let options = TraceOptions {
            kinds,
            objects_are_named,
            descriptors_are_named,
            light: trace.light,
            children: trace.children,
            max_overhead: trace.max_overhead,
            min_age: trace.min_age,
            allocator_prefixes: trace.allocator_prefix,
            // A tape may be replayed on the screen.
            live: format == Format::Tui || trace.record.is_some(),
            top,
            test_options: trace.test_options,
        };
        let settings = Self {
            target,
            options,
            duration: trace
                .duration
                .map(|time| at_least("--duration", time, MIN_DURATION))
                .transpose()?,
            interval: at_least("--interval", trace.interval, MIN_INTERVAL)?,
            format,
            suppressions: suppressions(&trace.report.suppress)?,
            new_suppressions: new_suppressions(&trace.report.suppress),
            show_suppressed: trace.report.show_suppressed,
            output: trace.report.output,
            log_connections: trace.log_connections,
            record: trace.record,
            redact: trace.redact,
            functions: [trace.alloc, trace.free].concat(),
            packs,
            pack_faults,
            no_descriptors: None,
            verbosity: trace.verbose,
        };
        if settings.log_connections.is_some() && !settings.options.traces_descriptors() {
            return Err(Failure::NothingToLog);
        }
        Ok(settings)
    }
}

impl TargetSpec {
    fn from_cli(
        pids: Vec<u32>,
        name: Option<String>,
        command: Vec<OsString>,
    ) -> Result<Self, Failure> {
        let mut words = command.into_iter();
        match (pids.is_empty(), name, words.next()) {
            (true, None, None) => Err(Failure::NoTarget),
            (false, None, None) => Ok(Self::Pids(without_duplicates(pids))),
            (true, Some(name), None) => Ok(Self::Name(name)),
            (true, None, Some(program)) => Ok(Self::Command { program, args: words.collect() }),
            (no_pid, name, program) => Err(Failure::SeveralTargets {
                given: [(!no_pid).then_some("-p"), name.map(|_| "-n"), program.map(|_| "-- CMD")]
                    .into_iter()
                    .flatten()
                    .collect(),
            }),
        }
    }
}

/// The format of the report, and the maximum number of call sites in it.
fn format_and_top(report: &ReportArgs, terminal: bool) -> Result<(Format, Option<usize>), Failure> {
    let format = match (report.format, &report.output) {
        (Some(Format::Tui), Some(path)) => {
            return Err(Failure::ScreenToFile { path: path.clone() });
        }
        (Some(Format::Tui), None) if !terminal => return Err(Failure::NoTerminal),
        (Some(format), _) => format,
        (None, None) if terminal => Format::Tui,
        (None, _) => Format::TEXT,
    };
    let top = match (report.top, format) {
        (None, Format::TEXT) => Some(TOP_IN_TEXT),
        (top, _) => top,
    };
    Ok((format, top.map(|top| usize::try_from(top).unwrap_or(usize::MAX))))
}

/// The kinds to trace: all by default. With a budget, which pauses recording, neither descriptors nor objects nor threads:
/// those opened, created or joined during a pause would be missed.
fn kinds(
    light: bool,
    budget: bool,
    without_packs: bool,
    given: &[ResourceKind],
) -> Result<Vec<ResourceKind>, Failure> {
    if light {
        return Ok(vec![ResourceKind::Pages]);
    }
    let needs_all = |kind: &&ResourceKind| {
        kind.is_descriptor() || matches!(kind, ResourceKind::Object | ResourceKind::Thread)
    };
    if let Some(kind) = given.iter().find(|kind| budget && needs_all(kind)) {
        return Err(Failure::NoBudgetFor { kind: kind.name() });
    }
    if given.is_empty() {
        let mut kinds = ResourceKind::OFFERED.to_vec();
        kinds.retain(|kind| match kind {
            ResourceKind::Object => !budget && !without_packs,
            kind => !budget || !needs_all(&kind),
        });
        return Ok(kinds);
    }
    Ok(ResourceKind::OFFERED.into_iter().filter(|kind| given.contains(kind)).collect())
}

/// Loads the packs given on the command line and, if `usual`, those compiled in and in the user's folder.
fn packs(objects: bool, files: Vec<PathBuf>, usual: bool) -> Result<Loaded, Failure> {
    if !objects {
        return if files.is_empty() { Ok(Loaded::default()) } else { Err(Failure::NoObjects) };
    }
    if files.is_empty() && !usual {
        return Err(Failure::NoPacks);
    }
    Ok(Sources { usual, folder: Sources::folder(), files }.load())
}

/// The last of the given files, else one in the current directory.
fn new_suppressions(files: &[PathBuf]) -> PathBuf {
    files.last().cloned().unwrap_or_else(|| PathBuf::from("leaktrace.supp"))
}

/// Reads the suppressions of all files, in their order.
fn suppressions(files: &[PathBuf]) -> Result<Suppressions, Failure> {
    let mut all = Suppressions::default();
    for path in files {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Failure::SuppressionsUnreadable { path: path.clone(), source })?;
        let of_file = Suppressions::parse(&text).map_err(|BadLine { line, why }| {
            Failure::BadSuppression { path: path.clone(), line, why }
        })?;
        all.append(of_file);
    }
    Ok(all)
}

/// The numbers without duplicates, in the order of their first occurrence.
fn without_duplicates(pids: Vec<u32>) -> Vec<u32> {
    let mut once = Vec::with_capacity(pids.len());
    for pid in pids {
        if !once.contains(&pid) {
            once.push(pid);
        }
    }
    once
}

fn at_least(flag: &'static str, time: Duration, least: Duration) -> Result<Duration, Failure> {
    if time < least { Err(Failure::TooShort { flag, time, least }) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn meant(words: &str, terminal: bool) -> Result<Command, Failure> {
        let words = std::iter::once("leaktrace").chain(words.split_whitespace());
        Command::from_cli(Cli::try_parse_from(words).unwrap(), terminal)
    }

    fn settings(words: &str, terminal: bool) -> Settings {
        match meant(words, terminal).unwrap() {
            Command::Trace(settings) => *settings,
            Command::Doctor(_) | Command::Replay(_) | Command::Census(_) => panic!("{words}"),
        }
    }

    #[test]
    fn processes_may_be_given_by_both_flags_and_count_once() {
        let wanted = settings("-p 7,8 --pid 9 -p 7", false).target;
        assert_eq!(wanted, TargetSpec::Pids(vec![7, 8, 9]));
    }

    #[test]
    fn a_command_keeps_its_own_flags() {
        let wanted = settings("-d 30s -- ./server -p 80 -- x", false).target;
        assert_eq!(
            wanted,
            TargetSpec::Command {
                program: "./server".into(),
                args: ["-p", "80", "--", "x"].map(OsString::from).to_vec(),
            }
        );
    }

    #[test]
    fn the_format_depends_on_the_destination_of_the_report() {
        const JSON: Format = Format::Export(crate::report::export::Format::Json);
        for (words, terminal, format, top) in [
            ("-p 1", true, Format::Tui, None),
            ("-p 1", false, Format::TEXT, Some(20)),
            ("-p 1 -o r.txt", true, Format::TEXT, Some(20)),
            ("-p 1 -f json", true, JSON, None),
            ("-p 1 -f json --top 3", true, JSON, Some(3)),
            ("-p 1 -f text --top 7", true, Format::TEXT, Some(7)),
        ] {
            let settings = settings(words, terminal);
            assert_eq!((settings.format, settings.options.top), (format, top), "{words}");
        }
    }

    #[test]
    fn defaults_are_filled_in() {
        let settings = settings("-n gateway", false);
        assert_eq!(settings.target, TargetSpec::Name("gateway".to_owned()));
        assert_eq!(settings.interval, Duration::from_secs(1));
        assert_eq!((settings.duration, settings.verbosity), (None, 0));
        let in_text = TraceOptions { top: Some(20), ..TraceOptions::default() };
        assert_eq!(settings.options, in_text);
    }

    #[test]
    fn kinds_come_in_the_order_of_the_list() {
        let kinds = |words: &str| settings(words, false).options.kinds;
        assert_eq!(kinds("-p 1 --kind mmap"), [ResourceKind::Mmap]);
        assert_eq!(kinds("-p 1 --kind mmap,heap"), [ResourceKind::Heap, ResourceKind::Mmap]);
    }

    #[test]
    fn every_kind_is_traced_by_default_unless_a_budget_or_no_packs_excludes_it() {
        use ResourceKind::{Fd, Heap, Mmap, Object, Socket, Thread};
        for (words, kinds) in [
            ("", &[Heap, Mmap, Fd, Socket, Object, Thread][..]),
            ("--no-packs", &[Heap, Mmap, Fd, Socket, Thread]),
            ("--max-overhead 5%", &[Heap, Mmap]),
            ("--log-connections c.log", &[Heap, Mmap, Fd, Socket, Object, Thread]),
        ] {
            assert_eq!(settings(&format!("-p 1 {words}"), false).options.kinds, kinds, "{words}");
        }
    }

    #[test]
    fn descriptors_are_left_out_on_a_host_that_cannot_trace_them_unless_they_are_named() {
        let without =
            |words: &str| settings(&format!("-p 1 {words}"), false).without_descriptors("no BTF");
        let left_out = without("").unwrap();
        let rest =
            [ResourceKind::Heap, ResourceKind::Mmap, ResourceKind::Object, ResourceKind::Thread];
        assert_eq!(left_out.options.kinds, rest);
        assert_eq!(
            left_out.no_descriptors.as_deref(),
            Some("file descriptors and connections are not traced: no BTF")
        );
        for named in
            ["--kind fd", "--kind heap,socket", "--log-connections c.log", "--kind heap", "--light"]
        {
            assert_eq!(without(named), None, "{named}");
        }
    }

    #[test]
    fn packs_are_read_where_objects_are_traced() {
        assert_eq!(settings("-p 1 --kind heap", false).packs, []);
        assert_eq!(settings("-p 1 --kind heap --no-packs", false).packs, []);
        let names = |words: &str| -> Vec<String> {
            let settings = settings(&format!("-p 1 --kind object {words}"), false);
            assert_eq!(settings.pack_faults, []);
            settings.packs.iter().map(|pack| pack.name.to_string()).collect()
        };
        let all = names("");
        assert!(
            ["libevent", "libzmq", "openssl", "usockets"]
                .iter()
                .all(|name| all.iter().any(|one| one == name))
        );
        let pack = concat!(env!("CARGO_MANIFEST_DIR"), "/../packs/libzmq.toml");
        assert_eq!(names(&format!("--no-packs --pack {pack}")), ["libzmq"]);
        let settings = settings("-p 1 --kind object --no-packs --pack nowhere.toml", false);
        let fault = settings.pack_faults.first().unwrap();
        assert!(fault.text.starts_with("nowhere.toml: could not read the pack: No such file"));
        assert_eq!((settings.packs.len(), settings.pack_faults.len()), (0, 1));
    }

    #[test]
    fn the_backend_of_descriptors_is_chosen_by_name() {
        use crate::options::FdBackend::{Kprobe, Tracepoint};
        let backend = |words: &str| settings(words, false).options.test_options.fd_backend;
        assert_eq!(backend("-p 1"), None);
        for (name, wanted) in
            [("auto", None), ("kprobe", Some(Kprobe)), ("tracepoint", Some(Tracepoint))]
        {
            assert_eq!(backend(&format!("-p 1 --fd-backend {name}")), wanted, "{name}");
        }
    }

    #[test]
    fn light_traces_pages_and_nothing_that_takes_a_probe() {
        let light = settings("--light -p 1", false).options;
        assert_eq!((light.light, light.kinds), (true, vec![ResourceKind::Pages]));
        for more in ["--children", "--kind heap", "--alloc f:size@0", "--free f"] {
            let words = format!("leaktrace --light -p 1 {more}");
            assert!(Cli::try_parse_from(words.split_whitespace()).is_err(), "{more}");
        }
        assert!(Cli::try_parse_from(["leaktrace", "--light", "--", "x"]).is_err());
    }

    #[test]
    fn full_equals_settings_without_light() {
        for rest in ["-p 7,8", "-p 7 -p 8 -i 250ms -d 1m --min-age 5s --top 3 -vv --frames 9"] {
            let light = settings(&format!("--light {rest}"), true);
            assert_eq!(light.full(vec![7, 8]), settings(rest, true));
        }
    }

    #[test]
    fn suppressions_are_read_from_every_file() {
        let folder = std::env::temp_dir();
        let file = |name: &str, text: &str| {
            let path = folder.join(format!("leaktrace-suppressions-{}-{name}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (one, bad) = (file("good", "leak:arena\n"), file("bad", "# ours\nrace:arena\n"));
        let given = format!("-p 1 --suppress {one} --suppress {one} --show-suppressed");
        let settings = settings(&given, false);
        let twice = Suppressions::parse("leak:arena\nleak:arena").unwrap();
        assert_eq!((settings.suppressions, settings.show_suppressed), (twice, true));
        assert_eq!(settings.new_suppressions, PathBuf::from(&one));
        let replayed = meant(&format!("replay tape --suppress {one}"), false).unwrap();
        let some = Suppressions::parse("leak:arena").unwrap();
        assert!(matches!(replayed, Command::Replay(replay) if replay.suppressions == some));
        for (file, line) in [
            (
                bad.as_str(),
                format!(
                    "could not read the suppression `{bad}:2`: suppressions of type `race` are of other tools"
                ),
            ),
            ("nowhere.supp", "could not read the suppressions `nowhere.supp`".to_owned()),
        ] {
            for action in ["-p 1", "replay tape"] {
                let refused = meant(&format!("{action} --suppress {file}"), false).unwrap_err();
                assert_eq!(refused.to_string(), line);
            }
        }
        assert!(Cli::try_parse_from(["leaktrace", "-p", "1", "--show-suppressed"]).is_err());
        [one, bad].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }

    #[test]
    fn contradictions_are_refused() {
        for (words, line) in [
            ("", "could not start tracing: no target given"),
            ("-p 1 -n x", "could not choose a target: both `-p` and `-n` were given"),
            ("-p 1 -n x -- y", "could not choose a target: `-p`, `-n` and `-- CMD` were given"),
            ("-p 1 -f tui", "could not open the terminal UI: stdout is not a terminal"),
            (
                "-p 1 -f tui -o r",
                "could not write the terminal UI to `r`: only text and JSON can go to a file",
            ),
            (
                "-p 1 --max-overhead 5% --kind heap,fd",
                "could not trace `fd` with `--max-overhead`: descriptors opened between two windows would be missed",
            ),
            (
                "-p 1 --kind heap --log-connections c.log",
                "could not log connections: file descriptors are not traced",
            ),
            (
                "-p 1 --max-overhead 5% --log-connections c.log",
                "could not log connections: file descriptors are not traced",
            ),
            (
                "-p 1 --light --log-connections c.log",
                "could not log connections: file descriptors are not traced",
            ),
            ("-p 1 --kind heap --pack x.toml", "could not use `--pack`: objects are not traced"),
            ("-p 1 --kind heap,object --no-packs", "could not trace `object`: no packs are loaded"),
            (
                "replay t -f tui --at 10s",
                "could not open the terminal UI with `--at`: only text and JSON show single moments",
            ),
            ("-p 1 -i 10ms", "could not use `--interval 10ms`: the minimum is 100ms"),
            ("-p 1 -d 0s", "could not use `--duration 0s`: the minimum is 1ms"),
        ] {
            assert_eq!(meant(words, false).unwrap_err().to_string(), line, "{words}");
        }
    }

    #[test]
    fn a_share_is_a_percentage_between_0_and_100() {
        let share = |words: &str| settings(words, false).options.max_overhead;
        assert_eq!(share("-p 1"), None);
        for (word, fraction) in [("5%", 0.05), ("0.25%", 0.0025), ("99.99%", 0.9999)] {
            let share = share(&format!("-p 1 --max-overhead {word}")).unwrap();
            assert!((share.fraction() - fraction).abs() < 1e-9, "{word}");
        }
        for (words, line) in [
            (
                "5% -i 30",
                "'30' for '--interval <TIME>': expected a duration, such as 500ms, 30s, 5m or 1h",
            ),
            ("5", "'5' for '--max-overhead <SHARE>': expected a percentage, such as 5%"),
            ("0%", "'0%' for '--max-overhead <SHARE>': it must be above 0% and below 100%"),
            ("0.001%", "'0.001%' for '--max-overhead <SHARE>': it must be above 0% and below 100%"),
            ("100%", "'100%' for '--max-overhead <SHARE>': it must be above 0% and below 100%"),
            ("NaN%", "'NaN%' for '--max-overhead <SHARE>': it must be above 0% and below 100%"),
            ("five%", "'five%' for '--max-overhead <SHARE>': `five` is not a number"),
            ("5% --light", "'--max-overhead <SHARE>' cannot be used with '--light'"),
            ("5% --children", "'--max-overhead <SHARE>' cannot be used with '--children'"),
        ] {
            let words = format!("leaktrace -p 1 --max-overhead {words}");
            let refused = Cli::try_parse_from(words.split_whitespace()).unwrap_err();
            let message = refused.to_string();
            assert!(message.lines().next().unwrap().contains(line), "{words}: {message}");
            assert_eq!(refused.exit_code(), 2);
        }
    }

    #[test]
    fn invalid_values_are_refused() {
        for words in ["-p 0", "-p x", "-d 30", "--top 0", "--kind pages", "-f xml", "doctor -n x"] {
            let words = std::iter::once("leaktrace").chain(words.split_whitespace());
            assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn times_of_a_tape_are_reported_as_text_even_on_a_terminal() {
        let replay = |words: &str| match meant(words, true).unwrap() {
            Command::Replay(replay) => replay,
            other => panic!("{other:?}"),
        };
        let seconds =
            |all: &[u64]| all.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
        let moments = replay("replay t --at 10s,1m --at 5s");
        assert_eq!((moments.at, moments.format), (seconds(&[10, 60, 5]), Format::TEXT));
        let whole = replay("replay t");
        assert_eq!((whole.at, whole.format), (seconds(&[]), Format::Tui));
    }

    #[test]
    fn the_doctor_takes_processes_too() {
        assert_eq!(meant("doctor", false).unwrap(), Command::Doctor(vec![]));
        assert_eq!(meant("doctor -p 4", true).unwrap(), Command::Doctor(vec![4]));
    }
}
