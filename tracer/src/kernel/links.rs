//! Attaches programs to functions, and keeps them there.
//!
//! Takes attach points, hands on what the kernel says to each. Whole groups of points are put on at once
//! where the kernel can do that ([`Multi`]), else one by one.

use std::{
    num::NonZeroU32,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
};

use aya::{
    Ebpf,
    maps::Array,
    programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
};
use tracer_common::{
    attach::{Cookie, ProbeNumber},
    object::Function,
};

use super::{
    multi::Multi,
    object::{Failed, program_failed, uprobe},
    old_kernels::OldKernelProbes,
    program::Program,
    tables::{OBJECT_FUNCTIONS, Plain},
};

/// Where a program is put, and what it is told at a hit there.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// What the program is told.
    pub cookie: Cookie,
}

/// What keeps a group of points probed, until it is dropped.
pub enum Link {
    /// Many points.
    Link {
        /// Held.
        _fd: OwnedFd,
    },
    /// One.
    Event {
        /// Held.
        _link: UProbeLink,
    },
    /// One, on a kernel without attach cookies.
    OldKernelProbes {
        /// Held.
        _fd: OwnedFd,
    },
}

/// How programs are put on.
pub(super) enum AttachBackend {
    /// Many points at once.
    Multi(Multi),
    /// One by one.
    One,
    /// One by one, each with a program of its own.
    OldKernelProbes(Box<OldKernelProbes>),
    /// At page faults, on a kernel without attach cookies: the program, and its events.
    Touch(OwnedFd, Vec<OwnedFd>),
}

/// A program on points of one file.
struct Group {
    program: Program,
    pid: Option<NonZeroU32>,
    path: PathBuf,
    points: Vec<Point>,
    /// Empty when it is let go of.
    grips: Vec<Link>,
}

/// The loaded programs and what they are attached to; dropping it takes the probes out.
pub struct Programs {
    pub(super) ebpf: Ebpf,
    pub(super) way: AttachBackend,
    groups: Vec<Group>,
    /// What programs at events are there by.
    _events: Vec<OwnedFd>,
    /// Nothing is put on until `attach_again`.
    loose: bool,
}

impl Programs {
    /// Loaded, and attached nowhere.
    pub(super) const fn new(ebpf: Ebpf, way: AttachBackend, events: Vec<OwnedFd>) -> Self {
        Self { ebpf, way, groups: Vec::new(), _events: events, loose: false }
    }

    /// Tells the programs what the function of a probe does to objects of its library.
    pub fn describe(&mut self, probe: ProbeNumber, function: Function) -> Result<(), Failed> {
        let missing = Failed::Missing { name: OBJECT_FUNCTIONS };
        let Some(map) = self.ebpf.map_mut(OBJECT_FUNCTIONS) else { return Err(missing) };
        let mut functions: Array<_, Plain<Function>> = map.try_into().map_err(|_wrong| missing)?;
        functions.set(probe.into(), Plain(function), 0).map_err(|error| Failed::Map {
            map: OBJECT_FUNCTIONS.to_owned(),
            source: std::io::Error::other(error),
        })
    }

    /// Attaches `program` to `points` of the file `path`: for the process `pid`, or for every process
    /// that maps the file. Returns the outcome for each point.
    pub fn attach(
        &mut self,
        program: Program,
        pid: Option<NonZeroU32>,
        path: &Path,
        points: &[Point],
    ) -> Vec<Result<(), Failed>> {
        let at_once = matches!(self.way, AttachBackend::Multi(_)) && points.len() > 1;
        if at_once && self.attach_group(program, pid, path, points).is_ok() {
            return points.iter().map(|_| Ok(())).collect();
        }
        // One by one: so it is known which of them is refused.
        let alone = |point| self.attach_group(program, pid, path, std::slice::from_ref(point));
        points.iter().map(alone).collect()
    }

    /// Takes out the probes that `is_meant` names, of the process `pid` or of every process. The other points of a link
    /// that has some of them are attached again; an error says that some could not be.
    pub fn detach(
        &mut self,
        pid: Option<NonZeroU32>,
        is_meant: impl Fn(ProbeNumber) -> bool,
    ) -> Result<(), Failed> {
        let meant = |point: &Point| is_meant(point.cookie.probe());
        let mut outcome = Ok(());
        for mut group in std::mem::take(&mut self.groups) {
            if group.pid != pid || !group.points.iter().any(meant) {
                self.groups.push(group);
                continue;
            }
            group.points.retain(|point| !meant(point));
            if !group.points.is_empty() {
                // First, or hits would be seen twice.
                group.grips.clear();
                let Group { program, pid, path, points, .. } = &group;
                outcome = outcome.and(self.attach_group(*program, *pid, path, points));
            }
        }
        outcome
    }

    fn attach_group(
        &mut self,
        program: Program,
        pid: Option<NonZeroU32>,
        path: &Path,
        points: &[Point],
    ) -> Result<(), Failed> {
        let grips = if self.loose { Vec::new() } else { self.grip(program, pid, path, points)? };
        let (path, points) = (path.to_owned(), points.to_vec());
        self.groups.push(Group { program, pid, path, points, grips });
        Ok(())
    }

    /// Takes hold of points, of all or of none, until what is returned is dropped.
    pub fn grip(
        &mut self,
        program: Program,
        pid: Option<NonZeroU32>,
        path: &Path,
        points: &[Point],
    ) -> Result<Vec<Link>, Failed> {
        let (name, at_return) = (program.name(), program.is_at_return());
        match &mut self.way {
            AttachBackend::Multi(multi) => {
                let fd = multi.link(name, at_return, pid, path, points)?;
                return Ok(vec![Link::Link { _fd: fd }]);
            }
            AttachBackend::OldKernelProbes(older) => {
                let mut attach = |point| older.attach(name, at_return, pid, path, point);
                return points
                    .iter()
                    .map(|point| Ok(Link::OldKernelProbes { _fd: attach(point)? }))
                    .collect();
            }
            AttachBackend::One | AttachBackend::Touch(..) => {}
        }
        let scope = pid.map_or(UProbeScope::AllProcesses, UProbeScope::OneProcess);
        let program = uprobe(&mut self.ebpf, name)?;
        let attach = |Point { offset, cookie }: &Point| {
            let location = UProbeAttachLocation::AbsoluteOffset(*offset);
            let point = UProbeAttachPoint { location, cookie: Some(cookie.0) };
            let id = program.attach(point, path, scope);
            let link = id.and_then(|id| program.take_link(id));
            link.map(|link| Link::Event { _link: link })
                .map_err(|error| program_failed(name, error))
        };
        points.iter().map(attach).collect()
    }

    /// Takes all probes out, and remembers where they were. On return the targets meet none any more. What is
    /// attached meanwhile is stack_cache only.
    pub fn detach_all(&mut self) {
        self.loose = true;
        // Each link waits once until no processor is in its program: they may as well wait together.
        thread::scope(|scope| {
            for grip in self.groups.iter_mut().flat_map(|group| std::mem::take(&mut group.grips)) {
                match grip {
                    Link::Link { .. } => drop(scope.spawn(move || drop(grip))),
                    // These wait one after the other in any case.
                    Link::Event { .. } | Link::OldKernelProbes { .. } => drop(grip),
                }
            }
        });
    }

    /// Puts all probes back where they were.
    pub fn attach_again(&mut self) -> Result<(), Failed> {
        self.loose = false;
        let mut groups = std::mem::take(&mut self.groups);
        let mut loose = groups.iter_mut().filter(|group| group.grips.is_empty());
        let outcome = loose.try_for_each(|group| {
            group.grips = self.grip(group.program, group.pid, &group.path, &group.points)?;
            Ok(())
        });
        self.groups = groups;
        outcome
    }
}
