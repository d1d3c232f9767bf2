//! Chooses the targets.
//!
//! Takes the user's settings, passes on targets: running processes, or a command to start.

use crate::{
    error::{Failure, Match},
    options::TraceOptions,
    preflight::{Candidate, Facts, Roots},
    probes::Why,
    settings::{Settings, TargetSpec},
    target::{Identity, Pid, TargetError, find_by_name, identify},
};

/// `Seccomp:` in `/proc/PID/status` of a process with seccomp filters.
const FILTERED: u32 = 2;

/// The processes to trace.
pub(super) enum Targets {
    /// Running processes.
    Running(Vec<Identity>),
    /// A command, started once the programs are loaded.
    Command { program: std::ffi::OsString, args: Vec<std::ffi::OsString> },
}

impl Targets {
    /// The processes that are already running.
    pub(super) fn running(&self) -> &[Identity] {
        match self {
            Self::Running(identities) => identities,
            Self::Command { .. } => &[],
        }
    }
}

/// The targets according to `settings`.
pub(super) fn targets(settings: &Settings) -> anyhow::Result<Targets> {
    let pids = match &settings.target {
        TargetSpec::Command { program, args } => {
            return Ok(Targets::Command { program: program.clone(), args: args.clone() });
        }
        TargetSpec::Pids(pids) => pids.clone(),
        TargetSpec::Name(name) => vec![by_name(name)?],
    };
    let roots = Roots::default();
    let mut running = Vec::with_capacity(pids.len());
    for pid in pids {
        let candidate = Candidate::gather(&roots, pid)?;
        candidate.check()?;
        running.push(identify(Pid(pid)).map_err(explain)?);
    }
    Ok(Targets::Running(running))
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
        Targets::Running(all) => all.iter().any(|target| filtered(target.pid.0)),
        // A command inherits the filters of leaktrace.
        Targets::Command { .. } => filtered(Pid::own().0),
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
