//! While a thread is in a map operation the kernel runs no program at a page fault, and none at a function of its own, on
//! its processor (`bpf_disable_instrumentation` of Linux). Where such an operation can be preempted (most kernels since
//! 6.12), the target could run there meanwhile, and what it touches, opens and closes would go unseen: so, where such
//! programs are used, nothing but a thread of real-time priority may preempt one of ours.
//!
//! Takes nothing, hands on a guard. It must be held for short pieces of work only.

/// The calling thread is of real-time priority until this is dropped.
pub(super) struct PriorityGuard(());

impl PriorityGuard {
    /// `None` when that is not allowed, and when the thread is of such a priority already.
    pub(super) fn begin() -> Option<Self> {
        // SAFETY: asks about the calling thread.
        let ordinary = unsafe { libc::sched_getscheduler(0) } == libc::SCHED_OTHER;
        // The lowest: whoever else is of real-time priority goes first.
        (ordinary && set(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1)).then_some(Self(()))
    }
}

impl Drop for PriorityGuard {
    fn drop(&mut self) {
        set(libc::SCHED_OTHER, 0);
    }
}

fn set(policy: libc::c_int, priority: libc::c_int) -> bool {
    let wanted = libc::sched_param { sched_priority: priority };
    // SAFETY: a valid parameter, for the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const wanted) == 0 }
}

#[cfg(test)]
mod tests {
    use super::PriorityGuard;

    fn policy() -> i32 {
        // SAFETY: asks about the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn a_thread_is_as_it_was_afterwards() {
        let before = policy();
        let guard = PriorityGuard::begin();
        assert_eq!(guard.is_some(), policy() != before);
        drop(guard);
        assert_eq!(policy() & !libc::SCHED_RESET_ON_FORK, before);
    }
}
