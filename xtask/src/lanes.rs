//! The lanes of `test`: which tests run together, the packages they need, and whether they need root.
//!
//! Takes nothing; passes on the table and filtersets for nextest. It must not run anything.

use anyhow::{Context as _, Result};

/// A group of tests that run together.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Its name for `--lane`.
    pub(crate) name: &'static str,
    /// The tests it claims, as a filterset of nextest. A test belongs to the last lane that claims it.
    claims: &'static str,
    /// A filterset of its tests that need no root.
    pub(crate) without_root: &'static str,
    /// Debian packages that its tests need.
    pub(crate) packages: &'static [&'static str],
    /// The lane that it runs in parallel with.
    pub(crate) beside: Option<&'static str>,
}

/// In execution order: quick failures first. Since the first lane claims every test, each test belongs to one lane,
/// including new ones.
pub(crate) const LANES: &[Lane] = &[FAST, EXAM, ATTACH, REAL, KERNELS];

/// Unit and golden tests, which need only what a Rust toolchain needs: gcc and its binutils.
const FAST: Lane =
    Lane { name: "fast", claims: "all()", without_root: "all()", packages: &[], beside: None };

/// Verdicts on the committed tapes of the exam. They belong to no earlier lane, since they need a built leaktrace, and
/// to no later one, since they need nothing else.
const EXAM: Lane = Lane {
    name: "exam",
    claims: "package(tests) & kind(test) & binary(verdicts_pass_the_exam)",
    without_root: "all()",
    packages: &[],
    beside: None,
};

/// leaktrace on our own programs, each of which prints its own truth; and unit tests that need packages or root.
const ATTACH: Lane = Lane {
    name: "attach",
    claims: "(package(tests) & kind(test) - binary(verdicts_pass_the_exam)) \
        | test(=symbolize::tests::names_of_c_plus_plus_are_demangled) \
        | test(=symbolize::tests::poor_debug_information_is_completed_from_the_symbol_table) \
        | test(=symbolize::tests::debug_files::a_packed_symbol_table_names_what_stripping_took_away) \
        | test(=symbolize::tests::debug_files::a_debug_file_is_found_in_the_targets_root)",
    without_root: "binary(victims_tell_the_truth) | binary(exam_programs_tell_the_truth)",
    packages: &[
        "gcc",
        "g++",
        "binutils",
        "libc6-dev",
        "libevent-dev",
        "libssl-dev",
        "libzmq3-dev",
        "libc-ares-dev",
        "libuv1-dev",
        // A certificate for our own TLS server.
        "openssl",
        // Compressed symbol tables.
        "xz-utils",
        // Allocators.
        "libjemalloc-dev",
        "libgoogle-perftools-dev",
        "libmimalloc-dev",
        "musl-tools",
        // To build jemalloc for a Rust program.
        "make",
    ],
    beside: None,
};

/// leaktrace on third-party programs, under load, and compared with other tools.
const REAL: Lane = Lane {
    name: "real",
    claims: "package(tests) & kind(test) & (binary(agrees_with_gdb) | binary(cycles_connections) \
        | binary(leaves_servers_unharmed) | binary(matches_an_independent_count) \
        | binary(reaches_the_bottom) | binary(sees_trees_of_servers) | test(=a_redis_server_under_load) \
        | test(=a_leak_of_a_loaded_server_is_found_and_its_size_estimated))",
    // They test the load generator, without leaktrace.
    without_root: "binary(cycles_connections)",
    packages: &[
        "gcc",
        "g++",
        "gdb",
        "binutils",
        "libc6-dev",
        "libevent-dev",
        "libssl-dev",
        "wrk",
        "memcached",
        "nginx-light",
        "openssl",
        "redis-server",
        "redis-tools",
        "nodejs",
        "python3",
        // Packages for Python programs.
        "python3-pip",
        // Network namespaces for servers.
        "iproute2",
        // An independent count of library objects.
        "bpftrace",
    ],
    beside: None,
};

/// leaktrace on other kernels; `kernels` downloads the kernels.
const KERNELS: Lane = Lane {
    name: "kernels",
    claims: "package(tests) & kind(test) & binary(runs_on_other_kernels)",
    without_root: "all()",
    packages: &["gcc", "libc6-dev", "libevent-dev", "qemu-system-x86", "busybox-static", "cpio"],
    // A virtual machine takes one processor, and attaching mostly waits for the kernel.
    beside: Some(ATTACH.name),
};

impl Lane {
    /// Finds a lane by its name.
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        LANES.iter().find(|lane| lane.name == name).with_context(|| {
            let names: Vec<&str> = LANES.iter().map(|lane| lane.name).collect();
            format!("no lane `{name}`\nhelp: one of {}", names.join(", "))
        })
    }

    /// The filterset of its tests.
    pub(crate) fn tests(&self) -> String {
        let later = LANES.iter().rev().take_while(|lane| lane.name != self.name);
        let own = format!("({})", self.claims);
        later.fold(own, |tests, lane| format!("{tests} - ({})", lane.claims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_leaves_to_later_ones_what_they_claim() {
        let fast = LANES[0].tests();
        assert!(fast.starts_with("(all()) - "), "{fast}");
        assert!(LANES[1..].iter().all(|lane| fast.contains(&format!(" - ({})", lane.claims))));
        assert_eq!(KERNELS.tests(), format!("({})", KERNELS.claims));
    }

    #[test]
    fn a_lane_runs_in_parallel_with_an_existing_one() {
        for lane in LANES {
            assert!(lane.beside.is_none_or(|name| Lane::named(name).is_ok()), "{lane:?}");
        }
        assert!(
            Lane::named("slow")
                .unwrap_err()
                .to_string()
                .contains("help: one of fast, exam, attach")
        );
    }
}
