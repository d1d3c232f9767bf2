//! System calls by number: the action that the programs take on each. Depends on the architecture.

use crate::{
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
pub static ACTIONS: [u8; NUMBERS] = actions();

/// The numbers of x86-64: `arch/x86/entry/syscalls/syscall_64.tbl` of the kernel.
const fn actions() -> [u8; NUMBERS] {
    let mut table = [NOTHING; NUMBERS];
    let open = opens(FdOrigin::Open);
    table[2] = open;
    table[85] = open;
    table[257] = open;
    table[304] = open;
    table[437] = open;
    table[3] = CLOSE;
    table[22] = PIPE;
    table[293] = PIPE;
    table[32] = opens(FdOrigin::Dup);
    table[33] = DUP2;
    table[292] = DUP2;
    table[41] = opens(FdOrigin::Socket);
    table[43] = opens(FdOrigin::Accept);
    table[288] = opens(FdOrigin::Accept);
    table[47] = RECVMSG;
    table[299] = RECVMMSG;
    table[16] = IOCTL;
    table[55] = GETSOCKOPT;
    table[444] = opens(FdOrigin::Other);
    table[53] = SOCKETPAIR;
    table[56] = CLONE;
    table[435] = CLONE3;
    table[72] = FCNTL;
    table[213] = opens(FdOrigin::Epoll);
    table[291] = opens(FdOrigin::Epoll);
    table[240] = opens(FdOrigin::Mqueue);
    table[253] = opens(FdOrigin::Inotify);
    table[294] = opens(FdOrigin::Inotify);
    table[272] = UNSHARE;
    table[282] = SIGNALFD;
    table[289] = SIGNALFD;
    table[283] = opens(FdOrigin::Timerfd);
    table[284] = opens(FdOrigin::Eventfd);
    table[290] = opens(FdOrigin::Eventfd);
    table[298] = opens(FdOrigin::PerfEvent);
    table[300] = opens(FdOrigin::Fanotify);
    table[319] = opens(FdOrigin::Memfd);
    table[447] = opens(FdOrigin::Memfd);
    table[321] = BPF;
    table[323] = opens(FdOrigin::Userfaultfd);
    table[425] = opens(FdOrigin::IoUringSetup);
    table[428] = opens(FdOrigin::Mount);
    table[430] = opens(FdOrigin::Mount);
    table[432] = opens(FdOrigin::Mount);
    table[433] = opens(FdOrigin::Mount);
    table[434] = opens(FdOrigin::Pidfd);
    table[436] = CLOSE_RANGE;
    table[438] = opens(FdOrigin::PidfdGetfd);
    attributing(table)
}

/// Adds the calls by which a thread starts or stops serving a connection.
const fn attributing(mut table: [u8; NUMBERS]) -> [u8; NUMBERS] {
    table[202] = FUTEX;
    table[42] = CONNECT;
    // `read`, `write`, `readv`, `writev`, `sendfile`, `sendto`, `recvfrom`, `sendmsg`, `shutdown`, `getsockname`,
    // `getpeername`, `setsockopt`, `sendmmsg`. (`ioctl`, `getsockopt`, `recvmsg` and `recvmmsg` serve as well.)
    table[0] = SERVE;
    table[1] = SERVE;
    table[19] = SERVE;
    table[20] = SERVE;
    table[40] = SERVE;
    table[44] = SERVE;
    table[45] = SERVE;
    table[46] = SERVE;
    table[48] = SERVE;
    table[51] = SERVE;
    table[52] = SERVE;
    table[54] = SERVE;
    table[307] = SERVE;
    // `poll`, `select`, `pause`, `nanosleep`, `wait4`, `rt_sigtimedwait`, `clock_nanosleep`, `epoll_wait`, `waitid`,
    // `pselect6`, `ppoll`, `epoll_pwait`, `io_uring_enter`, `epoll_pwait2`. (`accept` and `accept4` wait as well.)
    table[7] = WAIT;
    table[23] = WAIT;
    table[34] = WAIT;
    table[35] = WAIT;
    table[61] = WAIT;
    table[128] = WAIT;
    table[230] = WAIT;
    table[232] = WAIT;
    table[247] = WAIT;
    table[270] = WAIT;
    table[271] = WAIT;
    table[281] = WAIT;
    table[426] = WAIT;
    table[441] = WAIT;
    table
}

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
            RING_ENTER => FdOrigin::IoUring,
            _ => FdOrigin::Call,
        },
        action => return FIRST_FD_ORIGIN + (action - FIRST_OPENS) as ProbeNumber,
    };
    origin.probe()
}

/// `read`.
const READ: u64 = 0;
/// `readv`.
const READV: u64 = 19;
/// `io_uring_enter`.
const RING_ENTER: u64 = 426;

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
