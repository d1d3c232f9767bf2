//! The help for each failure: one line that the user can act on.
//!
//! Takes a failure, passes on text. Matches every variant, so that the compiler requires a help line for a new one.

use super::{Failure, Kept};
use crate::arch::SUPPORTED;

impl Failure {
    /// One line that the user can act on.
    #[expect(clippy::too_many_lines, reason = "one arm per failure, and no decision in any")]
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::NoTarget => "use -p PID, -n NAME or -- CMD ARGS; see leaktrace --help"
                .to_owned(),
            Self::SeveralTargets { .. } => "use only one of -p, -n and -- CMD".to_owned(),
            Self::TooShort { least, .. } => {
                format!("use {} or more", humantime::format_duration(*least))
            }
            Self::NoBudgetFor { .. } => {
                "leave out --max-overhead, or that kind".to_owned()
            }
            Self::NoTerminal => "use -f text or -f json".to_owned(),
            Self::ScreenToFile { .. } => {
                "use -f text or -f json with -o, or leave out -o".to_owned()
            }
            Self::ScreenAtTimes => "use -f text or -f json, or leave out --at".to_owned(),
            Self::NotPermitted { .. } => "run as root (sudo leaktrace ...), or grant leaktrace \
                                          cap_bpf,cap_perfmon,cap_sys_ptrace=ep with setcap"
                .to_owned(),
            Self::UserNamespace => "run as root on the host, or in a container without a user \
                                    namespace"
                .to_owned(),
            Self::PidNamespace => "run on the host, or in a container that shares the host's \
                                   process ids (--pid=host, hostPID: true)"
                .to_owned(),
            Self::MovingStacks { .. } => "use the runtime's own profiles (net/http/pprof, heap); \
                                          to trace C code, run it in a separate program"
                .to_owned(),
            Self::NoSuchProcess { .. } => {
                "see ps -e for the ids; in a container, use the ids that \
                                           are visible where leaktrace runs"
                    .to_owned()
            }
            Self::NoSuchName { .. } => "see ps -e for the names, or give the id with -p".to_owned(),
            Self::AmbiguousName { matches, .. } => match matches.first() {
                Some(first) => format!("choose by id, for example -p {}", first.pid),
                None => "choose by id with -p".to_owned(),
            },
            Self::HeapUnreadable { .. } => "run as root (sudo leaktrace census ...), or as a user who may debug the \
                                            process (cap_sys_ptrace)"
                .to_owned(),
            Self::NoReadableHeap { .. } => "a census reads the heaps of glibc 2.28 to 2.42 only, after their first \
                                            allocation; with another allocator, trace: leaktrace -p PID"
                .to_owned(),
            Self::KernelThread { .. } => {
                "choose a user process: ps -e --ppid 2 -N".to_owned()
            }
            Self::Zombie { parent: Some(parent), .. } => {
                format!("trace its parent instead: -p {parent}; a new run is traced by leaktrace -- CMD ARGS")
            }
            Self::Zombie { parent: None, .. } => "choose a process that runs: ps -e; a new run is traced by \
                                                  leaktrace -- CMD ARGS"
                .to_owned(),
            Self::Itself { .. } => {
                "choose another process; a second leaktrace can trace this one while it runs".to_owned()
            }
            Self::Protected { more_capable: true, .. } => {
                "it has capabilities that leaktrace lacks: run leaktrace with all of them, outside of this \
                 container; to trace a service, give its own id, not that of init"
                    .to_owned()
            }
            Self::Protected { .. } => {
                "run as root (sudo leaktrace ...) on the host; if you do, a security module (AppArmor, SELinux) \
                 protects the process"
                    .to_owned()
            }
            Self::Ended { .. } => "start it under leaktrace to see it from its first instruction: \
                                   leaktrace -- CMD ARGS"
                .to_owned(),
            Self::NothingProbed { .. } => "name other functions with --alloc FUNC:size@0 --free FUNC, or \
                                           trace descriptors alone: --kind fd,socket"
                .to_owned(),
            Self::ThirtyTwoBit { .. } => "trace a 64-bit build of it".to_owned(),
            Self::NoAllocator { stripped: true, .. } => {
                "keep the symbols (build without -s, do not strip), or give the functions' addresses \
                 with --alloc 0xADDR:size@0 --free 0xADDR"
                    .to_owned()
            }
            Self::NoAllocator { .. } => "give its functions with --alloc FUNC:size@0 --free FUNC, \
                                         or their prefix with --allocator-prefix"
                .to_owned(),
            Self::NoFunction { .. } => "see nm -C and nm -D for the names of its functions; C++ \
                                        names are given as the linker knows them (nm without -C)"
                .to_owned(),
            Self::CommandNotFound { program } => {
                let program = crate::format::printable(&program.to_string_lossy());
                if program.contains('/') {
                    "check the path; it is relative to the current directory".to_owned()
                } else {
                    format!("give its path, for example ./{program}; sudo may set another PATH")
                }
            }
            Self::CommandOutput { .. } => {
                "set TMPDIR to a writable directory, or write a report instead: -f text -o FILE".to_owned()
            }
            Self::CommandNotStarted { program, .. } => {
                let program = crate::format::printable(&program.to_string_lossy());
                format!(
                    "check that it is executable and built for this machine: file {program}"
                )
            }
            Self::Architecture(_) => {
                format!("use a machine with a supported architecture: {}", SUPPORTED.join(", "))
            }
            Self::KernelTooOld { needed, .. } => {
                format!("trace on a host with kernel {needed} or newer; see leaktrace doctor")
            }
            Self::NoBtf { .. } => "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as the \
                                   distributions' kernels are; see leaktrace doctor"
                .to_owned(),
            Self::NoUprobes { .. } => "use a kernel built with CONFIG_UPROBE_EVENTS=y; see \
                                       leaktrace doctor"
                .to_owned(),
            Self::LockedDown { .. } => {
                "lower the lockdown (boot without lockdown= or Secure Boot), or trace on another \
                                        host; see leaktrace doctor"
                    .to_owned()
            }
            Self::LoadRefused { verifier, .. } if !verifier.trim().is_empty() => {
                "-v shows the verifier's reason; report it with the kernel's release".to_owned()
            }
            Self::LoadRefused { .. } => "see leaktrace doctor for what this host allows".to_owned(),
            Self::MapMemory { .. } => "raise the cgroup's memory limit, or use ulimit -l \
                                       unlimited on kernels that enforce it"
                .to_owned(),
            Self::NoObjects => "add object to --kind, as in --kind heap,object".to_owned(),
            Self::SuppressionsUnreadable { .. } => "check the path, and that the file is text".to_owned(),
            Self::BadSuppression { .. } => "write leak:PATTERN with part of a function, source file or module, * for \
                                            any characters, ^ and $ for the ends of the name; # begins a comment"
                .to_owned(),
            Self::NoPacks => "leave out --no-packs, or give a pack with --pack FILE".to_owned(),
            Self::NothingToLog => "add fd,socket to --kind, leave out --max-overhead, or leave out --log-connections".to_owned(),
            Self::OutputNotWritable { .. }
            | Self::LogNotWritable { .. }
            | Self::TapeNotWritable { .. } => {
                "choose a file in an existing, writable directory".to_owned()
            }
            Self::TapeUnreadable { .. } => {
                "check the path, and that you may read the file: a tape is for its owner only".to_owned()
            }
            Self::NotATape { .. } => {
                "replay it with the version that recorded it; --record FILE makes a new one".to_owned()
            }
            Self::OutputLost { kept, .. } => match kept {
                Kept::Stdout => "nothing is lost: the report is on stdout".to_owned(),
                Kept::File(path) => {
                    format!("nothing is lost: the report is in {}", path.display())
                }
                Kept::Nowhere => return None,
            },
        };
        Some(text)
    }
}
