//! One probe hit: the thread and its target, the probe, the registers.

use aya_ebpf::{
    helpers::{bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_probe_read_user},
    programs::ProbeContext,
};
use tracer_common::{
    arch::FrameRegisters,
    attach::Cookie,
    state::{Process, Target, Thread, memory_state},
};

use crate::{
    arch::{self, Arguments, Registers},
    maps::{PROCESSES, STATES, SWITCH, TARGETS, UNWINDER},
    threads,
};

/// A hit on an attach point of a target.
pub(crate) struct Call {
    pub(crate) regs: *const Registers,
    /// Thread group in the upper half, thread in the lower.
    pub(crate) id: u64,
    pub(crate) cookie: Cookie,
    /// Distinguishes call sites with the same stack and probe: the type of a descriptor, the kind of an object; else 0.
    pub(crate) detail: u8,
    pub(crate) target: Target,
    /// The thread's state, if it has one.
    pub(crate) thread: Option<*mut Thread>,
}

impl Call {
    /// The current hit, or `None` when it must not be recorded.
    #[inline(always)]
    pub(crate) fn current(context: *mut core::ffi::c_void) -> Option<Self> {
        if !is_on(context) {
            return None;
        }
        // SAFETY: the context is the one this program was called with.
        let cookie = unsafe { bpf_get_attach_cookie(context) };
        Self::with(context, Cookie(cookie))
    }

    /// The same at a return, without the attach cookie: the cookie of the thread's call applies.
    #[inline(always)]
    pub(crate) fn returning(context: *mut core::ffi::c_void) -> Option<Self> {
        if !is_on(context) {
            return None;
        }
        Self::with(context, Cookie(0))
    }

    #[inline(always)]
    fn with(context: *mut core::ffi::c_void, cookie: Cookie) -> Option<Self> {
        let id = bpf_get_current_pid_tgid();
        let (target, thread) = Self::target_and_thread(id)?;
        Some(Self { regs: context.cast(), id, cookie, detail: 0, target, thread })
    }

    /// The target that a thread belongs to, and the thread's state if it has one.
    #[inline(always)]
    pub(crate) fn target_and_thread(id: u64) -> Option<(Target, Option<*mut Thread>)> {
        let thread = threads::find(id);
        // SAFETY: the value is copied; it changes only while no thread of the process is in a call, and
        // a thread's state does not outlive its program.
        let target = match thread {
            Some(thread) => unsafe { (*thread).target },
            None => *unsafe { TARGETS.get((id >> 32) as u32) }?,
        };
        Some((target, thread))
    }

    /// The number of the probe, with the detail that distinguishes call sites.
    #[inline(always)]
    pub(crate) fn probe_and_detail(&self) -> u32 {
        u32::from(self.cookie.probe()) | u32::from(self.detail) << 16
    }

    /// Owner of the memory: the thread group's id, or that of a `vfork`'s parent.
    #[inline(always)]
    pub(crate) fn pid(&self) -> u32 {
        self.target.owner
    }

    /// The code ranges of the target.
    #[inline(always)]
    pub(crate) fn process(&self) -> Option<*const Process> {
        PROCESSES.get_ptr(self.target.owner)
    }

    /// Its target's number and the state of its memory map (`memory_state`); zeros when unknown.
    #[inline(always)]
    pub(crate) fn memory_state(&self) -> (u32, u32) {
        let number = self.target.number;
        STATES.get(number).map_or_else(|| self.fresh_memory_state(), |state| (number, *state))
    }

    /// The same from [`PROCESSES`], which the collector writes first: for a caller that has seen a newer generation
    /// than [`Self::memory_state`] returns.
    #[inline(always)]
    pub(crate) fn fresh_memory_state(&self) -> (u32, u32) {
        // SAFETY: a value of a map, which lives at least as long as the program runs.
        self.process().map_or((0, 0), |process| unsafe {
            ((*process).number, memory_state((*process).generation, (*process).walks))
        })
    }

    /// Thread id.
    #[inline(always)]
    pub(crate) fn tid(&self) -> u32 {
        self.id as u32
    }

    /// The thread's state, allocated at its first call.
    #[inline(always)]
    pub(crate) fn thread_or_allocate(&self) -> Option<*mut Thread> {
        match self.thread {
            Some(thread) => Some(thread),
            None => threads::allocate(self.id, self.target),
        }
    }

    /// Number of the connection that the thread serves; 0 for none.
    #[inline(always)]
    pub(crate) fn serving(&self) -> u32 {
        // SAFETY: the value belongs to this thread alone.
        self.thread.map_or(0, |thread| unsafe { (*thread).serving })
    }

    /// The registers, at a hit that has them: some calls of `fd` have none.
    #[inline(always)]
    fn registers(&self) -> &Registers {
        // SAFETY: the registers of the context, which the verifier knows to be readable, or a copy of them.
        unsafe { &*self.regs }
    }

    /// The arguments, at an entry hit.
    #[inline(always)]
    pub(crate) fn arguments(&self) -> Arguments {
        arch::arguments(self.registers())
    }

    /// Stack pointer at the hit.
    #[inline(always)]
    pub(crate) fn stack_pointer(&self) -> u64 {
        arch::stack_pointer(self.registers())
    }

    /// Address of the instruction at the hit.
    #[inline(always)]
    pub(crate) fn instruction(&self) -> u64 {
        arch::instruction(self.registers())
    }

    /// The other registers by which unwind rules find frames, at the hit.
    #[inline(always)]
    pub(crate) fn frame_registers(&self) -> FrameRegisters {
        arch::frame_registers(self.registers())
    }

    /// The returned value, at a hit on a return; the first argument, at a hit on a tail call to a function
    /// that returns it.
    #[inline(always)]
    pub(crate) fn returned(&self) -> u64 {
        arch::returned(self.registers(), self.cookie.returns_first_argument())
    }

    /// Stack address of the return address, at an entry hit.
    #[inline(always)]
    pub(crate) fn slot(&self) -> u64 {
        arch::return_slot(self.stack_pointer(), self.cookie.words())
    }

    /// The return address, at an entry hit, where `word` lies at [`Call::slot`].
    #[inline(always)]
    pub(crate) fn return_address(&self, word: u64) -> u64 {
        arch::entry_return_address(self.registers(), word)
    }
}

/// Whether hits are recorded.
///
/// Every program at a function calls this, and so contains a tail call, which it never executes. Since Linux 6.13 a
/// program without a tail call gets a private stack per CPU instead of the thread's kernel stack, although
/// programs at functions can preempt each other: one would overwrite the other's stack
/// (`bpf_enable_priv_stack` and `check_max_stack_depth` of Linux).
#[inline(always)]
fn is_on(context: *mut core::ffi::c_void) -> bool {
    let Some(switch) = SWITCH.get(0) else {
        // SAFETY: the array holds programs of this type.
        unsafe { UNWINDER.tail_call(&ProbeContext::new(context), 0) };
        return false;
    };
    *switch != 0
}

/// A word of the target's memory.
#[inline(always)]
pub(crate) fn read_word(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address; a bad one is an error, not a fault.
    unsafe { bpf_probe_read_user(address as *const u64) }.ok()
}

/// The context as the pointer that helpers take.
#[inline(always)]
pub(crate) fn raw(context: &impl aya_ebpf::EbpfContext) -> *mut core::ffi::c_void {
    context.as_ptr()
}
