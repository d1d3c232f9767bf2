//! Kernel memory of the maps: an estimate before they exist, and the kernel's own figure afterwards.
//!
//! [`expected`] is pure: takes map lengths and a CPU count, passes on bytes, by the kernel's own formulas
//! (`*_map_mem_usage` of Linux 6.4 and later). [`Footprint::of`] reads the kernel's figure.

use std::{fs, os::fd::AsRawFd as _};

use aya::Ebpf;
use aya_obj::{Object, generated::bpf_map_type};
use tracer_common::limits::HASH_ENTRY_BYTES;

use super::{
    code::descriptor,
    committed::OBJECT,
    failed::KernelError,
    sizes::{self, Capacity, Sizes},
    tables,
};
use crate::options::TraceOptions;

/// Bytes of a page of memory.
const PAGE: u64 = 4096;
/// Overhead of any map beside its entries: the structure that embeds `struct bpf_map`, half of this or less.
const MAP: u64 = 512;
/// A bucket of a hash map: the list head and the lock.
const BUCKET: u64 = 16;
/// A pointer.
const POINTER: u64 = 8;
/// Lock counters of a hash map, 4 bytes each per CPU (`HASHTAB_MAP_LOCK_COUNT`); kernels since 6.15 have none.
const HASH_LOCKS: u64 = 8;
/// Pages of a ring buffer before its data: its structure, and one page for each position.
const RING_PAGES: u64 = 3;

/// Kernel memory of one run's maps, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// All maps but the unwind tables; `None` where the kernel reports no figure.
    pub maps_bytes: Option<u64>,
    /// The unwind tables, whose size depends on the targets' code.
    pub unwind_bytes: Option<u64>,
}

impl Footprint {
    /// The kernel's figure for the maps (`memlock` of `/proc/self/fdinfo`). Since Linux 6.4 that is their memory; from
    /// 5.11 on it covers keys and values alone, without any ring buffer; before, it is the amount charged for them.
    pub(super) fn of(ebpf: &Ebpf) -> Self {
        let mut footprint = Self { maps_bytes: Some(0), unwind_bytes: Some(0) };
        for (name, map) in ebpf.maps() {
            let bytes = descriptor(map).and_then(|fd| {
                let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
                memlock(&info.ok()?)
            });
            let sum = footprint.sum_of(name);
            // If one figure is missing, the sum is unknown.
            *sum = sum.zip(bytes).map(|(sum, bytes)| sum + bytes);
        }
        footprint
    }

    /// The sum that a map counts toward.
    fn sum_of(&mut self, name: &str) -> &mut Option<u64> {
        if name == tables::UNWIND_PAGES { &mut self.unwind_bytes } else { &mut self.maps_bytes }
    }
}

/// Expected memory of the maps of a run with default settings, on a host with this many possible CPUs.
pub fn default_footprint(cpus: u32) -> Option<Footprint> {
    let sizes = sizes::of(&TraceOptions::default(), &Capacity::ONE, cpus);
    expected(&OBJECT.0, &sizes, cpus)
        .inspect_err(|error| log::warn!("could not compute the expected kernel memory: {error}"))
        .ok()
}

/// Expected memory of the maps in `object`, with these lengths.
fn expected(object: &[u8], sizes: &Sizes, cpus: u32) -> Result<Footprint, KernelError> {
    let object = Object::parse(object)
        .map_err(|error| KernelError::Unreadable { why: error.to_string() })?;
    let mut footprint = Footprint { maps_bytes: Some(0), unwind_bytes: Some(0) };
    for (name, map) in &object.maps {
        let shape = Shape::of(name, map, sizes);
        let sum = footprint.sum_of(name);
        *sum = sum.map(|sum| sum + kernel_bytes(&shape, cpus.into()));
    }
    Ok(footprint)
}

/// A map's attributes at creation.
struct Shape {
    kind: u32,
    key: u64,
    value: u64,
    entries: u64,
}

impl Shape {
    /// The shape of a map of the object, with its length in `sizes` if that differs between runs.
    fn of(name: &str, map: &aya_obj::Map, sizes: &Sizes) -> Self {
        let sized = sizes.iter().find(|(sized, _)| *sized == name);
        Self {
            kind: map.map_type(),
            key: map.key_size().into(),
            value: map.value_size().into(),
            entries: sized.map_or(map.max_entries(), |(_, entries)| *entries).into(),
        }
    }
}

/// Kernel memory of a map on a host with this many possible CPUs. The kernel allocates all of it at creation.
fn kernel_bytes(map: &Shape, cpus: u64) -> u64 {
    const HASH: u32 = bpf_map_type::BPF_MAP_TYPE_HASH as u32;
    const PER_CPU_ARRAY: u32 = bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32;
    const RING: u32 = bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
    const QUEUE: u32 = bpf_map_type::BPF_MAP_TYPE_QUEUE as u32;
    let Shape { kind, key, value, entries } = *map;
    let value = value.next_multiple_of(8);
    let rest = match kind {
        HASH => {
            let entry = HASH_ENTRY_BYTES as u64 + key.next_multiple_of(8) + value;
            // Each CPU has a spare entry, which replaces one that is being updated.
            let spare = cpus * (entry + POINTER);
            entries * entry + entries.next_power_of_two() * BUCKET + spare + cpus * HASH_LOCKS * 4
        }
        PER_CPU_ARRAY => entries * (value * cpus + POINTER),
        RING => {
            let pages = entries.div_ceil(PAGE);
            // The data pages are mapped twice, back to back.
            entries + RING_PAGES * PAGE + (RING_PAGES + 2 * pages) * POINTER
        }
        QUEUE => (entries + 1) * map.value,
        _ => entries * value,
    };
    MAP + rest
}

/// The kernel's figure in the `fdinfo` of a map.
fn memlock(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use tracer_common::kind::ResourceKind;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn footprint(options: &TraceOptions, capacity: &Capacity, cpus: u32) -> Footprint {
        expected(&OBJECT.0, &sizes::of(options, capacity, cpus), cpus).unwrap()
    }

    fn default_maps_bytes(cpus: u32) -> u64 {
        default_footprint(cpus).unwrap().maps_bytes.unwrap()
    }

    #[test]
    fn default_maps_take_at_most_64_mib_on_2_cpus_and_128_mib_on_256() {
        for (cpus, most) in [(1, 64), (2, 64), (4, 80), (8, 100), (64, 112), (256, 128)] {
            let bytes = default_maps_bytes(cpus);
            assert!(bytes <= most * MIB, "{cpus} CPUs: {} KiB", bytes >> 10);
        }
    }

    #[test]
    fn no_map_grows_much_per_cpu() {
        let object = Object::parse(&OBJECT.0).unwrap();
        let sizes = sizes::of(&TraceOptions::default(), &Capacity::ONE, 256);
        for (name, map) in &object.maps {
            let shape = Shape::of(name, map, &sizes);
            let each = kernel_bytes(&shape, 257) - kernel_bytes(&shape, 256);
            assert!(each <= 64 << 10, "{name} grows by {each} bytes per CPU");
        }
    }

    #[test]
    fn unwind_tables_are_counted_separately_and_bounded() {
        let unwind_pages = tracer_common::limits::UNWIND_PAGES_MOST;
        let most = Capacity { unwind_pages, ..Capacity::ONE };
        let most = footprint(&TraceOptions::default(), &most, 2);
        assert_eq!(most.maps_bytes, Some(default_maps_bytes(2)));
        assert!(most.unwind_bytes.unwrap() <= 129 * MIB);
    }

    #[test]
    fn maps_with_all_features_enabled_are_bounded() {
        let options = TraceOptions {
            kinds: ResourceKind::OFFERED.to_vec(),
            objects_are_named: true,
            descriptors_are_named: true,
            children: true,
            ..TraceOptions::default()
        };
        let capacity = Capacity { targets: 256, threads: 100_000, ..Capacity::ONE };
        for (cpus, most) in [(2, 120), (256, 184)] {
            let bytes = footprint(&options, &capacity, cpus).maps_bytes.unwrap();
            assert!(bytes <= most * MIB, "{cpus} CPUs: {} KiB", bytes >> 10);
        }
    }

    #[test]
    fn memlock_is_parsed_from_fdinfo() {
        let info = "pos:\t0\nmap_type:\t1\nmax_entries:\t16\nmemlock:\t1234\nmap_id:\t7\n";
        assert_eq!((memlock(info), memlock("pos:\t0\n")), (Some(1234), None));
    }
}
