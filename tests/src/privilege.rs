//! Who runs the tests. Most need root; without it they fail, unless skipping was asked for.

use std::fs;

/// Whether this process may load programs into the kernel.
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .and_then(|ids| ids.split_whitespace().nth(1))
            == Some("0")
    })
}

/// `true` to go on; `false` when the test is skipped, which is printed for `cargo xtask test` to count.
///
/// # Panics
///
/// Without root, unless `LEAKTRACE_SKIP_ROOT=1`: a test that did not run must not look green.
#[must_use]
#[expect(clippy::panic, clippy::print_stdout, reason = "this is the test's own outcome")]
pub fn root_or_skip() -> bool {
    if is_root() {
        return true;
    }
    if std::env::var_os("LEAKTRACE_SKIP_ROOT").is_some_and(|value| value == "1") {
        println!("skipped: needs root");
        return false;
    }
    panic!("needs root: run as root, or set LEAKTRACE_SKIP_ROOT=1 to skip the tests that do");
}
