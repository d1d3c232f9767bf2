//! Every map, one line of purpose each. Names are listed once more in `tracer/src/kernel/tables.rs`; maps that a run
//! needs less of are made smaller when the object is loaded (`tracer/src/kernel/sizes.rs`).

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, ProgramArray, Queue, RingBuf},
};
use tracer_common::{
    limits,
    loss::Loss,
    object::{Function, Object, ObjectId},
    stack::Digest,
    stack_cache::CachedWalk,
    state::{
        Connection, DIED_SITES, DiedPage, Key, NUMBERS, Process, StackCopy, Target, Thread, Young,
    },
    unwind::{Page, Rule},
};

/// 1 while the programs are to record; 0 lets every hit return at once.
#[map]
pub(crate) static SWITCH: Array<u32> = Array::with_max_entries(1, 0);

/// Targets by thread group id: an event of any other process is none.
#[map]
pub(crate) static TARGETS: HashMap<u32, Target> = HashMap::with_max_entries(limits::TARGETS, 0);

/// Where code is in each target.
#[map]
pub(crate) static PROCESSES: HashMap<u32, Process> = HashMap::with_max_entries(limits::TARGETS, 0);

/// The state of each target's memory map (`memory_state`), by the target's number: the part of [`PROCESSES`] that
/// every call asks for.
#[map]
pub(crate) static STATES: Array<u32> = Array::with_max_entries(NUMBERS, 0);

/// What a target starts as when another program begins to run in it: code ranges unknown.
#[map]
pub(crate) static BLANK_PROCESS: Array<Process> = Array::with_max_entries(1, 0);

/// Position of each process's last fork, plus one, by the lowest bits of its id; 0 before it.
#[map]
pub(crate) static FORKS: Array<u64> = Array::with_max_entries(limits::FORKS, 0);

/// The call each thread is in, and room for its stack.
#[map]
pub(crate) static THREAD_STATES: Array<Thread> = Array::with_max_entries(limits::THREADS, 0);

/// Numbers of [`THREAD_STATES`] by `bpf_get_current_pid_tgid`.
#[map]
pub(crate) static THREADS: HashMap<u64, u32> = HashMap::with_max_entries(limits::THREADS, 0);

/// The same by the lowest bits of a thread's id, where a room was found last: looked at first, as that costs a tenth.
#[map]
pub(crate) static RECENT: Array<u32> = Array::with_max_entries(limits::RECENT_THREADS, 0);

/// Rooms that are nobody's. Filled by the collector.
#[map]
pub(crate) static FREE_THREAD_STATES: Queue<u32> = Queue::with_max_entries(limits::THREADS, 0);

/// Resources acquired, and neither released nor drained by the collector.
#[map]
pub(crate) static YOUNG: HashMap<Key, Young> = HashMap::with_max_entries(limits::YOUNG_ENTRIES, 0);

/// What died young, by call site: for each run of [`DIED_SITES`] of them as many pages as there are copies of the
/// counters, see `loss::died`.
#[map]
pub(crate) static DIED: Array<DiedPage> =
    Array::with_max_entries(limits::SITES / DIED_SITES as u32 * limits::DIED_STRIPES, 0);

/// Numbers of call sites by the digest of their stack.
#[map]
pub(crate) static SITES: HashMap<Digest, u32> = HashMap::with_max_entries(limits::SITES, 0);

/// Numbers not given to a call site yet. Filled by the collector: a queue hands each out once, on
/// kernels without atomic fetch instructions too.
#[map]
pub(crate) static FREE_SITES: Queue<u32> = Queue::with_max_entries(limits::SITES, 0);

/// What the collector must hear of: releases of drained resources, new stacks, overflow.
#[map]
pub(crate) static RECORDS: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

/// Objects of libraries that are there. Its length is set when the object is loaded.
#[map]
pub(crate) static OBJECTS: HashMap<Key, Object> = HashMap::with_max_entries(limits::OBJECTS, 0);

/// Objects whose release was asked for, and since when: `CLOCK_MONOTONIC`, nanoseconds. A map of its own: what is
/// written into an element of [`OBJECTS`] may reach the object that gets the element next.
#[map]
pub(crate) static ASKS: HashMap<ObjectId, u64> = HashMap::with_max_entries(limits::OBJECTS, 0);

/// What functions that are about objects do, by the number of their probe.
#[map]
pub(crate) static OBJECT_FUNCTIONS: Array<Function> = Array::with_max_entries(limits::PROBES, 0);

/// Connections, by where the kernel has their sockets.
#[map]
pub(crate) static CONNECTIONS: HashMap<u64, Connection> =
    HashMap::with_max_entries(limits::CONNECTIONS, 0);

/// Numbers not given to a connection yet. Filled by the collector.
#[map]
pub(crate) static FREE_CONNECTIONS: Queue<u32> =
    Queue::with_max_entries(limits::FREE_CONNECTIONS, 0);

/// The program that unwinds, for those that have begun a call: it goes on with itself for deep stacks.
#[map]
pub(crate) static UNWINDER: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same for the programs at page faults: an array's programs are of one type.
#[map]
pub(crate) static TOUCH_UNWINDER: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same for the programs at system calls, and what goes on with the next descriptor that a call has opened.
#[map]
pub(crate) static CALL_UNWINDER: ProgramArray = ProgramArray::with_max_entries(4, 0);

/// The same for the programs at the kernel's own functions.
#[map]
pub(crate) static KERNEL_UNWINDER: ProgramArray = ProgramArray::with_max_entries(4, 0);

/// Unwind tables, page by page. Its length is set when the object is loaded.
#[map]
pub(crate) static UNWIND_PAGES: Array<Page> = Array::with_max_entries(limits::UNWIND_PAGES, 0);

/// What the numbers in the rows of [`UNWIND_PAGES`] mean.
#[map]
pub(crate) static RULES: Array<Rule> = Array::with_max_entries(limits::RULES, 0);

/// Rules of addresses met before, see `tracer_common::unwind::known`.
#[map]
pub(crate) static RULE_CACHE: Array<u64> = Array::with_max_entries(limits::RULE_CACHE_SLOTS, 0);

/// Walks made before, see `tracer_common::stack_cache`.
#[map]
pub(crate) static STACK_CACHE: Array<CachedWalk> = Array::with_max_entries(limits::CACHED_WALKS, 0);

/// Room to compare them.
#[map]
pub(crate) static STACK_COPY: PerCpuArray<StackCopy> = PerCpuArray::with_max_entries(1, 0);

/// Position of the last lost release, by hash of the handle.
#[map]
pub(crate) static DOUBT: Array<u64> = Array::with_max_entries(limits::DOUBT_SLOTS, 0);

/// Losses by reason.
#[map]
pub(crate) static LOSSES: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(Loss::ALL.len() as u32, 0);

/// Hits by number of the probe.
#[map]
pub(crate) static HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(limits::PROBES, 0);

/// Failed acquisitions by number of the probe.
#[map]
pub(crate) static FAILED: PerCpuArray<u64> = PerCpuArray::with_max_entries(limits::PROBES, 0);

/// System calls of targets, while they are counted.
#[map]
pub(crate) static SYSCALLS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
