//! Probes of the made-up server: on, dear, missing and refused.

use super::{LIBC, Offset, Probe, ProbeStatus};

/// One of each kind.
pub(super) fn probes() -> Vec<Probe> {
    let on = |function: &str, offset: u64, emulated, hits| Probe {
        function: function.to_owned(),
        object: Some(LIBC.to_owned()),
        offset: Some(Offset(offset)),
        emulated: Some(emulated),
        hits,
        status: ProbeStatus::On,
        why: None,
    };
    let off = |function: &str, status, why: &str| Probe {
        function: function.to_owned(),
        object: None,
        offset: None,
        emulated: None,
        hits: 0,
        status,
        why: Some(why.to_owned()),
    };
    vec![
        on("malloc", 0x9_9ac0, true, 18_200_041),
        on("calloc", 0x9_a380, true, 9_563),
        Probe {
            why: Some("no emulated instruction before the arguments change".to_owned()),
            ..on("realloc", 0x9_a0e0, false, 12)
        },
        on("free", 0x9_a063, true, 18_174_188),
        off("cfree", ProbeStatus::Missing, "no object of the target has it"),
        off("tc_malloc", ProbeStatus::Missing, "no object of the target has it"),
        Probe {
            object: Some(LIBC.to_owned()),
            ..off("mremap", ProbeStatus::Refused, "operation not permitted")
        },
        on("mmap", 0x10_f5b0, true, 8),
    ]
}
