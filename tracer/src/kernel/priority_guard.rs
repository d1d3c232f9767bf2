//! Real-time priority for the calling thread during map operations.
//!
//! While a thread is in a map operation, the kernel skips page-fault programs and kprobes on its CPU
//! (`bpf_disable_instrumentation` of Linux). Where the operation can be preempted (most kernels since 6.12), the target
//! may run on that CPU in the middle of it, and its page touches, opens and closes are missed. So, where such programs
//! are in use, only a thread of real-time priority may preempt one of ours.
//!
//! Takes nothing, passes on a guard. Hold it for short pieces of work only.

/// Whether map operations of this run need a [`PriorityGuard`]: during them the kernel skips some programs.
#[derive(Clone, Copy)]
pub(super) struct PriorityGuards {
    pub(super) needed: bool,
}

impl PriorityGuards {
    /// A guard, if the programs of this run need it.
    pub(super) fn begin(self) -> Option<PriorityGuard> {
        if self.needed { PriorityGuard::begin() } else { None }
    }
}

/// The calling thread has real-time priority until this is dropped.
pub(super) struct PriorityGuard(());

impl PriorityGuard {
    /// `None` when the kernel does not allow it, and when the thread already has such a priority.
    fn begin() -> Option<Self> {
        // SAFETY: reads the policy of the calling thread.
        let ordinary = unsafe { libc::sched_getscheduler(0) } == libc::SCHED_OTHER;
        // The lowest: every other real-time thread runs first.
        (ordinary && set(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1)).then_some(Self(()))
    }
}

impl Drop for PriorityGuard {
    fn drop(&mut self) {
        set(libc::SCHED_OTHER, 0);
    }
}

fn set(policy: libc::c_int, priority: libc::c_int) -> bool {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: a valid parameter, for the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) == 0 }
}

#[cfg(test)]
mod tests {
    use super::PriorityGuard;

    fn policy() -> i32 {
        // SAFETY: reads the policy of the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn the_guard_restores_the_scheduling_policy() {
        let before = policy();
        let guard = PriorityGuard::begin();
        assert_eq!(guard.is_some(), policy() != before);
        drop(guard);
        assert_eq!(policy() & !libc::SCHED_RESET_ON_FORK, before);
    }
}
