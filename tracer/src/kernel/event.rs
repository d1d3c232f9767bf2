//! Perf events with a program each, opened and attached by hand: for programs that aya did not load.
//!
//! Takes programs and where to put them, hands on descriptors; closing one takes the program out.
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

/// Where the kernel says how uprobes are opened.
const UPROBE: &str = "/sys/bus/event_source/devices/uprobe";
/// Where the kernel describes its events; the second one before they had a file system of their own.
const EVENTS: [&str; 2] = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
/// `PERF_TYPE_TRACEPOINT`.
const TRACEPOINT: u32 = 2;
/// `PERF_TYPE_SOFTWARE` and `PERF_COUNT_SW_PAGE_FAULTS_MIN`.
const MINOR_FAULTS: (u32, u64) = (1, 5);
/// `PERF_EVENT_IOC_SET_BPF` and `PERF_EVENT_IOC_ENABLE`.
const SET_BPF: libc::c_ulong = 0x4004_2408;
/// As above.
const ENABLE: libc::c_ulong = 0x2400;

/// Puts `program` at `offset` of the file `path`, or at the return from the function that begins there: in the process
/// `pid`, or in every process that maps the file.
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
        // `config:0`, the number of the bit.
        let bit = number(text.trim().trim_start_matches("config:"))?;
        1_u64.checked_shl(bit).unwrap_or(0)
    } else {
        0
    };
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut wanted = blank(kind, flags)?;
    wanted.__bindgen_anon_3.config1 = path.as_ptr() as u64;
    wanted.__bindgen_anon_4.config2 = offset;
    // An event of a process is on every processor; one of every process wants one named, and is hit on all.
    let fd = match pid {
        Some(pid) => open(&wanted, pid.get().cast_signed(), -1)?,
        None => open(&wanted, -1, 0)?,
    };
    run(program, fd)
}

/// Has `program` run at each page fault of a thread, and of those that it starts.
pub(super) fn at_page_faults(program: BorrowedFd<'_>, thread: u32) -> io::Result<OwnedFd> {
    let (kind, which) = MINOR_FAULTS;
    let mut wanted = blank(kind, which)?;
    // Each one.
    wanted.__bindgen_anon_1.sample_period = 1;
    wanted.set_inherit(1);
    run(program, open(&wanted, thread.cast_signed(), -1)?)
}

/// The kernel's number of an event, such as `raw_syscalls/sys_enter`.
pub(super) fn number_of(event: &str) -> io::Result<u32> {
    let read = |folder: &str| fs::read_to_string(format!("{folder}/{event}/id"));
    let [usual, older] = EVENTS;
    number(&read(usual).or_else(|_| read(older))?)
}

/// Has `program` run at an event, whichever process it is about.
pub(super) fn at_tracepoint(program: BorrowedFd<'_>, event: &str) -> io::Result<OwnedFd> {
    run(program, open(&blank(TRACEPOINT, number_of(event)?.into())?, -1, 0)?)
}

fn number(text: &str) -> io::Result<u32> {
    text.trim().parse().map_err(io::Error::other)
}

fn blank(kind: u32, config: u64) -> io::Result<perf_event_attr> {
    // SAFETY: plain integers and unions of them: zeros are a value of it.
    let mut wanted = unsafe { std::mem::zeroed::<perf_event_attr>() };
    wanted.size = u32::try_from(size_of::<perf_event_attr>()).map_err(io::Error::other)?;
    wanted.type_ = kind;
    wanted.config = config;
    Ok(wanted)
}

fn open(wanted: &perf_event_attr, pid: i32, cpu: i32) -> io::Result<OwnedFd> {
    // SAFETY: what the attributes point to outlives the call; no group (-1).
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, wanted, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the descriptor is new: nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The event runs the program from now on, and holds it.
fn run(program: BorrowedFd<'_>, event: OwnedFd) -> io::Result<OwnedFd> {
    for (request, argument) in [(SET_BPF, program.as_raw_fd()), (ENABLE, 0)] {
        // SAFETY: both requests take a number.
        if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(event)
}
