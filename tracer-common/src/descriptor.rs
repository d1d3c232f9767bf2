//! File descriptors: their types and the calls that open them. Each list is defined only here.

use crate::attach::ProbeNumber;

/// Type of the file behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FdType {
    /// Not determined.
    Unknown = 0,
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A character or block device.
    Device = 3,
    /// A pipe, with or without a name.
    Pipe = 4,
    /// A socket of any family.
    Socket = 5,
    /// An epoll instance.
    Epoll = 6,
    /// A counter for events.
    Eventfd = 7,
    /// A timer.
    Timerfd = 8,
    /// A queue of signals to read.
    Signalfd = 9,
    /// An inotify instance: file events.
    Inotify = 10,
    /// The same for whole file systems.
    Fanotify = 11,
    /// Memory without a name in a file system.
    Memfd = 12,
    /// A process.
    Pidfd = 13,
    /// An `io_uring` instance.
    IoUring = 14,
    /// A performance counter.
    PerfEvent = 15,
    /// A program, map, link or type information of BPF.
    Bpf = 16,
    /// Page faults handled by a program.
    Userfaultfd = 17,
    /// A POSIX message queue.
    Mqueue = 18,
    /// A namespace.
    Namespace = 19,
    /// Anything else.
    Other = 20,
}

impl FdType {
    /// Every type, in the order of its number.
    pub const ALL: [Self; 21] = [
        Self::Unknown,
        Self::File,
        Self::Directory,
        Self::Device,
        Self::Pipe,
        Self::Socket,
        Self::Epoll,
        Self::Eventfd,
        Self::Timerfd,
        Self::Signalfd,
        Self::Inotify,
        Self::Fanotify,
        Self::Memfd,
        Self::Pidfd,
        Self::IoUring,
        Self::PerfEvent,
        Self::Bpf,
        Self::Userfaultfd,
        Self::Mqueue,
        Self::Namespace,
        Self::Other,
    ];

    /// The type with this number; [`FdType::Unknown`] for an unknown number.
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::File => "file",
            Self::Directory => "directory",
            Self::Device => "device",
            Self::Pipe => "pipe",
            Self::Socket => "socket",
            Self::Epoll => "epoll",
            Self::Eventfd => "eventfd",
            Self::Timerfd => "timerfd",
            Self::Signalfd => "signalfd",
            Self::Inotify => "inotify",
            Self::Fanotify => "fanotify",
            Self::Memfd => "memfd",
            Self::Pidfd => "pidfd",
            Self::IoUring => "io_uring",
            Self::PerfEvent => "perf_event",
            Self::Bpf => "bpf",
            Self::Userfaultfd => "userfaultfd",
            Self::Mqueue => "mqueue",
            Self::Namespace => "namespace",
            Self::Other => "other",
        }
    }

    /// The type of an anonymous-inode file, by the kernel's name for it; brackets and the text behind
    /// them are ignored. The names are those that the kernel shows in `/proc/PID/fd`.
    pub fn of_anonymous(name: &str) -> Self {
        let name = name.trim_start_matches('[');
        let name = name.split(']').next().unwrap_or(name);
        match name {
            "eventpoll" => Self::Epoll,
            "eventfd" => Self::Eventfd,
            "timerfd" => Self::Timerfd,
            "signalfd" => Self::Signalfd,
            "inotify" => Self::Inotify,
            "fanotify" => Self::Fanotify,
            "pidfd" => Self::Pidfd,
            "io_uring" => Self::IoUring,
            "perf_event" => Self::PerfEvent,
            "userfaultfd" => Self::Userfaultfd,
            _ if name.starts_with("bpf") || name == "btf" => Self::Bpf,
            _ => Self::Other,
        }
    }
}

/// The call that opened a descriptor. Each has a probe number, from [`FIRST_FD_ORIGIN`] on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FdOrigin {
    /// `open`, `openat`, `openat2`, `creat`, `open_by_handle_at`.
    Open = 0,
    /// `socket`.
    Socket = 1,
    /// `socketpair`.
    Socketpair = 2,
    /// `accept`, `accept4`.
    Accept = 3,
    /// `pipe`, `pipe2`.
    Pipe = 4,
    /// `dup`.
    Dup = 5,
    /// `dup2`, `dup3`.
    Dup2 = 6,
    /// `fcntl` with `F_DUPFD` or `F_DUPFD_CLOEXEC`.
    Fcntl = 7,
    /// `epoll_create`, `epoll_create1`.
    Epoll = 8,
    /// `eventfd`, `eventfd2`.
    Eventfd = 9,
    /// `timerfd_create`.
    Timerfd = 10,
    /// `signalfd`, `signalfd4`.
    Signalfd = 11,
    /// `inotify_init`, `inotify_init1`.
    Inotify = 12,
    /// `fanotify_init`.
    Fanotify = 13,
    /// `memfd_create`, `memfd_secret`.
    Memfd = 14,
    /// `pidfd_open`.
    Pidfd = 15,
    /// `pidfd_getfd`.
    PidfdGetfd = 16,
    /// `clone`, `clone3` with `CLONE_PIDFD`.
    Clone = 17,
    /// `io_uring_setup`.
    IoUringSetup = 18,
    /// A request to an `io_uring`.
    IoUring = 19,
    /// `recvmsg`, `recvmmsg`: descriptors sent by another process.
    Received = 20,
    /// `perf_event_open`.
    PerfEvent = 21,
    /// `bpf`.
    Bpf = 22,
    /// `userfaultfd`.
    Userfaultfd = 23,
    /// `mq_open`.
    Mqueue = 24,
    /// `fsopen`, `fsmount`, `fspick`, `open_tree`.
    Mount = 25,
    /// `ioctl` on a terminal or a namespace.
    Ioctl = 26,
    /// `getsockopt` with `SO_PEERPIDFD`.
    Getsockopt = 27,
    /// `landlock_create_ruleset`.
    Other = 28,
    /// It was open before the attach.
    Before = 29,
    /// By a call that no program saw: the collector found it open.
    Unseen = 30,
    /// `read` of a `fanotify` event. This one and the next are seen only where the kernel's own functions are probed.
    Read = 31,
    /// Any other system call.
    Call = 32,
    /// None: `close` of a number that is not open. The call site counts such calls, and opens nothing.
    InvalidClose = 33,
}

/// Probe number of the first origin: far above [`crate::limits::PROBES`], the bound of the functions' probe
/// numbers.
pub const FIRST_FD_ORIGIN: ProbeNumber = 0xff00;
const _: () = assert!(crate::limits::PROBES <= FIRST_FD_ORIGIN as u32);

impl FdOrigin {
    /// Every origin, in the order of its number.
    pub const ALL: [Self; 34] = [
        Self::Open,
        Self::Socket,
        Self::Socketpair,
        Self::Accept,
        Self::Pipe,
        Self::Dup,
        Self::Dup2,
        Self::Fcntl,
        Self::Epoll,
        Self::Eventfd,
        Self::Timerfd,
        Self::Signalfd,
        Self::Inotify,
        Self::Fanotify,
        Self::Memfd,
        Self::Pidfd,
        Self::PidfdGetfd,
        Self::Clone,
        Self::IoUringSetup,
        Self::IoUring,
        Self::Received,
        Self::PerfEvent,
        Self::Bpf,
        Self::Userfaultfd,
        Self::Mqueue,
        Self::Mount,
        Self::Ioctl,
        Self::Getsockopt,
        Self::Other,
        Self::Before,
        Self::Unseen,
        Self::Read,
        Self::Call,
        Self::InvalidClose,
    ];

    /// Its probe number.
    #[inline(always)]
    pub const fn probe(self) -> ProbeNumber {
        FIRST_FD_ORIGIN + self as ProbeNumber
    }

    /// The origin with this probe number; `None` for a function's.
    pub fn from_probe(probe: ProbeNumber) -> Option<Self> {
        Self::ALL.get(usize::from(probe.checked_sub(FIRST_FD_ORIGIN)?)).copied()
    }

    /// Its name in reports; `None` when the opening call is unknown.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Open => "open",
            Self::Socket => "socket",
            Self::Socketpair => "socketpair",
            Self::Accept => "accept",
            Self::Pipe => "pipe",
            Self::Dup => "dup",
            Self::Dup2 => "dup2",
            Self::Fcntl => "fcntl",
            Self::Epoll => "epoll_create",
            Self::Eventfd => "eventfd",
            Self::Timerfd => "timerfd_create",
            Self::Signalfd => "signalfd",
            Self::Inotify => "inotify_init",
            Self::Fanotify => "fanotify_init",
            Self::Memfd => "memfd_create",
            Self::Pidfd => "pidfd_open",
            Self::PidfdGetfd => "pidfd_getfd",
            Self::Clone => "clone",
            Self::IoUringSetup => "io_uring_setup",
            Self::IoUring => "io_uring",
            Self::Received => "recvmsg",
            Self::PerfEvent => "perf_event_open",
            Self::Bpf => "bpf",
            Self::Userfaultfd => "userfaultfd",
            Self::Mqueue => "mq_open",
            Self::Mount => "fsopen",
            Self::Ioctl => "ioctl",
            Self::Getsockopt => "getsockopt",
            Self::Other => "landlock_create_ruleset",
            Self::Read => "read",
            Self::Call => "system call",
            Self::InvalidClose => "close",
            Self::Before | Self::Unseen => return None,
        })
    }
}

/// Descriptors per call that are recorded one by one: as many as a message with descriptors
/// usually has. The kernel sends 253 at most; the collector finds the others open a moment later.
pub const OPENED_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use super::{FIRST_FD_ORIGIN, FdOrigin, FdType};

    #[test]
    fn numbers_round_trip() {
        for (number, fd_type) in (0_u8..).zip(FdType::ALL) {
            assert_eq!((fd_type as u8, FdType::from_number(number)), (number, fd_type));
        }
        assert_eq!(FdType::from_number(200), FdType::Unknown);
        for (number, origin) in (FIRST_FD_ORIGIN..).zip(FdOrigin::ALL) {
            assert_eq!((origin.probe(), FdOrigin::from_probe(number)), (number, Some(origin)));
        }
        assert_eq!(FdOrigin::from_probe(FIRST_FD_ORIGIN - 1), None);
    }

    #[test]
    fn anonymous_files_are_identified_by_name() {
        for (name, fd_type) in [
            ("[eventpoll]", FdType::Epoll),
            ("[eventfd]", FdType::Eventfd),
            ("[eventfd:7]", FdType::Other),
            ("inotify", FdType::Inotify),
            ("bpf-map", FdType::Bpf),
            ("[perf_event]", FdType::PerfEvent),
            ("?", FdType::Other),
        ] {
            assert_eq!(FdType::of_anonymous(name), fd_type, "{name}");
        }
    }
}
