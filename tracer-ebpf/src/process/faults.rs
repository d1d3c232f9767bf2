//! Page touches: attributes each page of a target that becomes resident to the stack that touched it.
//!
//! For `--light`, which has no probe in the target. The programs run at a software event of the kernel, at the
//! end of a page fault, and unwind from the registers with which the thread entered the kernel: these are
//! correct both for a fault of user code and for one within a system call. The programs do not know whether
//! the page is anonymous memory: user space looks it up in the kernel's page tables.

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    },
    macros::perf_event,
    programs::PerfEventContext,
};
use tracer_common::{
    attach::{Cookie, Shape},
    kind::{Kind, PAGE_BYTES},
    loss::Loss,
    state::Thread,
};

use crate::{
    arch::{Registers, read_registers},
    call::Call,
    loss::lose,
    maps::{SWITCH, TOUCH_UNWINDER},
    resources::young::touched,
    stack::{
        cache,
        site::{self, Start},
    },
};

/// The cookie of the event, as if it were a probed function.
const COOKIE: Cookie = Cookie::new(0, Kind::Pages as u8, Shape::Size, [0; 3], 0);

/// A page fault ends.
#[perf_event]
pub(crate) fn touch(context: PerfEventContext) -> u32 {
    _ = begin(&context);
    0
}

/// Unwinds the stack of the touch that the thread has begun.
#[perf_event]
pub(crate) fn take_touch(context: PerfEventContext) -> u32 {
    _ = go_on(&context);
    0
}

/// The registers with which the current thread entered the kernel.
#[inline(always)]
fn registers() -> Option<Registers> {
    // SAFETY: helpers without preconditions.
    read_registers(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64)
}

/// The current touch, as if it were a call with these registers.
#[inline(always)]
fn current(regs: &Registers) -> Option<Call> {
    if *SWITCH.get(0)? == 0 {
        return None;
    }
    let id = bpf_get_current_pid_tgid();
    let (target, thread) = Call::target_and_thread(id)?;
    Some(Call { regs, id, cookie: COOKIE, detail: 0, target, thread })
}

#[inline(always)]
fn begin(context: &PerfEventContext) -> Option<()> {
    // SAFETY: the context is the one this program was called with.
    let address = unsafe { (*context.ctx).addr };
    let regs = registers()?;
    let call = current(&regs)?;
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let thread = unsafe { &mut *call.thread_or_allocate()? };
    thread.size = address & !(PAGE_BYTES - 1);
    thread.again = 0;
    site::begin(&call, &Start::interrupted(&call), thread, call.memory_state());
    cache::invalidate_copy();
    let site = cache::lookup(&thread.walk, call.id);
    if site != 0 {
        touched(&call, thread.size, site);
        return Some(());
    }
    site::start_walk(&call, thread);
    // SAFETY: the array holds programs of this type.
    unsafe { TOUCH_UNWINDER.tail_call(context, 0) };
    // The program is missing: leaktrace is shutting down.
    lose(Loss::StackDropped);
    Some(())
}

#[inline(always)]
fn go_on(context: &PerfEventContext) -> Option<()> {
    let regs = registers()?;
    let call = current(&regs)?;
    let thread = call.thread?;
    let start = |call: &Call, _: &Thread| Start::interrupted(call);
    let Some(site) = site::advance(context, &call, thread, start) else {
        // SAFETY: the array holds programs of this type.
        unsafe { TOUCH_UNWINDER.tail_call(context, 0) };
        return None;
    };
    // SAFETY: the value belongs to this thread alone.
    touched(&call, unsafe { (*thread).size }, site);
    Some(())
}
