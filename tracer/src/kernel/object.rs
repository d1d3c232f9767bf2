//! Loads the object file.
//!
//! Takes nothing but the object, hands on loaded programs, and tables. The one place that names programs; a
//! test opens the committed object and finds each.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::MapError,
    programs::{ProgramError, ProgramFd, RawTracePoint, UProbe},
};
use aya_log::EbpfLogger;
use rustix::event::{PollFd, PollFlags, poll};
use tracer_common::attach::Cookie;

use super::{
    calls::{self, Backend, Seen},
    code::descriptor,
    footprint::Footprint,
    links::{AttachBackend, Programs},
    missed_runs::MissedRuns,
    multi::Multi,
    offsets,
    old_kernels::{self, OldKernelProbes},
    program::Program,
    sizes::{self, Objects},
    syscall,
    tables::{self, Tables},
    touch,
};
use tracer_common::limits;

/// Another object file, for development.
const OBJECT_VARIABLE: &str = "LEAKTRACE_BPF_OBJECT";

/// The committed object; the attribute of its type gives it the alignment that ELF parsing needs.
#[repr(C, align(8))]
pub(super) struct Aligned<T: ?Sized>(pub(super) T);
pub(super) static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!("../../bpf/leaktrace-x86_64.bpf.o"));

/// The program that others go on with, and the map that they find it by.
const UNWINDER: (&str, &str) = ("take_stack", "UNWINDER");
/// Programs on tracepoints, and their tracepoints.
const THREAD_END: (&str, &str) = ("thread_end", "sched_process_exit");
/// As above.
const NEW_PROGRAM: (&str, &str) = ("new_program", "sched_process_exec");
/// Only where children are followed.
const NEW_TASK: (&str, &str) = ("new_task", "task_newtask");

/// Only where there is a budget.
pub(super) const SYSCALLS: (&str, &str) = ("pace", "sys_enter");

/// The kernel's type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Which programs a run needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceMode {
    /// Those at functions.
    Probes,
    /// Those at page faults.
    Touches,
    /// None of them.
    Neither,
}

/// Why the kernel did not take something.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Another object was asked for and cannot be read.
    #[error("could not read the object `{path}`")]
    Object {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program was refused.
    #[error("could not load the program `{program}`")]
    Program {
        /// Its name.
        program: String,
        /// What the verifier said; empty when it was not asked.
        verifier: String,
        /// Why.
        source: io::Error,
    },
    /// A map was refused.
    #[error("could not create the map `{map}`")]
    Map {
        /// Its name.
        map: String,
        /// Why.
        source: io::Error,
    },
    /// The object cannot be understood.
    #[error("could not read the object: {why}")]
    Unreadable {
        /// Why.
        why: String,
    },
    /// The object lacks something this build needs.
    #[error("the object has no `{name}` (was it built from this tree?)")]
    Missing {
        /// The program or map.
        name: &'static str,
    },
    /// The kernel's type information lacks something.
    #[error("could not find `{what}` in `/sys/kernel/btf/vmlinux`")]
    Type {
        /// Structure and member.
        what: &'static str,
    },
    /// The kernel's own functions cannot be probed.
    #[error("this kernel has no kprobes")]
    NoKprobes,
    /// Programs cannot be held a second time.
    #[error("could not watch the kernel programs")]
    Watch {
        /// Why.
        source: io::Error,
    },
    /// Anything else aya has to say.
    #[error("could not load the kernel programs")]
    Load(#[source] Box<EbpfError>),
}

/// What [`load`] gives.
pub struct Loaded {
    /// To attach.
    pub programs: Programs,
    /// To read.
    pub tables: Tables,
    /// What the programs say, when anybody wants to hear it.
    pub log: Option<ProgramLog>,
    /// How file descriptors are seen, if they are.
    pub backend: Option<Backend>,
    /// What the kernel says the maps take.
    pub footprint: Footprint,
}

/// What the programs log, on its way to our own log.
pub struct ProgramLog(EbpfLogger<&'static dyn log::Log>);

impl ProgramLog {
    /// Passes on what the programs say, until the process ends.
    pub fn forward(mut self) {
        loop {
            let ready = PollFd::new(&self.0, PollFlags::IN);
            // An interrupted wait is a short one.
            _ = poll(&mut [ready], None);
            self.0.flush();
        }
    }
}

/// What a run needs of the kernel side.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// What the programs are to log.
    pub log: log::LevelFilter,
    /// Room for unwind tables.
    pub unwind_pages: u32,
    /// How many targets there are.
    pub targets: u32,
    /// How many threads they have.
    pub threads: u32,
    /// Whether forks are to be followed.
    pub children: bool,
    /// Whether cost and pace are to be measured.
    pub budget: bool,
    /// Which programs.
    pub means: TraceMode,
    /// Whether objects of libraries are to be traced.
    pub objects: Objects,
    /// Whether file descriptors are to be traced.
    pub descriptors: bool,
    /// How they are to be seen; in the best way that the kernel allows when `None`.
    pub backend: Option<Backend>,
}

impl LoadOptions {
    /// Those of a run with default settings, of which nothing else is known.
    pub(super) const fn by_default() -> Self {
        Self {
            log: log::LevelFilter::Warn,
            unwind_pages: limits::UNWIND_PAGES_SPARE,
            targets: 1,
            threads: 1,
            children: false,
            budget: false,
            means: TraceMode::Probes,
            objects: Objects::ByDefault,
            descriptors: false,
            backend: None,
        }
    }
}

/// Loads the object: programs verified, none attached, recording off.
pub fn load(needs: LoadOptions) -> Result<Loaded, Failed> {
    let LoadOptions { log: wanted, children, budget, means, descriptors, backend, .. } = needs;
    let other = std::env::var_os(OBJECT_VARIABLE).map(PathBuf::from);
    let bytes = match &other {
        Some(path) => Some(
            std::fs::read(path).map_err(|source| Failed::Object { path: path.clone(), source })?,
        ),
        None => None,
    };
    let older = !old_kernels::has_cookies();
    if older {
        old_kernels::lift_memory_limit();
    }
    let level = wanted as u8;
    let (pid_offset, mut layout, sockets) = offsets::all(children, descriptors, !older)?;
    layout.0.at_events = u32::from(descriptors && calls::wants_events());
    let cpus = tables::cpus()?;
    let stripe_mask = sizes::died_stripes(cpus) - 1;
    let mut loader = EbpfLoader::new();
    for (name, entries) in sizes::of(&needs, cpus) {
        loader.map_max_entries(name, entries);
    }
    let mut ebpf = loader
        .override_global("AYA_LOG_LEVEL", &level, false)
        .override_global("DIED_STRIPE_MASK", &stripe_mask, true)
        .override_global("TASK_PID_OFFSET", &pid_offset, true)
        .override_global("LAYOUT", &layout, true)
        .override_global("SOCKET_LAYOUT", &sockets, true)
        .load(bytes.as_deref().unwrap_or(&OBJECT.0))
        .map_err(load_failed)?;
    // Now: maps are taken out of it one by one.
    let footprint = Footprint::of(&ebpf);
    let object = bytes.as_deref().unwrap_or(&OBJECT.0);
    let way = match means {
        TraceMode::Probes if older => older_probes(&ebpf, object)?,
        TraceMode::Probes => probes(&mut ebpf, object)?,
        TraceMode::Touches if older => {
            AttachBackend::Touch(touch::load_older(&ebpf, object)?, Vec::new())
        }
        TraceMode::Touches => {
            touch::load(&mut ebpf)?;
            AttachBackend::One
        }
        TraceMode::Neither => AttachBackend::One,
    };
    let seen =
        descriptors.then(|| calls::load(&mut ebpf, object, &layout.0, backend)).transpose()?;
    let Seen { backend, missed_runs, events } = seen.unwrap_or_default();
    for (name, point) in [THREAD_END, NEW_PROGRAM].into_iter().chain(children.then_some(NEW_TASK)) {
        let program = tracepoint(&mut ebpf, name)?;
        program.load().map_err(|error| program_failed(name, error))?;
        program.attach(point).map_err(|error| program_failed(name, error))?;
    }
    if budget {
        tracepoint(&mut ebpf, SYSCALLS.0)?
            .load()
            .map_err(|error| program_failed(SYSCALLS.0, error))?;
    }
    let log = if wanted > log::LevelFilter::Warn {
        EbpfLogger::init(&mut ebpf)
            .map(ProgramLog)
            .inspect_err(|error| log::warn!("the programs' log cannot be read: {error}"))
            .ok()
    } else {
        None
    };
    let priority_guard =
        means == TraceMode::Touches || backend == Some(Backend::Kprobe) || !events.is_empty();
    let missed_runs =
        MissedRuns::new(&ebpf, missed_runs).map_err(|source| Failed::Watch { source })?;
    let tables = Tables::take(&mut ebpf, priority_guard, missed_runs)?;
    Ok(Loaded { programs: Programs::new(ebpf, way, events), tables, log, backend, footprint })
}

/// The kernel's type information.
pub(super) fn kernel_types() -> Result<Vec<u8>, Failed> {
    std::fs::read(BTF).map_err(|source| Failed::Object { path: PathBuf::from(BTF), source })
}

/// Readies the programs at functions for a kernel without attach cookies.
fn older_probes(ebpf: &Ebpf, object: &[u8]) -> Result<AttachBackend, Failed> {
    let mut older = OldKernelProbes::new(ebpf, object)?;
    let (name, map) = UNWINDER;
    place(ebpf, map, 0, older.program(name, Cookie(0))?)?;
    Ok(AttachBackend::OldKernelProbes(Box::new(older)))
}

/// Loads the programs at functions: for links of many points where the kernel has them, else for probes
/// one by one.
fn probes(ebpf: &mut Ebpf, object: &[u8]) -> Result<AttachBackend, Failed> {
    let names = || Program::ALL.into_iter().map(Program::name).chain([UNWINDER.0]);
    let multi = Multi::load(ebpf, object, names())?;
    if multi.is_none() {
        for name in names() {
            uprobe(ebpf, name)?.load().map_err(|error| program_failed(name, error))?;
        }
    }
    let (name, map) = UNWINDER;
    if let Some(multi) = &multi {
        place(ebpf, map, 0, multi.program(name)?)?;
    } else {
        let program = own(uprobe(ebpf, name)?.fd(), name)?;
        place(ebpf, map, 0, program.as_fd())?;
    }
    Ok(multi.map_or(AttachBackend::One, AttachBackend::Multi))
}

/// A program at a tracepoint.
pub(super) fn tracepoint<'ebpf>(
    ebpf: &'ebpf mut Ebpf,
    name: &'static str,
) -> Result<&'ebpf mut RawTracePoint, Failed> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(Failed::Missing { name })
}

/// A program at functions.
pub(super) fn uprobe<'ebpf>(
    ebpf: &'ebpf mut Ebpf,
    name: &'static str,
) -> Result<&'ebpf mut UProbe, Failed> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(Failed::Missing { name })
}

/// Puts the program that others go on with where they find it: into an array that empties itself when its
/// last descriptor is closed.
pub(super) fn place(
    ebpf: &Ebpf,
    map: &'static str,
    at: u32,
    program: BorrowedFd<'_>,
) -> Result<(), Failed> {
    let array = ebpf.map(map).and_then(descriptor).ok_or(Failed::Missing { name: map })?;
    syscall::place(array, at, program).map_err(|source| Failed::Map { map: map.to_owned(), source })
}

/// A program's descriptor of our own.
pub(super) fn own(
    fd: Result<&ProgramFd, ProgramError>,
    name: &'static str,
) -> Result<OwnedFd, Failed> {
    fd.and_then(|fd| fd.as_fd().try_clone_to_owned().map_err(ProgramError::IOError))
        .map_err(|error| program_failed(name, error))
}

fn load_failed(error: EbpfError) -> Failed {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => {
            Failed::Map { map: name, source: io_error }
        }
        other => Failed::Load(Box::new(other)),
    }
}

pub(super) fn program_failed(program: &str, error: ProgramError) -> Failed {
    let program = program.to_owned();
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            Failed::Program { program, verifier: verifier_log.to_string(), source: io_error }
        }
        other => {
            // The kernel's own number is what a reader needs, wherever aya keeps it in its chain.
            let number = chain(&other).find_map(|cause| {
                cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
            });
            let source = match number {
                Some(number) => io::Error::from_raw_os_error(number),
                None => io::Error::other(other.to_string()),
            };
            Failed::Program { program, verifier: String::new(), source }
        }
    }
}

fn chain<'error>(
    error: &'error (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'error (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

#[cfg(test)]
mod tests {
    use aya_obj_names::names;

    use super::*;
    use crate::kernel::tables::NAMES;

    /// Reads program and map names from the object's symbols.
    mod aya_obj_names {
        use object::{Object as _, ObjectSymbol as _};

        pub(super) fn names(bytes: &[u8]) -> Vec<String> {
            let file = object::File::parse(bytes).unwrap();
            file.symbols().filter_map(|symbol| symbol.name().ok().map(str::to_owned)).collect()
        }
    }

    #[test]
    fn the_committed_object_has_every_program_and_map() {
        let present = names(&OBJECT.0);
        let programs = Program::ALL.into_iter().map(Program::name).chain([
            THREAD_END.0,
            UNWINDER.0,
            UNWINDER.1,
            NEW_PROGRAM.0,
            NEW_TASK.0,
            SYSCALLS.0,
            touch::TOUCH,
            touch::UNWINDER.0,
            touch::UNWINDER.1,
            calls::UNWINDER,
            calls::KERNEL_UNWINDER,
        ]);
        let programs = programs.chain(calls::PROGRAMS);
        for name in programs.chain(NAMES) {
            assert!(present.iter().any(|one| one == name), "{name} not in {present:?}");
        }
    }
}
