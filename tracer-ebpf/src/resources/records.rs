//! Records in the ring buffer: the sequence position and the time of an event, and how a record is sent.
//!
//! Takes records, whose types `tracer-common` defines. Must not know what they say.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tracer_common::limits::RING_BYTES;

use crate::maps::RECORDS;

/// `BPF_RB_AVAIL_DATA`: bytes not consumed yet.
const AVAILABLE: u64 = 0;
/// `BPF_RB_PROD_POS`: where the next record will be written; never falls.
const PRODUCER_POSITION: u64 = 3;
/// `BPF_RB_NO_WAKEUP`: the collector polls by itself.
pub(crate) const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`: for a buffer that fills faster than the collector polls.
const FORCE_WAKEUP: u64 = 2;

/// The present sequence position, see `Change::position` of `tracer-common`.
#[inline(always)]
pub(crate) fn position() -> u64 {
    RECORDS.query(PRODUCER_POSITION)
}

/// `CLOCK_MONOTONIC`, nanoseconds. (The coarse clock would be precise enough and is cheaper, but programs of this
/// type may not call its helper.)
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Sends a record of fixed size; `false` when the ring buffer is full. The record is made in its place in the buffer: on
/// the stack, it would not fit into what the verifier allows to functions that call each other.
#[inline(always)]
pub(crate) fn emit<T: 'static>(record: impl FnOnce() -> T) -> bool {
    let Some(mut entry) = RECORDS.reserve::<T>(0) else {
        return false;
    };
    entry.write(record());
    let is_crowded = RECORDS.query(AVAILABLE) > u64::from(RING_BYTES / 4);
    entry.submit(if is_crowded { FORCE_WAKEUP } else { NO_WAKEUP });
    true
}
