//! Attaches the page-fault programs: one software perf event per thread of a target; its memory stays unmodified.
//!
//! New threads inherit the event of the thread that starts them. Existing threads are listed in `/proc`.

use std::{
    collections::BTreeSet,
    fs, io,
    num::NonZeroU32,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf,
    programs::{
        PerfEvent,
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    code::Code,
    event,
    failed::{KernelError, program_failed},
    helper_fallbacks::Stack,
    links::{AttachBackend, Programs},
    lookup::{owned_fd, set_tail_call},
    offsets::kernel_types,
    old_kernels,
    types::Types,
};
use crate::arch::{Architecture as _, Host};

/// The program of the perf event.
pub(super) const TOUCH: &str = "touch";
/// The program that it tail-calls, and the program array with it.
pub(super) const UNWINDER: (&str, &str) = ("take_touch", "TOUCH_UNWINDER");

/// Scans of a target's threads at most: a thread started during a scan by a thread without an event has none either,
/// and is found by the next scan.
const SCANS: u32 = 64;

fn program<'ebpf>(
    ebpf: &'ebpf mut Ebpf,
    name: &'static str,
) -> Result<&'ebpf mut PerfEvent, KernelError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(KernelError::Missing { name })
}

/// Loads the programs.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let (unwinder, map) = UNWINDER;
    for name in [TOUCH, unwinder] {
        program(ebpf, name)?.load().map_err(|error| program_failed(name, error))?;
    }
    let unwinder = owned_fd(program(ebpf, unwinder)?.fd(), unwinder)?;
    set_tail_call(ebpf, map, 0, unwinder.as_fd())
}

/// The same on a kernel without `bpf_task_pt_regs`: the programs find the registers by offsets from its type
/// information.
pub(super) fn load_on_old_kernel(ebpf: &Ebpf, object: &[u8]) -> Result<OwnedFd, KernelError> {
    let btf = kernel_types()?;
    let types = Types::read(&btf).ok_or(KernelError::Type { what: "type information" })?;
    let signed = |found: Option<u32>, what: &'static str| {
        found.and_then(|number| i32::try_from(number).ok()).ok_or(KernelError::Type { what })
    };
    let stack = Stack {
        offset: signed(types.offset_of("task_struct", "stack"), "task_struct.stack")?,
        bytes: signed(types.stack_bytes(), Host::KERNEL_STACK)?,
    };
    let code = Code::new(ebpf, object)?;
    let (unwinder, map) = UNWINDER;
    let program = old_kernels::at_page_faults(&code, unwinder, stack)?;
    set_tail_call(ebpf, map, 0, program.as_fd())?;
    old_kernels::at_page_faults(&code, TOUCH, stack)
}

/// Traces the page faults of a process, in all its current and future threads.
pub fn attach_page_faults(programs: &mut Programs, pid: NonZeroU32) -> Result<(), KernelError> {
    // Each thread takes a descriptor, and there may be thousands.
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        log::info!("could not raise the limit of file descriptors: {error}");
    }
    let mut watched = BTreeSet::new();
    for _ in 0..SCANS {
        let mut found_new = false;
        for thread in threads(pid)? {
            if !watched.insert(thread) {
                continue;
            }
            found_new = true;
            // A thread that has also inherited an event reports each fault twice; it counts once.
            if let Err(failed) = watch_thread(programs, thread) {
                let gone = !fs::exists(format!("/proc/{pid}/task/{thread}")).unwrap_or(false);
                if !gone || thread == pid.get() {
                    return Err(failed);
                }
            }
        }
        if !found_new {
            break;
        }
    }
    Ok(())
}

fn watch_thread(programs: &mut Programs, thread: u32) -> Result<(), KernelError> {
    if let AttachBackend::Touch(program, events) = &mut programs.attach_backend {
        let event = event::at_page_faults(program.as_fd(), thread).map_err(|source| {
            KernelError::Program { program: TOUCH.to_owned(), verifier: String::new(), source }
        })?;
        events.push(event);
        return Ok(());
    }
    program(&mut programs.ebpf, TOUCH)?
        .attach(
            PerfEventConfig::Software(SoftwareEvent::PageFaultsMin),
            PerfEventScope::OneProcess { pid: thread, cpu: None },
            SamplePolicy::Period(1),
            true,
        )
        .map(drop)
        .map_err(|error| program_failed(TOUCH, error))
}

/// The threads of a process.
fn threads(pid: NonZeroU32) -> Result<Vec<u32>, KernelError> {
    let failed = |source: io::Error| KernelError::Program {
        program: TOUCH.to_owned(),
        verifier: String::new(),
        source,
    };
    let listed = fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)?;
    Ok(listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_of_a_process_is_listed() {
        let own = NonZeroU32::new(std::process::id()).unwrap();
        let here = std::thread::spawn(move || {
            let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
            threads(own).unwrap().contains(&thread)
        });
        assert!(here.join().unwrap());
        assert!(threads(own).unwrap().contains(&own.get()));
    }
}
