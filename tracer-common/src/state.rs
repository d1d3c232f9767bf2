//! Keys and values of the programs' maps.
//!
//! Types that user space reads or writes have the same derives as the records.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    arch::FrameRegisters,
    descriptor::OPENED_AT_ONCE,
    limits::{EXECUTABLE_RANGES, STACK_DEPTH, STACK_FRAMES},
    object::{CONSTRUCTOR_CALLS, ConstructorCall, Object},
    record::Stack,
    stack::Digest,
    stack_cache::{CachedWalk, REACH_WORDS},
};

/// Key of a resource: target, kind, handle.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct Key {
    /// Target.
    pub pid: u32,
    /// Number of the kind in the lowest byte; above it [`Target::programs`].
    pub kind: u32,
    /// Address or other handle.
    pub handle: u64,
}

/// A resource in the kernel's table of young resources: acquired, and neither released nor drained.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct Young {
    /// Bytes.
    pub size: u64,
    /// `CLOCK_MONOTONIC` of the acquisition, nanoseconds.
    pub time_ns: u64,
    /// Sequence position of the acquisition: the ring buffer's producer position.
    pub position: u64,
    /// Number of the call site; 0 when unknown. With [`crate::object::IS_OBJECT`] for a library object.
    pub site: u32,
    /// Number of the connection that its thread served; 0 for none.
    pub connection: u32,
}

/// Resources of one call site that died young: nothing else reports them to the collector.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct Died {
    /// Resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Call sites whose [`Died`] share one map value: the collector reads a page per system call.
pub const DIED_SITES: usize = 512;
/// Resources that died young, of call sites with adjacent numbers.
pub type DiedPage = [Died; DIED_SITES];

/// The code belongs to an allocator: a nested call from there is part of the outer call.
pub const CODE_ALLOCATOR: u32 = 1;
/// The code's unwind table is being built.
pub const CODE_LOADING: u32 = 2;

/// A range of executable memory, and its unwind table.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct CodeRange {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Address of the object's origin, to which its table's rows are relative.
    pub origin: u64,
    /// The table's root page.
    pub root: u32,
    /// Levels of the table; 0 without a table: the unwinder follows frame pointers.
    pub levels: u32,
    /// [`CODE_ALLOCATOR`], [`CODE_LOADING`].
    pub flags: u32,
    /// Explicit padding.
    pub padding: u32,
}

impl CodeRange {
    /// Lies behind every user address and contains none.
    pub const UNUSED: Self =
        Self { start: u64::MAX >> 1, end: 0, origin: 0, root: 0, levels: 0, flags: 0, padding: 0 };
}

/// Marks a process as a target. Separate from [`Process`], which the collector rewrites: only the programs change this
/// value once it exists.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Target {
    /// Process whose memory it uses: itself, or its parent for the child of a `vfork`.
    pub owner: u32,
    /// 1 when its children are targets too.
    pub follow: u32,
    /// Number of `execve` calls so far: distinguishes resources of different programs at the same
    /// address.
    pub programs: u32,
    /// Index of its memory map's state in `STATES`; [`NO_NUMBER`] where only its [`Process`] has the state.
    pub number: u32,
    /// Process whose descriptor table it uses, usually itself; 0 for a thread with a table of its own.
    pub files: u32,
    /// Explicit padding.
    pub padding: u32,
}

/// Number of a target whose number the programs do not know yet.
pub const NO_NUMBER: u32 = u32::MAX;
/// Upper bound of the targets' numbers.
pub const NUMBERS: u32 = 256;

/// Whether walks and addresses are cached, and under which generation, in one word: see [`Process::generation`] and
/// [`Process::walks`].
#[inline(always)]
pub const fn memory_state(generation: u32, walks: u32) -> u32 {
    generation | walks << 8
}

/// The code of one target, for the unwinder.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Process {
    /// Address of the return probes' trampoline in this target; 0 until the collector has seen it.
    pub trampoline: u64,
    /// Number of the target: a part of the tags in the rule cache.
    pub number: u32,
    /// Generation of the memory map: 1 to 255, a new one after each change; 0 when addresses must not be
    /// cached.
    pub generation: u32,
    /// Frames unwound per stack at most, up to [`STACK_FRAMES`].
    pub depth: u32,
    /// 1 when walks are cached (as well as addresses).
    pub walks: u32,
    /// Executable memory, ascending; unused ones at the end are [`CodeRange::UNUSED`].
    pub code: [CodeRange; EXECUTABLE_RANGES],
}

impl Process {
    /// A target whose executable memory is `ranges` (ascending, at most [`EXECUTABLE_RANGES`]).
    pub fn new(number: u8, generation: u8, ranges: &[CodeRange]) -> Self {
        let mut code = [CodeRange::UNUSED; EXECUTABLE_RANGES];
        for (slot, range) in code.iter_mut().zip(ranges) {
            *slot = *range;
        }
        Self {
            trampoline: 0,
            number: number.into(),
            generation: generation.into(),
            depth: STACK_FRAMES,
            walks: 0,
            code,
        }
    }
}

/// No resize in progress.
pub const OLD_NONE: u32 = 0;
/// The old resource was removed from the young ones.
pub const OLD_YOUNG: u32 = 1;
/// A resize record has announced the old resource to the collector.
pub const OLD_ANNOUNCED: u32 = 2;

/// The old resource is a drained object: it stays in the ledger until the result is known.
pub const OLD_DRAINED: u32 = 3;

/// State of a walk: the registers at the current frame. It lives in a map rather than in BPF registers: the verifier
/// then knows nothing about the values, and checks each step only once.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Walk {
    /// Address in the frame's function: a return address, or the instruction that a signal interrupted.
    pub address: u64,
    /// 1 when `address` is a return address: the call lies before it.
    pub back: u64,
    /// Stack pointer.
    pub stack_pointer: u64,
    /// The other registers by which rules find frames, except those that [`Walk::saved_at`] has.
    pub registers: FrameRegisters,
    /// Stack addresses of the registers that are saved there; read only when needed. 0 for the others.
    pub saved_at: FrameRegisters,
    /// Stack address of [`Walk::window`]; 1, at which no word lies, before the first read.
    pub window_at: u64,
    /// A part of the target's stack: one read of all words is cheaper than one read per word.
    pub window: [u64; WINDOW_WORDS],
    /// The initial stack pointer.
    pub begin: u64,
    /// The registers that still have their initial value, bits of [`crate::arch::USES_REGISTERS`].
    pub untouched: u32,
    /// Generation of the target's memory map at the walk's beginning.
    pub generation: u32,
    /// 1 when the walk may be cached.
    pub cacheable: u32,
    /// First cache entry for walks with this beginning, see [`crate::stack_cache::set`].
    pub set: u32,
    /// The stack words that the walk has read, as a future cache entry.
    pub trail: CachedWalk,
}

/// Words of stack read at once: three to six frames.
pub const WINDOW_WORDS: usize = 32;

/// A copy of a call's stack, to compare with cached walks: one per CPU.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct StackCopy {
    /// Id of the thread whose stack was copied. After a preemption a thread may find another thread's id here.
    pub owner: u64,
    /// The call's return address.
    pub caller: u64,
    /// The words above it, where walks begin.
    pub words: [u64; REACH_WORDS],
}

/// Words copied at every call, including the return address. Reading a single word costs nearly as much.
pub const STACK_COPY_WORDS: usize = 32;

/// Descriptors that a system call has opened, while the programs record them one by one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Opened {
    /// Kernel address of the registers with which the thread entered the kernel.
    pub registers: u64,
    /// Kernel address of the current descriptor's `struct file`.
    pub file: u64,
    /// Probe number of the opening call.
    pub probe: u32,
    /// Type of the current descriptor, see [`crate::descriptor::FdType`].
    pub fd_type: u32,
    /// 1 while the thread is in a system call that may open a descriptor; 2 while it creates a child that does not
    /// inherit the current descriptor; 3 while it is in `connect(2)`.
    pub pending: u32,
    /// The side that opened the current connection, see [`crate::connection::Role`].
    pub role: u32,
    /// Call site of the current descriptor.
    pub site: u32,
    /// Explicit padding.
    pub padding: u32,
    /// Number of descriptors in `list`.
    pub count: u32,
    /// Index of the current descriptor.
    pub next: u32,
    /// The descriptors. Twice as long as needed, so that the verifier sees that appended ones fit.
    pub list: [u32; 2 * OPENED_AT_ONCE],
}

/// A call that starts a thread, until the kernel has made its task.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Starting {
    /// Stack address of the call's return address; 0 without such a call.
    pub slot: u64,
    /// The return address.
    pub caller: u64,
    /// Call site; 0 when unknown.
    pub site: u32,
    /// 1 when the thread will be detached, or when that is unknown.
    pub detached: u32,
    /// Probe of the function.
    pub probe: u32,
    /// Explicit padding.
    pub padding: u32,
}

/// A running thread that a recorded call has started, by its id.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Started {
    /// Its handle.
    pub handle: u64,
    /// Sequence position of its start.
    pub position: u64,
}

/// Thread state: the call that a thread is in, and the buffers to unwind its stack.
///
/// On kernels since 6.0 programs can be preempted, so they would share buffers per CPU; buffers per thread
/// are not shared.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Thread {
    /// Id of the thread, from `bpf_get_current_pid_tgid`; 0 when free.
    pub id: u64,
    /// Copy of its process's [`Target`], which saves a lookup.
    pub target: Target,
    /// 1 while the thread is in a probed function whose result matters.
    pub active: u32,
    /// Call site of the call; 0 when unknown.
    pub site: u32,
    /// Cookie of the function.
    pub cookie: u64,
    /// Stack address of the return address: distinguishes nested calls from abandoned ones.
    pub slot: u64,
    /// The return address (before the return probe replaced it, if there is one).
    pub caller: u64,
    /// Requested bytes.
    pub size: u64,
    /// Where the function will store the handle, for out-pointers.
    pub out_pointer: u64,
    /// State of the resized resource: [`OLD_NONE`], [`OLD_YOUNG`], [`OLD_ANNOUNCED`] or [`OLD_DRAINED`].
    pub old_state: u32,
    /// 1 when the memory map changed during unwinding, and the stack is unwound a second time.
    pub again: u32,
    /// Handle of the old resource.
    pub old_handle: u64,
    /// The old resource if it was young.
    pub old: Young,
    /// Number of the connection that the thread serves; 0 for none.
    pub serving: u32,
    /// 1 when the target accepted that connection: connections that it opens while serving count for it too.
    pub accepted: u32,
    /// The descriptor of that connection; `u32::MAX` when closed.
    pub served: u32,
    /// Distinguishes call sites with the same probe and stack: see [`crate::object::Function::test`].
    pub detail: u32,
    /// 1 when the old resource is an object, which the resize moves.
    pub moving: u32,
    /// Number of nested constructor calls that the thread is in.
    pub constructor_calls: u32,
    /// Buffer for an object before its insertion into the map.
    pub object: Object,
    /// The call by which it starts another thread.
    pub starting: Starting,
    /// Those constructor calls, outermost first.
    pub constructors: [ConstructorCall; CONSTRUCTOR_CALLS],
    /// Digest of the stack being unwound.
    pub digest: Digest,
    /// State of the walk.
    pub walk: Walk,
    /// Descriptors that a system call has opened.
    pub opened: Opened,
    /// The stack being unwound.
    pub stack: Stack,
    /// Space behind the last frame: an index masked to 127 can be 127.
    pub spare: u64,
}

/// Offsets of the kernel's structure fields that the programs read, in bytes, from the kernel's type information (BTF).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Layout {
    /// `task_struct.files`.
    pub task_files: u32,
    /// `task_struct.group_leader`.
    pub task_leader: u32,
    /// `files_struct.fdt`.
    pub files_table: u32,
    /// `fdtable.fd`.
    pub table_array: u32,
    /// `fdtable.max_fds`.
    pub table_length: u32,
    /// `fdtable.open_fds`: a bit for each number in use.
    pub table_taken: u32,
    /// `task_struct.stack`.
    pub task_stack: u32,
    /// Bytes of a thread's kernel stack; 0 where the kernel has `bpf_task_pt_regs`.
    pub stack_bytes: u32,
    /// `file.f_inode`.
    pub file_inode: u32,
    /// `file.f_path` and `path.dentry` in it.
    pub file_dentry: u32,
    /// `dentry.d_name` and `qstr.name` in it.
    pub dentry_name: u32,
    /// `inode.i_mode`.
    pub inode_mode: u32,
    /// `inode.i_sb`.
    pub inode_super: u32,
    /// `super_block.s_magic`.
    pub super_magic: u32,
    /// `io_kiocb.opcode`.
    pub ring_opcode: u32,
    /// `io_kiocb.cqe` and `io_cqe.res` in it: the result of a request.
    pub ring_result: u32,
    /// `io_open.file_slot`: unless it is 0, the request opens a direct descriptor of the ring.
    pub ring_open_slot: u32,
    /// `io_accept.file_slot`.
    pub ring_accept_slot: u32,
    /// `io_socket.file_slot`.
    pub ring_socket_slot: u32,
    /// `io_close.fd`.
    pub ring_close_fd: u32,
    /// `io_close.file_slot`.
    pub ring_close_slot: u32,
    /// 1 where perf events run the programs at system calls and ring requests, 0 where raw tracepoints run them.
    pub at_events: u32,
}

/// Offsets of the kernel's socket fields: as in [`Layout`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketLayout {
    /// `file.private_data`; 0 when connections are not traced.
    pub file_private: u32,
    /// `file.f_ref`, or `file.f_count` on kernels before 6.13.
    pub file_count: u32,
    /// Value of that word for a file with one reference: 0, or 1 on kernels before 6.13.
    pub file_alone: u32,
    /// `inode.i_ino`.
    pub inode_number: u32,
    /// `socket.file`.
    pub socket_file: u32,
    /// `socket.sk`.
    pub socket_sock: u32,
    /// `sock.skc_family`.
    pub family: u32,
    /// `sock.skc_state`.
    pub state: u32,
    /// `sock.skc_num`: the local port.
    pub local_port: u32,
    /// `sock.skc_dport`: the peer's port, in network byte order.
    pub peer_port: u32,
    /// `sock.skc_rcv_saddr`.
    pub local_inet: u32,
    /// `sock.skc_daddr`.
    pub peer_inet: u32,
    /// `sock.skc_v6_rcv_saddr`.
    pub local_inet6: u32,
    /// `sock.skc_v6_daddr`.
    pub peer_inet6: u32,
    /// `sock.sk_protocol`.
    pub protocol: u32,
    /// `sock.sk_err`.
    pub error: u32,
    /// `sock.sk_peer_pid`.
    pub peer_pid: u32,
    /// `pid.numbers` and `upid.nr` in it.
    pub pid_number: u32,
    /// `tcp_sock.bytes_received`.
    pub received: u32,
    /// `tcp_sock.bytes_acked`.
    pub acked: u32,
    /// `tcp_sock.write_seq`.
    pub written: u32,
    /// `tcp_sock.snd_una`.
    pub unacked: u32,
    /// `unix_sock.addr`.
    pub unix_address: u32,
    /// `unix_sock.peer`.
    pub unix_peer: u32,
    /// `unix_address.len`.
    pub address_length: u32,
    /// `unix_address.name`, behind the address family.
    pub address_path: u32,
}

/// A tracked connection, by the address of its `struct sock`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Connection {
    /// Number of the connection.
    pub number: u32,
    /// The side that opened it, see [`crate::connection::Role`].
    pub role: u32,
    /// `CLOCK_MONOTONIC` of its leaving the established state, nanoseconds; 0 before.
    pub ended_ns: u64,
    /// The state that it entered then.
    pub state: u32,
    /// Its error then.
    pub error: u32,
}

const _: () = assert!(size_of::<Key>() == 16 && size_of::<Young>() == 32);
const _: () = assert!(
    size_of::<Thread>()
        == 40
            + 56
            + 32
            + 16
            + 24
            + size_of::<Object>()
            + size_of::<Starting>()
            + CONSTRUCTOR_CALLS * size_of::<ConstructorCall>()
            + size_of::<Walk>()
            + size_of::<Opened>()
            + 24
            + 8 * STACK_DEPTH
            + 8
);

#[cfg(test)]
mod tests {
    use super::{CodeRange, Process};

    #[test]
    fn unused_ranges_lie_behind_every_user_address_and_contain_none() {
        let range = CodeRange { start: 0x1000, end: 0x2000, ..CodeRange::default() };
        let process = Process::new(0, 1, &[range]);
        assert_eq!(process.code[0], range);
        assert!(process.code[1].start > 1 << 57 && process.code[1].end == 0);
    }
}
