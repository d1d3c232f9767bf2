//! File descriptors that requests to an `io_uring` open and close.
//!
//! The submitting thread or a worker, which is a thread of the same process, completes a request. The recorded stack is
//! that of the completing thread: a worker has none.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_common::descriptor::FdOrigin;

use crate::{
    fd::{context::current, opening::begin, tracepoint_args::argument},
    file::{self, at, read_u32},
    net::connection,
    resources::young::closed,
};

/// Opcodes of `linux/io_uring.h`: `IORING_OP_ACCEPT`.
const ACCEPT: u32 = 13;
/// As above.
const OPENAT: u32 = 18;
/// As above.
const CLOSE: u32 = 19;
/// As above.
const OPENAT2: u32 = 28;
/// As above.
const SOCKET: u32 = 45;
/// As above: installs a direct descriptor of the ring in the process's table.
const INSTALL: u32 = 54;

/// The kernel has accepted a request.
#[raw_tracepoint(tracepoint = "io_uring_submit_req")]
pub(crate) fn ring_submit(context: RawTracePointContext) -> i32 {
    _ = submitted(&context);
    0
}

/// The kernel has completed a request.
#[raw_tracepoint(tracepoint = "io_uring_complete")]
pub(crate) fn ring_complete(context: RawTracePointContext) -> i32 {
    _ = completed(&context);
    0
}

/// The operation of a request: one byte.
#[inline(always)]
fn opcode(request: u64) -> Option<u32> {
    Some(read_u32(request, at!(ring_opcode))? & 0xff)
}

#[inline(always)]
fn submitted(context: &RawTracePointContext) -> Option<()> {
    // The tracepoint's argument is the request.
    let request = argument::<0, 2>(context);
    if opcode(request)? != CLOSE || read_u32(request, at!(ring_close_slot))? != 0 {
        return None;
    }
    let call = current(core::ptr::null(), FdOrigin::IoUring.probe())?;
    let fd = read_u32(request, at!(ring_close_fd))?;
    if let Some(file) = file::behind(fd) {
        _ = connection::closing(&call, file);
        closed(&call, fd, 0);
    }
    Some(())
}

#[inline(always)]
fn completed(context: &RawTracePointContext) -> Option<()> {
    // The tracepoint's second argument is the request.
    let request = argument::<1, 2>(context);
    if request == 0 {
        return None;
    }
    let slot = match opcode(request)? {
        ACCEPT => read_u32(request, at!(ring_accept_slot))?,
        OPENAT | OPENAT2 => read_u32(request, at!(ring_open_slot))?,
        SOCKET => read_u32(request, at!(ring_socket_slot))?,
        INSTALL => 0,
        _ => return None,
    };
    let fd = read_u32(request, at!(ring_result))?;
    if slot != 0 || (fd as i32) < 0 {
        return None;
    }
    begin(context, file::registers()?, FdOrigin::IoUring, fd)
}
