//! Perf events, opened without aya: those that run programs that aya did not load, and those that run none.
//!
//! Takes programs and attach points, passes on descriptors; closing one detaches the program.
//! See `perf_event_open(2)`.

use std::{
    ffi::{CString, c_int},
    fs, io,
    num::NonZeroU32,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{PERF_FLAG_FD_CLOEXEC, perf_event_attr};

/// The PMU of uprobes.
const UPROBE: &str = "/sys/bus/event_source/devices/uprobe";
/// The kernel's descriptions of its events; the second path is that of kernels without a separate tracefs.
const EVENTS: [&str; 2] = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
/// `PERF_TYPE_TRACEPOINT`.
const TRACEPOINT: u32 = 2;
/// `PERF_TYPE_SOFTWARE` and `PERF_COUNT_SW_PAGE_FAULTS_MIN`.
const MINOR_FAULTS: (u32, u64) = (1, 5);
/// `PERF_TYPE_SOFTWARE` and `PERF_COUNT_SW_DUMMY`: counts nothing.
const DUMMY: (u32, u64) = (1, 9);
/// `PERF_SAMPLE_TIME`.
const WITH_TIME: u64 = 1 << 2;
/// `PERF_EVENT_IOC_SET_BPF` and `PERF_EVENT_IOC_ENABLE`.
const SET_BPF: libc::c_ulong = 0x4004_2408;
/// As above.
const ENABLE: libc::c_ulong = 0x2400;

/// Attaches `program` at `offset` of the file `path`, or at the return of the function that starts there: in the
/// process `pid`, or in every process that maps the file.
pub(super) fn at_function(
    program: BorrowedFd<'_>,
    at_return: bool,
    pid: Option<NonZeroU32>,
    path: &Path,
    offset: u64,
) -> io::Result<OwnedFd> {
    let kind = number(&fs::read_to_string(format!("{UPROBE}/type"))?)?;
    let flags = if at_return {
        let text = fs::read_to_string(format!("{UPROBE}/format/retprobe"))?;
        // `config:0`, where 0 is the number of the bit.
        let bit = number(text.trim().trim_start_matches("config:"))?;
        1_u64.checked_shl(bit).unwrap_or(0)
    } else {
        0
    };
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = blank(kind, flags)?;
    attributes.__bindgen_anon_3.config1 = path.as_ptr() as u64;
    attributes.__bindgen_anon_4.config2 = offset;
    // An event of one process covers every CPU. An event of every process must name a CPU, but uprobes fire on all.
    let fd = match pid {
        Some(pid) => open(&attributes, pid.get().cast_signed(), -1)?,
        None => open(&attributes, -1, 0)?,
    };
    run(program, fd)
}

/// Runs `program` at each page fault of a thread and of the threads that it starts.
pub(super) fn at_page_faults(program: BorrowedFd<'_>, thread: u32) -> io::Result<OwnedFd> {
    let (kind, which) = MINOR_FAULTS;
    let mut attributes = blank(kind, which)?;
    // Every fault.
    attributes.__bindgen_anon_1.sample_period = 1;
    attributes.set_inherit(1);
    run(program, open(&attributes, thread.cast_signed(), -1)?)
}

/// Reports each file that any process maps as code on this CPU, with the time.
pub(super) fn of_code_mappings(cpu: u32) -> io::Result<OwnedFd> {
    let (kind, which) = DUMMY;
    let mut attributes = blank(kind, which)?;
    attributes.sample_type = WITH_TIME;
    attributes.clockid = libc::CLOCK_MONOTONIC;
    attributes.set_use_clockid(1);
    attributes.set_sample_id_all(1);
    attributes.set_mmap(1);
    attributes.set_mmap2(1);
    attributes.set_exclude_kernel(1);
    open(&attributes, -1, cpu.cast_signed())
}

/// The kernel's number of an event, such as `raw_syscalls/sys_enter`.
pub(super) fn number_of(event: &str) -> io::Result<u32> {
    let read = |folder: &str| fs::read_to_string(format!("{folder}/{event}/id"));
    let [tracefs, debugfs] = EVENTS;
    number(&read(tracefs).or_else(|_| read(debugfs))?)
}

/// Runs `program` at a tracepoint, for every process.
pub(super) fn at_tracepoint(program: BorrowedFd<'_>, event: &str) -> io::Result<OwnedFd> {
    run(program, open(&blank(TRACEPOINT, number_of(event)?.into())?, -1, 0)?)
}

fn number(text: &str) -> io::Result<u32> {
    text.trim().parse().map_err(io::Error::other)
}

fn blank(kind: u32, config: u64) -> io::Result<perf_event_attr> {
    // SAFETY: plain integers and unions of them, for which all zeros is a valid value.
    let mut attributes = unsafe { std::mem::zeroed::<perf_event_attr>() };
    attributes.size = u32::try_from(size_of::<perf_event_attr>()).map_err(io::Error::other)?;
    attributes.type_ = kind;
    attributes.config = config;
    Ok(attributes)
}

fn open(attributes: &perf_event_attr, pid: i32, cpu: i32) -> io::Result<OwnedFd> {
    // SAFETY: what the attributes point to outlives the call; no group (-1).
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, attributes, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the descriptor is new, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets the program of an event and enables the event, which then holds a reference to the program.
fn run(program: BorrowedFd<'_>, event: OwnedFd) -> io::Result<OwnedFd> {
    for (request, argument) in [(SET_BPF, program.as_raw_fd()), (ENABLE, 0)] {
        // SAFETY: both requests take a number.
        if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(event)
}
