//! Attaches programs to functions, and holds the links.
//!
//! Takes attach points, passes on the kernel's answer for each. Attaches whole groups of points at once where the
//! kernel supports that ([`Multi`]), else one by one.

use std::{io, num::NonZeroU32, os::fd::OwnedFd, path::Path, sync::Arc, thread};

use aya::{
    Ebpf,
    maps::Array,
    programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
};
use tracer_common::{attach::ProbeNumber, object::Function};

use super::{
    failed::{KernelError, program_failed},
    lookup::uprobe,
    multi::Multi,
    old_kernels::OldKernelProbes,
    probed_file::ProbedFile,
    program::{Point, Program},
    tables::{OBJECT_FUNCTIONS, Plain},
};

/// A kernel link. Dropping it detaches the program from its points.
pub enum Link {
    /// Many points.
    Multi {
        /// Closed on drop.
        _fd: OwnedFd,
    },
    /// One point, by a perf event.
    Event {
        /// Detached on drop.
        _link: UProbeLink,
    },
    /// One point, on a kernel without attach cookies.
    OldKernelProbe {
        /// Closed on drop.
        _fd: OwnedFd,
    },
}

/// How programs are attached.
pub(super) enum AttachBackend {
    /// Many points at once.
    Multi(Multi),
    /// One by one.
    Single,
    /// One by one, each with a program of its own.
    OldKernelProbes(Box<OldKernelProbes>),
    /// At page faults, on a kernel without attach cookies: the program and its perf events.
    Touch(OwnedFd, Vec<OwnedFd>),
}

/// A program and its attach points in one file.
struct Group {
    program: Program,
    pid: Option<NonZeroU32>,
    file: Arc<ProbedFile>,
    points: Vec<Point>,
    /// Empty while the group is detached.
    links: Vec<Link>,
}

/// The loaded programs and their links; dropping it removes the probes.
pub struct Programs {
    pub(super) ebpf: Ebpf,
    pub(super) attach_backend: AttachBackend,
    groups: Vec<Group>,
    /// Perf events that keep the programs at system calls and ring requests attached.
    _events: Vec<OwnedFd>,
    /// No group is attached until `reattach`.
    detached: bool,
}

impl Programs {
    /// Loaded programs, attached to no function.
    pub(super) const fn new(
        ebpf: Ebpf,
        attach_backend: AttachBackend,
        events: Vec<OwnedFd>,
    ) -> Self {
        Self { ebpf, attach_backend, groups: Vec::new(), _events: events, detached: false }
    }

    /// Writes to the programs' map what a probe's function does to its library's objects.
    pub fn set_object_function(
        &mut self,
        probe: ProbeNumber,
        function: Function,
    ) -> Result<(), KernelError> {
        let missing = KernelError::Missing { name: OBJECT_FUNCTIONS };
        let Some(map) = self.ebpf.map_mut(OBJECT_FUNCTIONS) else { return Err(missing) };
        let mut functions: Array<_, Plain<Function>> =
            map.try_into().map_err(|_mismatch| missing)?;
        functions.set(probe.into(), Plain(function), 0).map_err(|error| KernelError::Map {
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
    ) -> Vec<Result<(), KernelError>> {
        let file = match self.open(path) {
            Ok(file) => file,
            Err(error) => {
                let number = error.raw_os_error().unwrap_or(libc::EIO);
                let source = || io::Error::from_raw_os_error(number);
                let failed = || KernelError::Object { path: path.to_owned(), source: source() };
                return points.iter().map(|_| Err(failed())).collect();
            }
        };
        self.attach_to(program, pid, &file, points)
    }

    fn attach_to(
        &mut self,
        program: Program,
        pid: Option<NonZeroU32>,
        file: &Arc<ProbedFile>,
        points: &[Point],
    ) -> Vec<Result<(), KernelError>> {
        let at_once = matches!(self.attach_backend, AttachBackend::Multi(_)) && points.len() > 1;
        if at_once && self.attach_group(program, pid, file, points).is_ok() {
            return points.iter().map(|_| Ok(())).collect();
        }
        // One by one, to find out which point the kernel refuses.
        let single = |point| self.attach_group(program, pid, file, std::slice::from_ref(point));
        points.iter().map(single).collect()
    }

    /// Opens a file, or shares it with the groups that hold it already: the number of open files is limited.
    fn open(&self, path: &Path) -> io::Result<Arc<ProbedFile>> {
        let file = ProbedFile::open(path)?;
        let shared = self.groups.iter().find(|group| group.file.is(&file));
        Ok(shared.map_or_else(|| Arc::new(file), |group| Arc::clone(&group.file)))
    }

    /// Removes the probes for which `selects` is true, of the process `pid` or of every process. Attaches the other
    /// points of the same links again, and returns those that the kernel refuses this time.
    pub fn detach(
        &mut self,
        pid: Option<NonZeroU32>,
        selects: impl Fn(ProbeNumber) -> bool,
    ) -> Vec<(ProbeNumber, KernelError)> {
        let is_selected = |point: &Point| selects(point.cookie.probe());
        let mut refused = Vec::new();
        for mut group in std::mem::take(&mut self.groups) {
            if group.pid != pid || !group.points.iter().any(is_selected) {
                self.groups.push(group);
                continue;
            }
            group.points.retain(|point| !is_selected(point));
            // First, or hits would be counted twice.
            group.links.clear();
            let Group { program, pid, file, points, .. } = &group;
            let outcomes = self.attach_to(*program, *pid, file, points);
            refused.extend(points.iter().zip(outcomes).filter_map(|(point, outcome)| {
                outcome.err().map(|failed| (point.cookie.probe(), failed))
            }));
        }
        refused
    }

    fn attach_group(
        &mut self,
        program: Program,
        pid: Option<NonZeroU32>,
        file: &Arc<ProbedFile>,
        points: &[Point],
    ) -> Result<(), KernelError> {
        let links = if self.detached {
            Vec::new()
        } else {
            self.attach_links(program, pid, file.path(), points)?
        };
        let (file, points) = (Arc::clone(file), points.to_vec());
        self.groups.push(Group { program, pid, file, points, links });
        Ok(())
    }

    /// Attaches a program to all of the points or to none, until the returned links are dropped.
    pub fn attach_links(
        &mut self,
        program: Program,
        pid: Option<NonZeroU32>,
        path: &Path,
        points: &[Point],
    ) -> Result<Vec<Link>, KernelError> {
        let (name, at_return) = (program.name(), program.is_at_return());
        match &mut self.attach_backend {
            AttachBackend::Multi(multi) => {
                let fd = multi.link(name, at_return, pid, path, points)?;
                return Ok(vec![Link::Multi { _fd: fd }]);
            }
            AttachBackend::OldKernelProbes(probes) => {
                let mut attach = |point| probes.attach(name, at_return, pid, path, point);
                return points
                    .iter()
                    .map(|point| Ok(Link::OldKernelProbe { _fd: attach(point)? }))
                    .collect();
            }
            AttachBackend::Single | AttachBackend::Touch(..) => {}
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

    /// Removes all probes and remembers their points. On return no target hits a probe any more. Until
    /// [`Self::reattach`], `attach` only records points.
    pub fn detach_all(&mut self) {
        self.detached = true;
        // Dropping a link waits until no CPU runs its program: the links wait in parallel.
        thread::scope(|scope| {
            for link in self.groups.iter_mut().flat_map(|group| std::mem::take(&mut group.links)) {
                match link {
                    Link::Multi { .. } => drop(scope.spawn(move || drop(link))),
                    // The kernel serializes these in any case.
                    Link::Event { .. } | Link::OldKernelProbe { .. } => drop(link),
                }
            }
        });
    }

    /// Attaches all probes again, at the same points, and forgets those of processes that have ended.
    pub fn reattach(&mut self) -> Result<(), KernelError> {
        self.detached = false;
        for mut group in std::mem::take(&mut self.groups) {
            if group.links.is_empty() {
                let Group { program, pid, file, points, .. } = &group;
                match self.attach_links(*program, *pid, file.path(), points) {
                    Ok(links) => group.links = links,
                    Err(failed) if failed.is_no_such_process() => continue,
                    Err(failed) => return Err(failed),
                }
            }
            self.groups.push(group);
        }
        Ok(())
    }
}
