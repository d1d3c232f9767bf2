//! System calls: the actions that the programs take on them. Their numbers depend on the architecture.

use crate::{
    arch::{IO_URING_ENTER, READ, READV, syscall_actions},
    attach::ProbeNumber,
    descriptor::{FIRST_FD_ORIGIN, FdOrigin},
};

/// Length of the table of system calls: a power of two.
pub const NUMBERS: usize = 512;

/// No action.
pub const NOTHING: u8 = 0;
/// `close`.
pub const CLOSE: u8 = 1;
/// `close_range`.
pub const CLOSE_RANGE: u8 = 2;
/// `dup2`, `dup3`: returns a new descriptor, whose number may have been open before.
pub const DUP2: u8 = 3;
/// `fcntl`: some commands return a new descriptor.
pub const FCNTL: u8 = 4;
/// `pipe`, `pipe2`: stores two new descriptors at the first argument.
pub const PIPE: u8 = 5;
/// `socketpair`: the same at the fourth argument.
pub const SOCKETPAIR: u8 = 6;
/// `recvmsg`: the message may carry descriptors.
pub const RECVMSG: u8 = 7;
/// `clone`: may store a pidfd at the third argument.
pub const CLONE: u8 = 8;
/// `clone3`: may store a pidfd at the address in its structure.
pub const CLONE3: u8 = 9;
/// `bpf`: some commands return a new descriptor.
pub const BPF: u8 = 10;
/// `unshare`.
pub const UNSHARE: u8 = 11;
/// `signalfd`, `signalfd4`: returns a new descriptor unless the caller passes an old one.
pub const SIGNALFD: u8 = 12;

/// `recvmmsg`: like `recvmsg`, with several messages.
pub const RECVMMSG: u8 = 13;
/// `ioctl`: some commands return a new descriptor.
pub const IOCTL: u8 = 14;
/// `getsockopt`: may store a pidfd at the fourth argument.
pub const GETSOCKOPT: u8 = 15;

/// The call uses the descriptor in its first argument: the thread serves that descriptor's connection.
pub const SERVE: u8 = 16;
/// The call waits for work: the thread no longer serves a connection.
pub const WAIT: u8 = 17;
/// `futex`: a wait for a condition is a wait for work, a wait for a lock is not.
pub const FUTEX: u8 = 18;
/// `connect`.
pub const CONNECT: u8 = 19;

/// The first of the actions that [`opens`] returns.
const FIRST_OPENS: u8 = 64;

/// Action for a call that returns a new descriptor of this origin.
#[inline(always)]
pub const fn opens(origin: FdOrigin) -> u8 {
    FIRST_OPENS + origin as u8
}

/// The action for each call, by its number.
pub static ACTIONS: [u8; NUMBERS] = syscall_actions();

/// Whether a `futex(2)` with these flags waits for a condition or a semaphore: C libraries use `FUTEX_WAIT_BITSET` for
/// those, and not for locks.
#[inline(always)]
pub const fn waits_for_work(operation: u64) -> bool {
    operation & 0x7f == 9
}

/// The probe number of the origin of a descriptor that the call with this number and action has opened. The caller
/// knows that it has opened one.
#[inline(always)]
pub const fn opener(action: u8, number: u64) -> ProbeNumber {
    let origin = match action {
        DUP2 => FdOrigin::Dup2,
        FCNTL => FdOrigin::Fcntl,
        PIPE => FdOrigin::Pipe,
        SOCKETPAIR => FdOrigin::Socketpair,
        RECVMSG | RECVMMSG => FdOrigin::Received,
        CLONE | CLONE3 => FdOrigin::Clone,
        BPF => FdOrigin::Bpf,
        SIGNALFD => FdOrigin::Signalfd,
        IOCTL => FdOrigin::Ioctl,
        GETSOCKOPT => FdOrigin::Getsockopt,
        // The kernel completes deferred ring requests at the end of any system call of their thread.
        CLOSE | CLOSE_RANGE | UNSHARE => FdOrigin::IoUring,
        NOTHING | SERVE | WAIT | FUTEX | CONNECT => match number {
            READ | READV => FdOrigin::Read,
            IO_URING_ENTER => FdOrigin::IoUring,
            _ => FdOrigin::Call,
        },
        action => return FIRST_FD_ORIGIN + (action - FIRST_OPENS) as ProbeNumber,
    };
    origin.probe()
}

/// Commands of `bpf(2)` that return a descriptor, a bit each: maps, programs, objects, type information, links,
/// iterators, statistics, tokens. `enum bpf_cmd` of `linux/bpf.h`.
pub const BPF_OPENS: u64 = 1
    | 1 << 5
    | 1 << 7
    | 1 << 13
    | 1 << 14
    | 1 << 17
    | 1 << 18
    | 1 << 19
    | 1 << 28
    | 1 << 30
    | 1 << 32
    | 1 << 33
    | 1 << 36;

#[cfg(test)]
mod tests {
    use super::{ACTIONS, NUMBERS, opener};
    use crate::descriptor::FdOrigin;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_call_that_may_open_has_an_origin() {
        for (number, wanted) in [
            (2, FdOrigin::Open),
            (33, FdOrigin::Dup2),
            (72, FdOrigin::Fcntl),
            (0, FdOrigin::Read),
            (232, FdOrigin::Call),
            (426, FdOrigin::IoUring),
            (3, FdOrigin::IoUring),
            (56, FdOrigin::Clone),
        ] {
            assert_eq!(opener(ACTIONS[number], number as u64), wanted.probe(), "{number}");
        }
        for (number, action) in ACTIONS.iter().enumerate() {
            let origin = opener(*action, number as u64);
            assert!(FdOrigin::from_probe(origin).is_some(), "{number} of {NUMBERS}");
        }
    }
}
