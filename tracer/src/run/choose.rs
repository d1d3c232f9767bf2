//! Which processes were meant.
//!
//! Takes what was typed, hands on targets: running ones, or a command still to be started.

use crate::{
    error::{Failure, Match},
    preflight::{Candidate, Facts, Roots},
    settings::{Settings, Wanted},
    target::{Identity, Pid, TargetError, find_by_name, identify},
};

/// `Seccomp:` of a process whose system calls go through filters.
const FILTERED: u32 = 2;

/// Who is to be traced.
pub(super) enum Targets {
    /// Processes that run.
    Running(Vec<Identity>),
    /// A command, started once the programs are loaded.
    Command { program: std::ffi::OsString, args: Vec<std::ffi::OsString> },
}

impl Targets {
    /// The processes that run already.
    pub(super) fn running(&self) -> &[Identity] {
        match self {
            Self::Running(identities) => identities,
            Self::Command { .. } => &[],
        }
    }
}

/// The targets that `settings` mean.
pub(super) fn targets(settings: &Settings, facts: &Facts) -> anyhow::Result<Targets> {
    // Its probes are in every process that uses the same library.
    if settings.children && facts.return_probes_meet_seccomp() {
        return Err(Failure::ChildrenMeetSeccomp { kernel: facts.kernel.clone() }.into());
    }
    let pids = match &settings.target {
        Wanted::Command { program, args } => {
            return Ok(Targets::Command { program: program.clone(), args: args.clone() });
        }
        Wanted::Pids(pids) => pids.clone(),
        Wanted::Name(name) => vec![by_name(name)?],
    };
    let roots = Roots::default();
    let mut running = Vec::with_capacity(pids.len());
    for pid in pids {
        let candidate = Candidate::gather(&roots, pid)?;
        candidate.check()?;
        check_seccomp(&candidate, facts)?;
        running.push(identify(Pid(pid)).map_err(explain)?);
    }
    Ok(Targets::Running(running))
}

/// Refuses a target that a return probe could kill: better no answer than a dead server.
fn check_seccomp(candidate: &Candidate, facts: &Facts) -> Result<(), Failure> {
    if candidate.seccomp == Some(FILTERED) && facts.return_probes_meet_seccomp() {
        let (pid, kernel) = (candidate.pid, facts.kernel.clone());
        return Err(Failure::SeccompFilter { pid, kernel });
    }
    Ok(())
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

/// A target's failure, with the help that goes with it.
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

/// A failure after the attach had begun: a process that is gone by then has ended meanwhile.
pub(super) fn explain_late(pid: Pid, error: TargetError) -> anyhow::Error {
    match error {
        TargetError::NoSuchProcess(_) | TargetError::Ended(_) => {
            Failure::Ended { pid: pid.0 }.into()
        }
        other => explain(other),
    }
}
