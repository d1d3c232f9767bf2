//! Measures the cost of a probe hit on this host, with empty BPF programs.
//!
//! Takes loaded programs, passes on [`ProbeCosts`]. A child of leaktrace calls three tiny functions with empty probes,
//! up to two thousand times each: it takes milliseconds, and affects no other process.

use std::{fs::File, io, num::NonZeroU32, os::fd::FromRawFd as _, path::PathBuf};

use anyhow::Context as _;
use tracer_common::attach::Cookie;

use crate::{
    arch::{Architecture as _, Host},
    kernel::{Point, Program, Programs},
    probes::{Outcome, Probe},
    target::{Pid, mappings},
};

/// Rounds of calls; the fastest counts, since disturbances only make a round slower.
const ROUNDS: usize = 8;
/// Calls of each function per round.
const CALLS: [u32; 3] = [250, 250, 30];

/// Costs of a hit, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::run) struct ProbeCosts {
    /// Of a probe at an instruction that the kernel emulates.
    entry: f64,
    /// Of such a probe, and a return probe.
    entry_and_return: f64,
    /// Of a probe at an instruction that the kernel single-steps.
    step: f64,
}

impl ProbeCosts {
    /// The cost of a call of each probe's function, by the number of the probe.
    pub(super) fn by_probe(&self, probes: &[Probe]) -> Vec<f64> {
        let mut costs = Vec::new();
        for probe in probes {
            let Ok(place) = &probe.place else { continue };
            let entry = if place.emulated { self.entry } else { self.step };
            let outcome = match probe.outcome {
                Outcome::None | Outcome::FirstBlock => 0.0,
                Outcome::ReturnProbe => (self.entry_and_return - self.entry).max(0.0),
                // The kernel single-steps return instructions.
                Outcome::Instructions(..) => self.step,
            };
            let number = usize::from(probe.number);
            if costs.len() <= number {
                costs.resize(number + 1, 0.0);
            }
            if let Some(cost) = costs.get_mut(number) {
                *cost = entry + outcome;
            }
        }
        costs
    }
}

/// Measures the costs, and detaches its probes.
pub(in crate::run) fn calibrate(programs: &mut Programs) -> anyhow::Result<ProbeCosts> {
    let points = points().context("could not find leaktrace's own code for calibration")?;
    let (go_read, go_write) = pipe()?;
    let (result_read, result_write) = pipe()?;
    // SAFETY: the child of a process with threads may only make async-signal-safe calls; it makes read, clock_gettime,
    // write and _exit, and touches no memory but its stack.
    let child = match unsafe { libc::fork() } {
        0 => in_child(&go_read, &result_write),
        -1 => {
            return Err(io::Error::last_os_error())
                .context("could not start a child for calibration");
        }
        child => child,
    };
    drop((go_read, result_write));
    let outcome = measure(programs, child, points, &go_write, &result_read);
    // SAFETY: leaktrace's own child, which nothing else waits for; it blocks on the pipe if the measurement has failed.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    outcome
}

fn measure(
    programs: &mut Programs,
    child: i32,
    points: [Point; 3],
    go: &File,
    result: &File,
) -> anyhow::Result<ProbeCosts> {
    let pid = u32::try_from(child).ok().and_then(NonZeroU32::new);
    let path = PathBuf::from("/proc/self/exe");
    let [entry, ret, step] = points;
    let mut attach = |program, points: &[Point]| {
        let outcomes = programs.attach_links(program, pid, &path, points);
        outcomes.context("could not probe the child for calibration")
    };
    let _returns = attach(Program::BareReturn, &[ret])?;
    let _entries = attach(Program::BareEntry, &[entry, ret, step])?;
    io::Write::write_all(&mut { go }, b"g").context("the child for calibration has ended")?;
    let mut bytes = [0_u8; 24];
    io::Read::read_exact(&mut { result }, &mut bytes)
        .context("the child for calibration has failed")?;
    let mut measured = bytes.chunks_exact(8).map(|bytes| {
        bytes.try_into().map_or(0.0, |bytes| u64::from_ne_bytes(bytes) as f64 / 1000.0)
    });
    let mut next = || measured.next().unwrap_or(0.0);
    let costs = ProbeCosts { entry: next(), entry_and_return: next(), step: next() };
    log::debug!("costs of a hit on this host, nanoseconds: {costs:?}");
    Ok(costs)
}

/// The places of the functions in leaktrace's executable.
fn points() -> Option<[Point; 3]> {
    let mappings = mappings::read(Pid::own()).ok()?;
    let point = |function: extern "C" fn()| {
        let address = function as usize as u64;
        let offset = mappings.find(address)?.file_offset_of(address)?;
        Some(Point { offset, cookie: Cookie(0) })
    };
    let [entry, ret, step] = Host::NOTHING.map(point);
    Some([entry?, ret?, step?])
}

/// A pipe that a traced command does not inherit.
fn pipe() -> anyhow::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has space for two descriptors, which are new and have no other owner.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error()).context("could not create a pipe");
        }
        Ok((File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])))
    }
}

/// Waits for a byte from one pipe, calls the functions, and writes picoseconds per call to the other.
fn in_child(go: &File, result: &File) -> ! {
    use std::os::fd::AsRawFd as _;
    // SAFETY: only async-signal-safe calls, on this function's own memory.
    unsafe {
        let mut byte = 0_u8;
        libc::read(go.as_raw_fd(), (&raw mut byte).cast(), 1);
        for (function, calls) in Host::NOTHING.into_iter().zip(CALLS) {
            let mut least = u64::MAX;
            for _ in 0..ROUNDS {
                let begun = clock_ns();
                for _ in 0..calls {
                    function();
                }
                least = least.min((clock_ns() - begun) * 1000 / u64::from(calls));
            }
            let bytes = least.to_ne_bytes();
            libc::write(result.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        }
        libc::_exit(0)
    }
}

fn clock_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid `timespec` to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec.cast_unsigned()) * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
