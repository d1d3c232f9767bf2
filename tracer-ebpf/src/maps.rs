//! All maps, with the purpose of each. `tracer/src/kernel/tables.rs` lists their names once more;
//! `tracer/src/kernel/sizes.rs` shrinks maps to a run's needs when it loads the object.

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
        Connection, DIED_SITES, DiedPage, Key, NUMBERS, Process, StackCopy, Started, Target,
        Thread, Young,
    },
    unwind::{Page, Rule},
};

/// 1 while the programs record; with 0 every program returns at once.
#[map]
pub(crate) static SWITCH: Array<u32> = Array::with_max_entries(1, 0);

/// Targets by thread group id: the programs ignore all other processes.
#[map]
pub(crate) static TARGETS: HashMap<u32, Target> = HashMap::with_max_entries(limits::TARGETS, 0);

/// Code ranges of each target.
#[map]
pub(crate) static PROCESSES: HashMap<u32, Process> = HashMap::with_max_entries(limits::TARGETS, 0);

/// The state of each target's memory map (`memory_state`), by the target's number: the part of [`PROCESSES`] that
/// every call reads.
#[map]
pub(crate) static STATES: Array<u32> = Array::with_max_entries(NUMBERS, 0);

/// A target's [`Process`] after `execve`: code ranges unknown.
#[map]
pub(crate) static BLANK_PROCESS: Array<Process> = Array::with_max_entries(1, 0);

/// Sequence position of each process's last fork, plus one, by the lowest bits of its id; 0 before the first.
#[map]
pub(crate) static FORKS: Array<u64> = Array::with_max_entries(limits::FORKS, 0);

/// Thread states: the call that each thread is in, and the buffers to unwind its stack.
#[map]
pub(crate) static THREAD_STATES: Array<Thread> = Array::with_max_entries(limits::THREADS, 0);

/// Numbers of [`THREAD_STATES`] by `bpf_get_current_pid_tgid`.
#[map]
pub(crate) static THREADS: HashMap<u64, u32> = HashMap::with_max_entries(limits::THREADS, 0);

/// Running threads that recorded calls have started, by their id.
#[map]
pub(crate) static STARTED: HashMap<u32, Started> = HashMap::with_max_entries(limits::THREADS, 0);

/// Cache of [`THREADS`] by the lowest bits of a thread's id: a hit takes a tenth of the time.
#[map]
pub(crate) static RECENT: Array<u32> = Array::with_max_entries(limits::RECENT_THREADS, 0);

/// Free thread states. The collector fills it.
#[map]
pub(crate) static FREE_THREAD_STATES: Queue<u32> = Queue::with_max_entries(limits::THREADS, 0);

/// Young resources: acquired, and neither released nor drained by the collector.
#[map]
pub(crate) static YOUNG: HashMap<Key, Young> = HashMap::with_max_entries(limits::YOUNG_ENTRIES, 0);

/// Resources that died young, by call site: for each group of [`DIED_SITES`] call sites one page per copy of the
/// counters, see `loss::died`.
#[map]
pub(crate) static DIED: Array<DiedPage> =
    Array::with_max_entries(limits::SITES / DIED_SITES as u32 * limits::DIED_STRIPES, 0);

/// Numbers of call sites by the digest of their stack.
#[map]
pub(crate) static SITES: HashMap<Digest, u32> = HashMap::with_max_entries(limits::SITES, 0);

/// Free numbers of call sites. The collector fills it. A queue hands out each number once, even on
/// kernels without atomic fetch instructions.
#[map]
pub(crate) static FREE_SITES: Queue<u32> = Queue::with_max_entries(limits::SITES, 0);

/// Records for the collector: releases of drained resources, new stacks, overflow.
#[map]
pub(crate) static RECORDS: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

/// Live library objects. User space sets its length when it loads the programs.
#[map]
pub(crate) static OBJECTS: HashMap<Key, Object> = HashMap::with_max_entries(limits::OBJECTS, 0);

/// Objects whose release was requested, and the time of the request: `CLOCK_MONOTONIC`, nanoseconds. A map of its own:
/// the kernel may reuse an element of [`OBJECTS`] for another object before a write to it takes place.
#[map]
pub(crate) static ASKS: HashMap<ObjectId, u64> = HashMap::with_max_entries(limits::OBJECTS, 0);

/// Functions that work on objects, by probe number.
#[map]
pub(crate) static OBJECT_FUNCTIONS: Array<Function> = Array::with_max_entries(limits::PROBES, 0);

/// Connections, by the kernel address of their `struct sock`.
#[map]
pub(crate) static CONNECTIONS: HashMap<u64, Connection> =
    HashMap::with_max_entries(limits::CONNECTIONS, 0);

/// Free numbers of connections. The collector fills it.
#[map]
pub(crate) static FREE_CONNECTIONS: Queue<u32> =
    Queue::with_max_entries(limits::FREE_CONNECTIONS, 0);

/// The unwinder that entry programs tail-call; for deep stacks it tail-calls itself.
#[map]
pub(crate) static UNWINDER: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same for the programs at page faults: all programs of such an array have one type.
#[map]
pub(crate) static TOUCH_UNWINDER: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same for the programs at system calls, with the programs that continue with the next opened descriptor.
#[map]
pub(crate) static CALL_UNWINDER: ProgramArray = ProgramArray::with_max_entries(4, 0);

/// The same for the kprobes on kernel functions.
#[map]
pub(crate) static KERNEL_UNWINDER: ProgramArray = ProgramArray::with_max_entries(4, 0);

/// Unwind tables, page by page. User space sets its length when it loads the programs.
#[map]
pub(crate) static UNWIND_PAGES: Array<Page> = Array::with_max_entries(limits::UNWIND_PAGES, 0);

/// Unwind rules, by the numbers in the rows of [`UNWIND_PAGES`].
#[map]
pub(crate) static RULES: Array<Rule> = Array::with_max_entries(limits::RULES, 0);

/// Rule cache: rules by address, see `tracer_common::unwind::rule_cache`.
#[map]
pub(crate) static RULE_CACHE: Array<u64> = Array::with_max_entries(limits::RULE_CACHE_SLOTS, 0);

/// Stack cache: call sites of earlier walks, see `tracer_common::stack_cache`.
#[map]
pub(crate) static STACK_CACHE: Array<CachedWalk> = Array::with_max_entries(limits::CACHED_WALKS, 0);

/// Buffer for the comparison with cached walks.
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

/// System calls of targets, while `pace` is attached.
#[map]
pub(crate) static SYSCALLS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
