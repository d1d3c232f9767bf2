//! The lanes of `test`: which tests run together, what must be installed for them, and whether they need root.
//!
//! Takes nothing; hands on the table and filtersets for nextest. It must not run anything.

use anyhow::{Context as _, Result};

/// Tests that run together.
#[derive(Debug)]
pub(crate) struct Lane {
    /// What `--lane` calls it.
    pub(crate) name: &'static str,
    /// The tests it claims, as a filterset of nextest. A test belongs to the last lane that claims it.
    claims: &'static str,
    /// Those of its tests that need no root.
    pub(crate) without_root: &'static str,
    /// Debian packages that its tests need.
    pub(crate) packages: &'static [&'static str],
    /// The lane beside which it runs.
    pub(crate) beside: Option<&'static str>,
}

/// In the order in which they run: what fails soonest comes first. Since the first claims every test, each test
/// belongs to one lane, also one that was added a moment ago.
pub(crate) const LANES: &[Lane] = &[FAST, ATTACH, REAL, KERNELS];

/// Unit and golden tests, which need what a Rust toolchain needs: gcc and its binutils.
const FAST: Lane =
    Lane { name: "fast", claims: "all()", without_root: "all()", packages: &[], beside: None };

/// leaktrace on programs of our own, each of which prints its own truth; and unit tests that need packages or root.
const ATTACH: Lane = Lane {
    name: "attach",
    claims: "(package(tests) & kind(test)) \
        | test(=symbolize::tests::names_of_c_plus_plus_are_demangled) \
        | test(=symbolize::tests::poor_debug_information_is_completed_from_the_symbol_table) \
        | test(=symbolize::tests::debug_files::a_packed_symbol_table_names_what_stripping_took_away) \
        | test(=symbolize::tests::debug_files::a_debug_file_is_found_in_the_targets_root)",
    without_root: "binary(victims_tell_the_truth)",
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
        // A certificate for our own server with TLS.
        "openssl",
        // Packed symbol tables.
        "xz-utils",
        // Allocators.
        "libjemalloc-dev",
        "libgoogle-perftools-dev",
        "libmimalloc-dev",
        "musl-tools",
        // jemalloc, as a crate of a Rust program builds it.
        "make",
    ],
    beside: None,
};

/// leaktrace on programs that others wrote, under load, and beside other tools.
const REAL: Lane = Lane {
    name: "real",
    claims: "package(tests) & kind(test) & (binary(agrees_with_gdb) | binary(cycles_connections) \
        | binary(leaves_servers_unharmed) | binary(matches_an_independent_count) \
        | binary(reaches_the_bottom) | test(=a_redis_server_under_load) \
        | test(=a_leak_of_a_loaded_server_is_found_and_its_size_estimated))",
    // They test the load, without leaktrace.
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
        // Packages for programs in Python.
        "python3-pip",
        // A network of its own for a server.
        "iproute2",
        // Another tool's count of libraries' objects.
        "bpftrace",
    ],
    beside: None,
};

/// leaktrace on other kernels; the kernels themselves are fetched by `kernels`.
const KERNELS: Lane = Lane {
    name: "kernels",
    claims: "package(tests) & kind(test) & binary(runs_on_other_kernels)",
    without_root: "all()",
    packages: &["gcc", "libc6-dev", "libevent-dev", "qemu-system-x86", "busybox-static", "cpio"],
    // A virtual machine takes one processor, and most of what attaching takes is waiting for the kernel.
    beside: Some(ATTACH.name),
};

impl Lane {
    /// The lane of this name.
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        LANES.iter().find(|lane| lane.name == name).with_context(|| {
            let names: Vec<&str> = LANES.iter().map(|lane| lane.name).collect();
            format!("no lane `{name}`\nhelp: one of {}", names.join(", "))
        })
    }

    /// Its tests, as a filterset of nextest.
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
    fn a_lane_runs_beside_one_that_there_is() {
        for lane in LANES {
            assert!(lane.beside.is_none_or(|name| Lane::named(name).is_ok()), "{lane:?}");
        }
        assert!(Lane::named("slow").unwrap_err().to_string().contains("help: one of fast, attach"));
    }
}
