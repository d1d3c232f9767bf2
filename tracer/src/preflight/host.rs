//! Checks whether the host's kernel and privileges allow tracing.
//!
//! Takes [`Roots`], passes on [`Facts`] and the first failure that tracing would cause. Only [`Facts::gather`] reads
//! files; the checks are pure.

use std::io;

use super::{Roots, namespace, text, value};
use crate::{
    arch::{Architecture as _, Host, Unsupported},
    error::Failure,
};

/// The oldest supported kernel: 5.10 introduced programs that both call functions and tail-call.
pub const NEEDED_KERNEL: &str = "5.10";

/// [`NEEDED_KERNEL`] as numbers.
const NEEDED_VERSION: (u32, u32) = (5, 10);

/// The initial namespaces have fixed numbers (`include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;
/// See [`INITIAL_PID_NAMESPACE`].
const INITIAL_USER_NAMESPACE: u64 = 0xefff_fffd;

/// Capabilities that tracing needs: number (`include/uapi/linux/capability.h`) and name.
const NEEDED_CAPABILITIES: [(u32, &str); 2] = [(39, "CAP_BPF"), (38, "CAP_PERFMON")];

/// Includes both of [`NEEDED_CAPABILITIES`].
const CAP_SYS_ADMIN: u32 = 21;

/// Facts about this host; `None` if unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states of one object")]
pub struct Facts {
    /// Name of the processor's architecture, if leaktrace supports it.
    pub architecture: Result<&'static str, Unsupported>,
    /// Release of the running kernel.
    pub kernel: String,
    /// Effective user id.
    pub uid: Option<u32>,
    /// Effective capabilities, a bit each.
    pub capabilities: u64,
    /// Whether the kernel has type information (BTF).
    pub btf: bool,
    /// Whether the kernel has uprobes.
    pub uprobes: bool,
    /// Whether the kernel has kprobes.
    pub kprobes: bool,
    /// Whether tracefs is mounted.
    pub tracefs: bool,
    /// Lockdown mode.
    pub lockdown: Option<String>,
    /// `kernel.perf_event_paranoid`
    pub perf_event_paranoid: Option<i32>,
    /// `kernel.unprivileged_bpf_disabled`
    pub unprivileged_bpf_disabled: Option<u32>,
    /// Soft limit of locked memory, as in `/proc/self/limits`.
    pub memlock: Option<String>,
    /// Whether leaktrace runs in the initial pid namespace.
    pub initial_pid_namespace: Option<bool>,
    /// Whether leaktrace runs in the initial user namespace, the only one whose capabilities `bpf` accepts.
    pub initial_user_namespace: Option<bool>,
    /// Number of possible CPUs: per-CPU maps have an entry for each.
    pub possible_cpus: Option<u32>,
}

impl Facts {
    /// Reads the facts.
    pub fn gather(roots: &Roots) -> Self {
        let status = text(&roots.proc.join("self/status")).unwrap_or_default();
        let sysctl = |name: &str| text(&roots.proc.join("sys/kernel").join(name));
        let pmu = |name: &str| roots.sys.join("bus/event_source/devices").join(name).exists();
        Self {
            architecture: Host::supported().map(|()| Host::NAME),
            kernel: sysctl("osrelease").unwrap_or_else(|| "unknown".to_owned()),
            uid: value(&status, "Uid").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok()),
            capabilities: value(&status, "CapEff")
                .and_then(|bits| u64::from_str_radix(bits, 16).ok())
                .unwrap_or(0),
            btf: roots.sys.join("kernel/btf/vmlinux").exists(),
            uprobes: pmu("uprobe"),
            kprobes: pmu("kprobe"),
            tracefs: ["kernel/tracing/events", "kernel/debug/tracing/events"]
                .iter()
                .any(|path| roots.sys.join(path).exists()),
            lockdown: text(&roots.sys.join("kernel/security/lockdown"))
                .and_then(|modes| chosen(&modes).map(str::to_owned)),
            perf_event_paranoid: sysctl("perf_event_paranoid").and_then(|text| text.parse().ok()),
            unprivileged_bpf_disabled: sysctl("unprivileged_bpf_disabled")
                .and_then(|text| text.parse().ok()),
            memlock: text(&roots.proc.join("self/limits")).and_then(|limits| {
                let soft = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
                soft?.split_whitespace().next().map(str::to_owned)
            }),
            initial_pid_namespace: namespace(roots, "pid").map(|n| n == INITIAL_PID_NAMESPACE),
            initial_user_namespace: namespace(roots, "user").map(|n| n == INITIAL_USER_NAMESPACE),
            possible_cpus: text(&roots.sys.join("devices/system/cpu/possible"))
                .and_then(|ranges| last(&ranges)?.checked_add(1)),
        }
    }

    /// The first reason why tracing cannot work here. Reasons that no user can fix come first.
    ///
    /// Lockdown is not a reason: its modes forbid reading kernel memory and kprobes, which tracing of memory does not
    /// need. If the kernel refuses a program anyway, [`Facts::blame`] names the cause.
    pub fn check(&self) -> Result<(), Failure> {
        self.architecture.map_err(Failure::Architecture)?;
        if self.kernel_is_new_enough() == Some(false) {
            return Err(Failure::KernelTooOld {
                found: self.kernel.clone(),
                needed: NEEDED_KERNEL,
            });
        }
        if !self.uprobes {
            return Err(Failure::NoUprobes { kernel: self.kernel.clone() });
        }
        if !self.btf {
            return Err(Failure::NoBtf { kernel: self.kernel.clone() });
        }
        let missing = self.missing_capabilities();
        if !missing.is_empty() {
            return Err(Failure::NotPermitted { missing });
        }
        if self.initial_user_namespace == Some(false) {
            return Err(Failure::UserNamespace);
        }
        if self.initial_pid_namespace == Some(false) {
            return Err(Failure::PidNamespace);
        }
        Ok(())
    }

    /// The cause of the kernel's refusal of `program`: lockdown if it forbids it, else the verifier.
    pub fn blame(&self, program: &str, verifier: &str, source: io::Error) -> Failure {
        let program = program.to_owned();
        match &self.lockdown {
            Some(mode)
                if mode != "none"
                    && verifier.trim().is_empty()
                    && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Failure::LockedDown { program, mode: mode.clone(), source }
            }
            _ => Failure::LoadRefused { program, verifier: verifier.to_owned(), source },
        }
    }

    /// Whether the kernel is new enough; unknown for a release that does not begin with two numbers.
    pub fn kernel_is_new_enough(&self) -> Option<bool> {
        version(&self.kernel).map(|found| found >= NEEDED_VERSION)
    }

    /// Names of needed capabilities that are missing.
    pub fn missing_capabilities(&self) -> Vec<&'static str> {
        if self.has(CAP_SYS_ADMIN) {
            return Vec::new();
        }
        NEEDED_CAPABILITIES
            .into_iter()
            .filter(|(number, _)| !self.has(*number))
            .map(|(_, name)| name)
            .collect()
    }

    /// Whether maps count toward the limit of locked memory: before Linux 5.11. (leaktrace lifts it for itself.)
    pub fn locks_maps(&self) -> bool {
        version(&self.kernel).is_some_and(|found| found < (5, 11))
    }

    /// Whether a return under a return probe is a system call, for which a seccomp filter may kill the process: on
    /// kernels 6.11 to 6.13.
    pub fn return_probes_meet_seccomp(&self) -> bool {
        version(&self.kernel).is_some_and(|found| ((6, 11)..=(6, 13)).contains(&found))
    }

    fn has(&self, capability: u32) -> bool {
        self.capabilities & (1 << capability) != 0
    }
}

/// The last number of a list like `0-3,8`.
fn last(ranges: &str) -> Option<u32> {
    ranges.rsplit([',', '-']).next()?.parse().ok()
}

/// Major and minor number of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The word in brackets, as in `none [integrity] confidentiality`.
fn chosen(modes: &str) -> Option<&str> {
    Some(modes.split_once('[')?.1.split_once(']')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            architecture: Ok("x86-64"),
            kernel: "6.12.9-amd64".to_owned(),
            uid: Some(0),
            capabilities: u64::MAX,
            btf: true,
            uprobes: true,
            kprobes: true,
            tracefs: true,
            lockdown: Some("none".to_owned()),
            perf_event_paranoid: Some(2),
            unprivileged_bpf_disabled: Some(2),
            memlock: Some("8388608".to_owned()),
            initial_pid_namespace: Some(true),
            initial_user_namespace: Some(true),
            possible_cpus: Some(2),
        }
    }

    fn refused(change: impl FnOnce(&mut Facts)) -> String {
        let mut facts = good();
        change(&mut facts);
        facts.check().map_or_else(|failure| format!("{failure:?}"), |()| "passes".to_owned())
    }

    #[test]
    fn each_missing_feature_is_reported() {
        assert_eq!(refused(|_| ()), "passes");
        for (refused, named) in [
            (
                refused(|facts| facts.architecture = Err(Unsupported { architecture: "riscv64" })),
                "Architecture(",
            ),
            (refused(|facts| facts.kernel = "5.9.16-amd64".to_owned()), "KernelTooOld"),
            (refused(|facts| facts.uprobes = false), "NoUprobes"),
            (refused(|facts| facts.btf = false), "NoBtf"),
            (refused(|facts| facts.capabilities = 1 << 39), "NotPermitted { missing: [\"CAP_PERFM"),
            (refused(|facts| facts.initial_user_namespace = Some(false)), "UserNamespace"),
        ] {
            assert!(refused.starts_with(named), "{refused}");
        }
    }

    #[test]
    fn unknown_or_unneeded_features_are_not_obstacles() {
        assert_eq!(refused(|facts| facts.kernel = "unknown".to_owned()), "passes");
        assert_eq!(refused(|facts| facts.kprobes = false), "passes");
        assert_eq!(refused(|facts| facts.lockdown = Some("integrity".to_owned())), "passes");
        assert_eq!(refused(|facts| facts.capabilities = 1 << 38 | 1 << 39), "passes");
        assert_eq!(refused(|facts| facts.capabilities = 1 << 21), "passes");
    }

    #[test]
    fn lockdown_is_blamed_only_where_it_may_be_the_cause() {
        let blame = |mode: &str, verifier, code| {
            let facts = Facts { lockdown: Some(mode.to_owned()), ..good() };
            facts.blame("resize", verifier, io::Error::from_raw_os_error(code))
        };
        assert!(matches!(blame("confidentiality", "", 1), Failure::LockedDown { .. }));
        assert!(matches!(blame("none", "", 1), Failure::LoadRefused { .. }));
        assert!(matches!(blame("integrity", "R1 invalid", 13), Failure::LoadRefused { .. }));
        assert!(matches!(blame("integrity", "", 7), Failure::LoadRefused { .. }));
    }

    #[test]
    fn releases_of_distributions_are_parsed() {
        for (release, numbers) in [
            ("6.18.44-custom", Some((6, 18))),
            ("5.15.0-1051-aws", Some((5, 15))),
            ("6.1-rc3", Some((6, 1))),
            ("7.2", Some((7, 2))),
            ("", None),
        ] {
            assert_eq!(version(release), numbers, "{release}");
        }
        assert!(
            Facts { kernel: "5.10.0".to_owned(), ..good() }.locks_maps() && !good().locks_maps()
        );
        assert!(Facts { kernel: "6.11.0".to_owned(), ..good() }.return_probes_meet_seccomp());
        assert!(!Facts { kernel: "6.14.2".to_owned(), ..good() }.return_probes_meet_seccomp());
    }

    #[test]
    fn facts_are_read_from_files() {
        let dir = std::env::temp_dir().join(format!("leaktrace-host-{}", std::process::id()));
        let roots = Roots { proc: dir.join("proc"), sys: dir.join("sys") };
        for (path, content) in [
            ("proc/self/status", "Name:\tx\nUid:\t1000\t0\t0\t0\nCapEff:\t000000c000000000\n"),
            ("proc/self/limits", "Max locked memory         8388608   8388608   bytes\n"),
            ("proc/sys/kernel/osrelease", "6.12.9-amd64\n"),
            ("proc/sys/kernel/perf_event_paranoid", "-1\n"),
            ("sys/bus/event_source/devices/uprobe/type", "9\n"),
            ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ] {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        std::fs::create_dir_all(dir.join("proc/self/ns")).unwrap();
        std::os::unix::fs::symlink("pid:[4026531836]", dir.join("proc/self/ns/pid")).unwrap();
        let facts = Facts::gather(&roots);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            facts,
            Facts {
                capabilities: 0xc0_0000_0000,
                btf: false,
                kprobes: false,
                tracefs: false,
                lockdown: Some("integrity".to_owned()),
                perf_event_paranoid: Some(-1),
                unprivileged_bpf_disabled: None,
                initial_user_namespace: None,
                possible_cpus: None,
                ..good()
            }
        );
    }
}
