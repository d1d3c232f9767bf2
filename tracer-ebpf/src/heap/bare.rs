//! Empty programs: the benchmark measures the cost of the traps alone with them.

use aya_ebpf::{
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

/// At a function's entry.
#[uprobe]
pub(crate) fn bare_entry(_context: ProbeContext) -> u32 {
    0
}

/// At a function's return.
#[uretprobe]
pub(crate) fn bare_return(_context: RetProbeContext) -> u32 {
    0
}
