//! Chooses the targets.
//!
//! Takes the user's settings, passes on targets: running processes, or a command to start.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use tracer_common::limits;

use crate::{
    cli::Format,
    error::{Failure, Match},
    options::TraceOptions,
    preflight::{Candidate, Facts, Roots},
    probes::Why,
    settings::{Settings, TargetSpec},
    target::{Identity, Pid, TargetError, descendants::descendants, find_by_name, identify},
};

/// `Seccomp:` in `/proc/PID/status` of a process with seccomp filters.
const FILTERED: u32 = 2;

/// Descendants that are adopted at most: as many more targets are left for processes that they fork.
const ADOPTED: usize = limits::TARGETS as usize / 2;

/// Processes that are running already.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// The targets, those that the user has given first.
    pub(super) all: Vec<Identity>,
    /// The parents of the others.
    pub(super) parents: BTreeMap<Pid, Pid>,
    /// What is not traced, for every report.
    pub(super) warnings: Vec<String>,
}

impl Running {
    /// Adds the descendants of the targets that are not among them, and can be traced. Returns how many it added.
    pub(super) fn adopt(&mut self) -> usize {
        let known: Vec<Pid> = self.all.iter().map(|one| one.pid).collect();
        let found = descendants(&known);
        let before = self.all.len();
        for (pid, parent) in &found {
            if self.parents.len() >= ADOPTED {
                let text =
                    format!("more than {ADOPTED} descendants were running: not all are traced");
                if !self.warnings.contains(&text) {
                    self.warnings.push(text);
                }
                break;
            }
            // One that has ended meanwhile is no loss, and a thread of the kernel has no memory.
            if let Ok(identity) = identify(*pid) {
                self.parents.insert(*pid, *parent);
                self.all.push(identity);
            }
        }
        self.all.len() - before
    }

    /// Says how many descendants are not traced.
    fn count_others(&mut self) {
        for one in &self.all {
            let count = descendants(&[one.pid]).len();
            if count > 0 {
                let (children, are) =
                    if count == 1 { ("child", "is") } else { ("children", "are") };
                let pid = one.pid;
                self.warnings.push(format!(
                    "{count} {children} of {pid} {are} not traced; --children adds them"
                ));
            }
        }
    }
}

/// A command to start.
pub(super) struct CommandLine {
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
    /// Where its output goes while the screen has the terminal.
    pub(super) output: Option<PathBuf>,
}

/// A file in the folder for temporary files.
fn output_of(program: &OsStr) -> PathBuf {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    env::temp_dir().join(format!("leaktrace-{name}-{}.log", std::process::id()))
}

/// The processes to trace.
pub(super) enum Targets {
    /// Running processes.
    Running(Running),
    /// A command, started once the programs are loaded.
    Command(CommandLine),
}

impl Targets {
    /// The processes that are already running.
    pub(super) fn running(&self) -> &[Identity] {
        match self {
            Self::Running(running) => &running.all,
            Self::Command(_) => &[],
        }
    }

    /// Where the output of the command goes, if there is one and the screen has the terminal.
    pub(super) fn command_output(&self) -> Option<PathBuf> {
        match self {
            Self::Command(command) => command.output.clone(),
            Self::Running(_) => None,
        }
    }
}

/// The targets according to `settings`.
pub(super) fn targets(settings: &Settings) -> anyhow::Result<Targets> {
    let pids = match &settings.target {
        TargetSpec::Command { program, args } => {
            let output = (settings.format == Format::Tui).then(|| output_of(program));
            return Ok(Targets::Command(CommandLine {
                program: program.clone(),
                args: args.clone(),
                output,
            }));
        }
        TargetSpec::Pids(pids) => pids.clone(),
        TargetSpec::Name(name) => vec![by_name(name)?],
    };
    let roots = Roots::default();
    let mut running = Running::default();
    let mut ended = None;
    let several = pids.len() > 1;
    for pid in pids {
        match candidate(&roots, pid) {
            Ok(identity) => running.all.push(identity),
            // The others go on without it.
            Err(error) if several && is_gone(&error) => {
                running.warnings.push(format!("process {pid} is not traced: it does not exist"));
                ended = ended.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    match ended {
        Some(error) if running.all.is_empty() => return Err(error),
        _ => {}
    }
    if settings.options.children {
        running.adopt();
    } else {
        running.count_others();
    }
    Ok(Targets::Running(running))
}

/// The identity of a process, if it can be traced.
fn candidate(roots: &Roots, pid: u32) -> anyhow::Result<Identity> {
    if pid == std::process::id() {
        return Err(Failure::Itself { pid }.into());
    }
    Candidate::gather(roots, pid)?.check()?;
    identify(Pid(pid)).map_err(explain)
}

/// A process that leaktrace may not inspect.
fn protected(pid: Pid, what: &'static str) -> Failure {
    let permitted = |pid: u32| {
        let candidate = Candidate::gather(&Roots::default(), pid).ok();
        candidate.and_then(|one| one.capabilities).unwrap_or(0)
    };
    let more_capable = permitted(pid.0) & !permitted(Pid::own().0) != 0;
    Failure::Protected { pid: pid.0, what, more_capable }
}

/// Whether a target has ended, or never existed.
pub(super) fn is_gone(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<Failure>(),
        Some(Failure::NoSuchProcess { .. } | Failure::Ended { .. } | Failure::Zombie { .. })
    )
}

/// Why this session must not use return probes, if so: they could kill a probed process. If children are traced, every
/// process that uses the same library is probed.
pub(super) fn without_return_probes(
    options: &TraceOptions,
    facts: &Facts,
    targets: &Targets,
) -> Option<Why> {
    if options.test_options.no_return_probes {
        return Some(Why::Requested);
    }
    let filtered = |pid: u32| {
        let candidate = Candidate::gather(&Roots::default(), pid);
        candidate.is_ok_and(|one| one.seccomp == Some(FILTERED))
    };
    let any = || match targets {
        Targets::Running(running) => running.all.iter().any(|target| filtered(target.pid.0)),
        // A command inherits the filters of leaktrace.
        Targets::Command(_) => filtered(Pid::own().0),
    };
    let harmful = facts.return_probes_meet_seccomp() && (options.children || any());
    harmful.then_some(Why::Seccomp)
}

fn by_name(name: &str) -> Result<u32, Failure> {
    let found = find_by_name(name);
    match found.as_slice() {
        [] => Err(Failure::NoSuchName { name: name.to_owned() }),
        [one] => Ok(one.pid.0),
        several => Err(Failure::AmbiguousName {
            name: name.to_owned(),
            matches: several
                .iter()
                .map(|one| Match { pid: one.pid.0, cmdline: one.cmdline.join(" ") })
                .collect(),
        }),
    }
}

/// A target's failure, with its help.
pub(super) fn explain(error: TargetError) -> anyhow::Error {
    match error {
        TargetError::NoSuchProcess(pid) => Failure::NoSuchProcess { pid: pid.0 }.into(),
        TargetError::Ended(pid) => Failure::Ended { pid: pid.0 }.into(),
        TargetError::Permission { pid, what } => protected(pid, what).into(),
        TargetError::KernelThread(pid) => Failure::KernelThread { pid: pid.0 }.into(),
        TargetError::CommandNotFound(program) => Failure::CommandNotFound { program }.into(),
        TargetError::CommandRefused { command, source } => {
            Failure::CommandNotStarted { program: command, source }.into()
        }
        other => anyhow::Error::from(other),
    }
}

/// A failure after attaching has begun: a process that no longer exists has ended meanwhile.
pub(super) fn explain_late(pid: Pid, error: TargetError) -> anyhow::Error {
    match error {
        TargetError::NoSuchProcess(_) | TargetError::Ended(_) => {
            Failure::Ended { pid: pid.0 }.into()
        }
        other => explain(other),
    }
}
