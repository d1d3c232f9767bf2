//! The numbers of system calls: `arch/x86/entry/syscalls/syscall_64.tbl` of the kernel.

use crate::{
    descriptor::FdOrigin,
    syscall::{
        BPF, CLONE, CLONE3, CLOSE, CLOSE_RANGE, CONNECT, DUP2, FCNTL, FUTEX, GETSOCKOPT, IOCTL,
        NOTHING, NUMBERS, PIPE, RECVMMSG, RECVMSG, SERVE, SIGNALFD, SOCKETPAIR, UNSHARE, WAIT,
        opens,
    },
};

/// `read`.
pub const READ: u64 = 0;
/// `readv`.
pub const READV: u64 = 19;
/// `io_uring_enter`.
pub const IO_URING_ENTER: u64 = 426;

/// The action for each system call, by its number.
pub const fn syscall_actions() -> [u8; NUMBERS] {
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
