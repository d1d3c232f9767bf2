//! Loads the BPF object file.
//!
//! Takes the options of a run and the capacity that its targets need, passes on loaded programs and their maps. A test
//! looks up every program and map in the committed object.

use std::{os::fd::AsFd as _, path::PathBuf};

use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use rustix::event::{PollFd, PollFlags, poll};
use tracer_common::attach::Cookie;

use super::{
    calls::{self, FdPrograms},
    committed::OBJECT,
    cpus::{cpus, died_stripes},
    failed::{KernelError, load_failed, program_failed},
    footprint::Footprint,
    links::{AttachBackend, Programs},
    lookup::{owned_fd, set_tail_call, tracepoint, uprobe},
    missed_runs::MissedRuns,
    multi::Multi,
    offsets,
    old_kernels::{self, OldKernelProbes},
    priority_guard::PriorityGuards,
    program::Program,
    sizes::{self, Capacity},
    tables::Tables,
    touch,
};
use crate::options::{FdBackend, TraceMode, TraceOptions};

/// Environment variable with the path of another object file, for development.
const OBJECT_VARIABLE: &str = "LEAKTRACE_BPF_OBJECT";

/// The program that the others tail-call, and the program array with it.
const UNWINDER: (&str, &str) = ("take_stack", "UNWINDER");
/// A program and its tracepoint.
const THREAD_END: (&str, &str) = ("thread_end", "sched_process_exit");
/// As above.
const NEW_PROGRAM: (&str, &str) = ("new_program", "sched_process_exec");
/// Loaded only when children are followed or threads are traced.
const NEW_TASK: (&str, &str) = ("new_task", "task_newtask");

/// Loaded only with an overhead budget.
pub(super) const SYSCALLS: (&str, &str) = ("pace", "sys_enter");

/// The result of [`load`].
pub struct Loaded {
    /// The programs, to attach.
    pub programs: Programs,
    /// The maps, to read.
    pub tables: Tables,
    /// The programs' log, if the log level is more verbose than warnings.
    pub log: Option<ProgramLog>,
    /// How file descriptors are traced, if they are.
    pub backend: Option<FdBackend>,
    /// Kernel memory of the maps, as the kernel reports it.
    pub footprint: Footprint,
}

/// Forwards the programs' log to our own log.
pub struct ProgramLog(EbpfLogger<&'static dyn log::Log>);

impl ProgramLog {
    /// Forwards the programs' messages until the process ends.
    pub fn forward(mut self) {
        loop {
            let ready = PollFd::new(&self.0, PollFlags::IN);
            // An interrupted wait only ends early.
            _ = poll(&mut [ready], None);
            self.0.flush();
        }
    }
}

/// Loads the object: verifies the programs, attaches none to functions, and leaves recording off.
pub fn load(options: &TraceOptions, capacity: &Capacity) -> Result<Loaded, KernelError> {
    let mode = options.mode();
    // Both forks and new threads are new tasks.
    let tasks = options.children || options.traces_threads();
    let descriptors = options.traces_descriptors();
    let other = std::env::var_os(OBJECT_VARIABLE).map(PathBuf::from);
    let bytes = match &other {
        Some(path) => Some(
            std::fs::read(path)
                .map_err(|source| KernelError::Object { path: path.clone(), source })?,
        ),
        None => None,
    };
    let is_old_kernel = !old_kernels::has_cookies();
    if is_old_kernel {
        old_kernels::lift_memory_limit();
    }
    let log_level = log::max_level();
    let level = log_level as u8;
    let (task, mut layout, sockets) = offsets::all(options, !is_old_kernel)?;
    layout.0.at_events = u32::from(descriptors && calls::wants_events());
    let cpus = cpus()?;
    let stripe_mask = died_stripes(cpus) - 1;
    let mut loader = EbpfLoader::new();
    for (name, entries) in sizes::of(options, capacity, cpus) {
        loader.map_max_entries(name, entries);
    }
    let mut ebpf = loader
        .override_global("AYA_LOG_LEVEL", &level, false)
        .override_global("DIED_STRIPE_MASK", &stripe_mask, true)
        .override_global("TASK_PID_OFFSET", &task.pid, true)
        .override_global("TASK_SIGNAL_OFFSET", &task.signal, true)
        .override_global("SIGNAL_LIVE_OFFSET", &task.live, true)
        .override_global("SIGNAL_FLAGS_OFFSET", &task.flags, true)
        .override_global("TASK_THREAD_POINTER_OFFSET", &task.thread_pointer, true)
        .override_global("LAYOUT", &layout, true)
        .override_global("SOCKET_LAYOUT", &sockets, true)
        .load(bytes.as_deref().unwrap_or(&OBJECT.0))
        .map_err(load_failed)?;
    // Before maps are taken out of `ebpf` one by one.
    let footprint = Footprint::of(&ebpf);
    let object = bytes.as_deref().unwrap_or(&OBJECT.0);
    let attach_backend = match mode {
        TraceMode::Probes if is_old_kernel => old_kernel_probes(&ebpf, object)?,
        TraceMode::Probes => probes(&mut ebpf, object)?,
        TraceMode::PageFaults if is_old_kernel => {
            AttachBackend::Touch(touch::load_on_old_kernel(&ebpf, object)?, Vec::new())
        }
        TraceMode::PageFaults => {
            touch::load(&mut ebpf)?;
            AttachBackend::Single
        }
        TraceMode::None => AttachBackend::Single,
    };
    let backend = options.test_options.fd_backend;
    let fd_programs =
        descriptors.then(|| calls::load(&mut ebpf, object, &layout.0, backend)).transpose()?;
    let FdPrograms { backend, event_programs, events } = fd_programs.unwrap_or_default();
    for (name, point) in [THREAD_END, NEW_PROGRAM].into_iter().chain(tasks.then_some(NEW_TASK)) {
        let program = tracepoint(&mut ebpf, name)?;
        program.load().map_err(|error| program_failed(name, error))?;
        program.attach(point).map_err(|error| program_failed(name, error))?;
    }
    if options.max_overhead.is_some() {
        tracepoint(&mut ebpf, SYSCALLS.0)?
            .load()
            .map_err(|error| program_failed(SYSCALLS.0, error))?;
    }
    let log = if log_level > log::LevelFilter::Warn {
        EbpfLogger::init(&mut ebpf)
            .map(ProgramLog)
            .inspect_err(|error| log::warn!("could not read the programs' log: {error}"))
            .ok()
    } else {
        None
    };
    let needed =
        mode == TraceMode::PageFaults || backend == Some(FdBackend::Kprobe) || !events.is_empty();
    let missed_runs =
        MissedRuns::new(&ebpf, event_programs).map_err(|source| KernelError::Watch { source })?;
    let tables = Tables::take(&mut ebpf, PriorityGuards { needed }, missed_runs)?;
    let programs = Programs::new(ebpf, attach_backend, events);
    Ok(Loaded { programs, tables, log, backend, footprint })
}

/// Prepares the programs at functions for a kernel without attach cookies.
fn old_kernel_probes(ebpf: &Ebpf, object: &[u8]) -> Result<AttachBackend, KernelError> {
    let mut probes = OldKernelProbes::new(ebpf, object)?;
    let (name, map) = UNWINDER;
    set_tail_call(ebpf, map, 0, probes.program(name, Cookie(0))?)?;
    Ok(AttachBackend::OldKernelProbes(Box::new(probes)))
}

/// Loads the programs at functions: for multi-point links where the kernel has them, else for single probes.
fn probes(ebpf: &mut Ebpf, object: &[u8]) -> Result<AttachBackend, KernelError> {
    let names = || Program::ALL.into_iter().map(Program::name).chain([UNWINDER.0]);
    let multi = Multi::load(ebpf, object, names())?;
    if multi.is_none() {
        for name in names() {
            uprobe(ebpf, name)?.load().map_err(|error| program_failed(name, error))?;
        }
    }
    let (name, map) = UNWINDER;
    if let Some(multi) = &multi {
        set_tail_call(ebpf, map, 0, multi.program(name)?)?;
    } else {
        let program = owned_fd(uprobe(ebpf, name)?.fd(), name)?;
        set_tail_call(ebpf, map, 0, program.as_fd())?;
    }
    Ok(multi.map_or(AttachBackend::Single, AttachBackend::Multi))
}

#[cfg(test)]
mod tests {
    use symbols::names;

    use super::*;
    use crate::kernel::tables::NAMES;

    /// Reads program and map names from the object's symbols.
    mod symbols {
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
