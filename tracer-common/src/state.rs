//! What the programs keep in maps.
//!
//! Values that user space reads or writes carry the same derives as the records.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    descriptor::OPENED_AT_ONCE,
    limits::{EXECUTABLE_RANGES, STACK_DEPTH, STACK_FRAMES},
    object::{CONSTRUCTOR_CALLS, ConstructorCall, Object},
    record::Stack,
    stack::Digest,
    stack_cache::{CachedWalk, REACH_WORDS},
};

/// Key of a resource: whose, of what kind, which.
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

/// A resource in the kernel's table of the young: acquired, and neither released nor drained.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct Young {
    /// Bytes.
    pub size: u64,
    /// `CLOCK_MONOTONIC` of the acquisition, nanoseconds.
    pub time_ns: u64,
    /// Producer position of the ring buffer at the acquisition: its place in the order of things.
    pub position: u64,
    /// Number of the call site; 0 when unknown. With [`crate::object::IS_OBJECT`] for a library's object.
    pub site: u32,
    /// Number of the connection that its thread served; 0 for none.
    pub connection: u32,
}

/// What died young at one call site: it never reached the collector otherwise.
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

/// Call sites whose [`Died`] lie in one value: the collector reads them page by page, each copied by the kernel at once.
pub const DIED_SITES: usize = 512;
/// What died young at the call sites with neighboring numbers.
pub type DiedPage = [Died; DIED_SITES];

/// The code is an allocator's: a call from there, made during a call, is part of that call.
pub const CODE_ALLOCATOR: u32 = 1;
/// The code's unwind table is being made.
pub const CODE_LOADING: u32 = 2;

/// Executable memory, and where its unwind table is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct CodeRange {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Address of the object's origin, which its table's rows count from.
    pub origin: u64,
    /// The table's root page.
    pub root: u32,
    /// Levels of the table; 0 without one: frame pointers are followed.
    pub levels: u32,
    /// [`CODE_ALLOCATOR`], [`CODE_LOADING`].
    pub flags: u32,
    /// Explicit padding.
    pub padding: u32,
}

impl CodeRange {
    /// Sorts behind every user address and holds none.
    pub const UNUSED: Self =
        Self { start: u64::MAX >> 1, end: 0, origin: 0, root: 0, levels: 0, flags: 0, padding: 0 };
}

/// That a process is a target. Apart from [`Process`], which the collector renews: this is changed by
/// the programs alone once it is there.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Target {
    /// Whose memory it runs in: its own id, but for the child of a `vfork`, which runs in its parent's.
    pub owner: u32,
    /// 1 when its children are targets too.
    pub follow: u32,
    /// How many programs it has run one after the other, the first not counted: tells what each
    /// acquired apart where addresses are the same.
    pub programs: u32,
    /// Where the state of its memory map stands in `STATES`; [`NO_NUMBER`] where only its [`Process`] tells it.
    pub number: u32,
    /// Whose table of file descriptors it uses: mostly its own id; 0 for a thread with one of its own.
    pub files: u32,
    /// Explicit padding.
    pub padding: u32,
}

/// The number of a target whose number the programs do not know.
pub const NO_NUMBER: u32 = u32::MAX;
/// Numbers that targets may have: below it.
pub const NUMBERS: u32 = 256;

/// What decides whether walks and addresses are stack_cache, in one word: see [`Process::generation`] and
/// [`Process::walks`].
#[inline(always)]
pub const fn memory_state(generation: u32, walks: u32) -> u32 {
    generation | walks << 8
}

/// One target's code as the programs know it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Process {
    /// Where hijacked returns lead in this target; 0 while the collector has not seen it.
    pub trampoline: u64,
    /// Number of the target among those traced: a part of what is stack_cache of addresses.
    pub number: u32,
    /// State of the memory map: 1 to 255, another one after each change; 0 when no address is to be
    /// stack_cache.
    pub generation: u32,
    /// Frames taken of a stack at most, up to [`STACK_FRAMES`].
    pub depth: u32,
    /// 1 when walks are stack_cache (and addresses are).
    pub walks: u32,
    /// Executable memory, ascending; unused ones at the end are [`CodeRange::UNUSED`].
    pub code: [CodeRange; EXECUTABLE_RANGES],
}

impl Process {
    /// A target whose executable memory is `ranges` (ascending, at most [`EXECUTABLE_RANGES`]).
    pub fn new(number: u8, generation: u8, ranges: &[CodeRange]) -> Self {
        let mut code = [CodeRange::UNUSED; EXECUTABLE_RANGES];
        for (place, range) in code.iter_mut().zip(ranges) {
            *place = *range;
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

/// No resize under way.
pub const OLD_NONE: u32 = 0;
/// The old resource was taken out of the young.
pub const OLD_YOUNG: u32 = 1;
/// The old resource was announced to the collector by a resize record.
pub const OLD_ANNOUNCED: u32 = 2;

/// The old resource is an object that the collector has: it stays until the outcome is known.
pub const OLD_DRAINED: u32 = 3;

/// Registers at the frame that unwinding has come to. In a map and not in a program's registers: the
/// verifier then knows nothing of their values, and checks each step once.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Walk {
    /// Address in the frame's function: a return address, or where a signal interrupted it.
    pub address: u64,
    /// 1 when `address` is a return address: the call lies before it.
    pub back: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Frame pointer, unless it is still where `rbp_at` says.
    pub rbp: u64,
    /// Where `rbp` was saved, when it is not in the field above; read only when needed.
    pub rbp_at: u64,
    /// The same for `rbx`.
    pub rbx: u64,
    /// The same for `rbx`.
    pub rbx_at: u64,
    /// Where [`Walk::window`] was read from; 1, which no word is at, when nothing was read yet.
    pub window_at: u64,
    /// A piece of the target's stack: asking for it at once is cheaper than word by word.
    pub window: [u64; WINDOW_WORDS],
    /// The stack pointer that the walk began with.
    pub begin: u64,
    /// The registers that still are what they were at the walk's beginning, as
    /// [`crate::stack_cache::USES_RBP`] and its kin.
    pub untouched: u32,
    /// State of the target's memory map at the walk's beginning.
    pub generation: u32,
    /// 1 when the walk is to be stack_cache.
    pub cacheable: u32,
    /// Where walks that begin so are stack_cache, see [`crate::stack_cache::set`].
    pub set: u32,
    /// What the walk has read.
    pub trail: CachedWalk,
}

/// Words of stack read at once: three to six frames.
pub const WINDOW_WORDS: usize = 32;

/// A copy of a call's stack, to compare stack_cache walks with: one per CPU.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct StackCopy {
    /// The thread whose words they are. One that was preempted finds another's number here.
    pub owner: u64,
    /// The call's return address.
    pub caller: u64,
    /// The words above it: where walks begin.
    pub words: [u64; REACH_WORDS],
}

/// Words copied at every call, the return address among them. Asking for one costs nearly as much.
pub const STACK_COPY_WORDS: usize = 32;

/// Descriptors that a system call has opened, on their way to the ledger.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Opened {
    /// Where the kernel has the registers with which the thread entered it.
    pub registers: u64,
    /// Where it has the file that the one at hand leads to, or is to lead to.
    pub file: u64,
    /// The opener's number among the probes.
    pub probe: u32,
    /// What the one at hand leads to, see [`crate::descriptor::FdType`].
    pub fd_type: u32,
    /// 1 while the thread is in a system call that may open something; 2 while it makes a child that is to have no copy
    /// of what is at hand; 3 while it is in `connect(2)`.
    pub pending: u32,
    /// Who began the connection at hand, see [`crate::connection::Role`].
    pub role: u32,
    /// Call site of the one at hand.
    pub site: u32,
    /// Explicit padding.
    pub padding: u32,
    /// How many there are.
    pub count: u32,
    /// Which one is at hand.
    pub next: u32,
    /// Their numbers. As much room again, so that the verifier sees that what is appended has room.
    pub list: [u32; 2 * OPENED_AT_ONCE],
}

/// One thread: the call it is in, and room to take a stack.
///
/// Programs can be preempted on kernels since 6.0, so room per CPU would be shared; room per thread
/// is not.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Thread {
    /// Whose this is, as `bpf_get_current_pid_tgid` says it; 0 when nobody's.
    pub id: u64,
    /// Its process as a target: what [`Target`] says, found with the thread at once.
    pub target: Target,
    /// 1 while a probed function that returns something has been entered and not left.
    pub active: u32,
    /// Call site of the call; 0 when unknown.
    pub site: u32,
    /// Cookie of the function.
    pub cookie: u64,
    /// Where the return address lies: tells nested calls and abandoned ones apart.
    pub slot: u64,
    /// The return address (before the return probe replaced it, if there is one).
    pub caller: u64,
    /// Bytes asked for.
    pub size: u64,
    /// Where the handle will be stored, for out-pointers.
    pub out_pointer: u64,
    /// What became of the resource a resize is about: [`OLD_NONE`] and its kin.
    pub old_state: u32,
    /// 1 when the memory map changed while the stack was taken, and it is taken once more.
    pub again: u32,
    /// Handle of the old resource.
    pub old_handle: u64,
    /// The old resource when it was young.
    pub old: Young,
    /// Number of the connection that is being served; 0 for none.
    pub serving: u32,
    /// 1 when that one was accepted: those that the target opens meanwhile serve it too.
    pub accepted: u32,
    /// The descriptor at whose other end it is; `u32::MAX` when that is closed.
    pub served: u32,
    /// What else than probe and stack tells the call site: see [`crate::object::Function::test`].
    pub detail: u32,
    /// 1 when the old resource is an object, which the resize moves.
    pub moving: u32,
    /// How many makers of objects the thread is in.
    pub constructor_calls: u32,
    /// An object on its way into its map.
    pub object: Object,
    /// Those makers, the outermost first.
    pub constructors: [ConstructorCall; CONSTRUCTOR_CALLS],
    /// Digest of the stack under way.
    pub digest: Digest,
    /// The frame that unwinding has come to.
    pub walk: Walk,
    /// What a system call has opened.
    pub opened: Opened,
    /// The stack under way.
    pub stack: Stack,
    /// Room behind the last frame: an index masked to 127 can be 127.
    pub spare: u64,
}

/// Where the kernel keeps what the programs look at, in bytes from the start of each structure: from its type
/// information.
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
    /// `fdtable.open_fds`: a bit for each number that is taken.
    pub table_taken: u32,
    /// `task_struct.stack`.
    pub task_stack: u32,
    /// Bytes of a thread's stack in the kernel; 0 where the kernel tells programs a task's registers.
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
    /// `io_kiocb.cqe` and `io_cqe.res` in it: what a request came to.
    pub ring_result: u32,
    /// `io_open.file_slot`: a file for the ring alone is opened, unless it is 0.
    pub ring_open_slot: u32,
    /// `io_accept.file_slot`.
    pub ring_accept_slot: u32,
    /// `io_socket.file_slot`.
    pub ring_socket_slot: u32,
    /// `io_close.fd`.
    pub ring_close_fd: u32,
    /// `io_close.file_slot`.
    pub ring_close_slot: u32,
    /// 1 where programs at system calls and at requests are run by events, 0 where they are at the tracepoints themselves.
    pub at_events: u32,
}

/// Where the kernel keeps what is told of connections: as in [`Layout`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketLayout {
    /// `file.private_data`; 0 when connections are not traced.
    pub file_private: u32,
    /// `file.f_ref`, or `file.f_count` on kernels before 6.13.
    pub file_count: u32,
    /// What the word there says of a file that has one reference: 0, or 1 on kernels before 6.13.
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
    /// `sock.skc_num`: the port on this side.
    pub local_port: u32,
    /// `sock.skc_dport`: that on the other side, in the order of the network.
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

/// A connection as the programs know it, by where the kernel has its socket (`struct sock`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Connection {
    /// Its number.
    pub number: u32,
    /// Who began it, see [`crate::connection::Role`].
    pub role: u32,
    /// When it ceased to be established, `CLOCK_MONOTONIC`, nanoseconds; 0 before.
    pub ended_ns: u64,
    /// The state that it went into then.
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
    fn unused_ranges_sort_behind_every_user_address_and_hold_none() {
        let range = CodeRange { start: 0x1000, end: 0x2000, ..CodeRange::default() };
        let process = Process::new(0, 1, &[range]);
        assert_eq!(process.code[0], range);
        assert!(process.code[1].start > 1 << 57 && process.code[1].end == 0);
    }
}
