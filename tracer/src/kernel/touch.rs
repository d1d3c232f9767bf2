//! The programs at page faults: a software event per thread of a target, and nothing in its memory.
//!
//! A thread's event is inherited by the threads that it starts. Those that are there are found in `/proc`.

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
    helper_fallbacks::Stack,
    links::{AttachBackend, Programs},
    object::{Failed, kernel_types, own, place, program_failed},
    old_kernels,
    types::Types,
};

/// The program at the event.
pub(super) const TOUCH: &str = "touch";
/// The program that it goes on with, and the map that it finds it by.
pub(super) const UNWINDER: (&str, &str) = ("take_touch", "TOUCH_UNWINDER");

/// Looks at the threads of a target at most: a thread that was started meanwhile by one without an event
/// has none either, and is found by the next look.
const LOOKS: u32 = 64;

fn program<'ebpf>(
    ebpf: &'ebpf mut Ebpf,
    name: &'static str,
) -> Result<&'ebpf mut PerfEvent, Failed> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(Failed::Missing { name })
}

/// Loads the programs.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), Failed> {
    let (unwinder, map) = UNWINDER;
    for name in [TOUCH, unwinder] {
        program(ebpf, name)?.load().map_err(|error| program_failed(name, error))?;
    }
    let unwinder = own(program(ebpf, unwinder)?.fd(), unwinder)?;
    place(ebpf, map, 0, unwinder.as_fd())
}

/// The same on a kernel that does not tell programs a task's registers: they find them by its type information.
pub(super) fn load_older(ebpf: &Ebpf, object: &[u8]) -> Result<OwnedFd, Failed> {
    let btf = kernel_types()?;
    let types = Types::read(&btf).ok_or(Failed::Type { what: "type information" })?;
    let signed = |found: Option<u32>, what: &'static str| {
        found.and_then(|number| i32::try_from(number).ok()).ok_or(Failed::Type { what })
    };
    let stack = Stack {
        offset: signed(types.offset_of("task_struct", "stack"), "task_struct.stack")?,
        bytes: signed(types.stack_bytes(), "irq_stack")?,
    };
    let code = Code::new(ebpf, object)?;
    let (unwinder, map) = UNWINDER;
    let program = old_kernels::at_page_faults(&code, unwinder, stack)?;
    place(ebpf, map, 0, program.as_fd())?;
    old_kernels::at_page_faults(&code, TOUCH, stack)
}

impl Programs {
    /// Watches the page faults of a process, in all its threads and those to come.
    pub fn watch_touches(&mut self, pid: NonZeroU32) -> Result<(), Failed> {
        // A descriptor for each thread: there may be thousands.
        let limit = getrlimit(Resource::Nofile);
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        {
            log::info!("the limit of file descriptors stays as it is: {error}");
        }
        let mut missed_runs = BTreeSet::new();
        for _ in 0..LOOKS {
            let mut any = false;
            for thread in threads(pid)? {
                if !missed_runs.insert(thread) {
                    continue;
                }
                any = true;
                // In one that has one already, inherited, each fault is told twice, and counts once.
                if let Err(failed) = self.watch_thread(thread) {
                    let gone = !fs::exists(format!("/proc/{pid}/task/{thread}")).unwrap_or(false);
                    if !gone || thread == pid.get() {
                        return Err(failed);
                    }
                }
            }
            if !any {
                break;
            }
        }
        Ok(())
    }

    fn watch_thread(&mut self, thread: u32) -> Result<(), Failed> {
        if let AttachBackend::Touch(program, missed_runs) = &mut self.way {
            let event = event::at_page_faults(program.as_fd(), thread).map_err(|source| {
                Failed::Program { program: TOUCH.to_owned(), verifier: String::new(), source }
            })?;
            missed_runs.push(event);
            return Ok(());
        }
        program(&mut self.ebpf, TOUCH)?
            .attach(
                PerfEventConfig::Software(SoftwareEvent::PageFaultsMin),
                PerfEventScope::OneProcess { pid: thread, cpu: None },
                SamplePolicy::Period(1),
                true,
            )
            .map(drop)
            .map_err(|error| program_failed(TOUCH, error))
    }
}

/// The threads of a process.
fn threads(pid: NonZeroU32) -> Result<Vec<u32>, Failed> {
    let failed = |source: io::Error| Failed::Program {
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
