//! Offsets of the kernel data that the programs read, from the kernel's type information.

use std::path::PathBuf;

use tracer_common::state::{Layout, SocketLayout};

use super::{failed::KernelError, tables::Plain, types::Types};
use crate::{
    arch::{Architecture as _, Host},
    options::TraceOptions,
};

/// The kernel's type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The offsets in tasks, and the layouts of descriptors and sockets.
type Offsets = (TaskOffsets, Plain<Layout>, Plain<SocketLayout>);

/// Offsets of what the programs read of tasks.
#[derive(Clone, Copy, Default)]
pub(super) struct TaskOffsets {
    /// A task's id.
    pub(super) pid: u32,
    /// A task's `signal_struct`.
    pub(super) signal: u32,
    /// The number of threads that have not begun to end, in `signal_struct`.
    pub(super) live: u32,
    /// The flags of a process that ends, in `signal_struct`.
    pub(super) flags: u32,
    /// A task's thread pointer.
    pub(super) thread_pointer: u32,
}

/// The kernel's type information.
pub(super) fn kernel_types() -> Result<Vec<u8>, KernelError> {
    std::fs::read(BTF).map_err(|source| KernelError::Object { path: PathBuf::from(BTF), source })
}

/// The offsets that this run needs; zeros for the others. `has_pt_regs` says whether the kernel has `bpf_task_pt_regs`.
pub(super) fn all(options: &TraceOptions, has_pt_regs: bool) -> Result<Offsets, KernelError> {
    let descriptors = options.traces_descriptors();
    if !options.children && !descriptors && !options.traces_threads() {
        return Ok((
            TaskOffsets::default(),
            Plain(Layout::default()),
            Plain(SocketLayout::default()),
        ));
    }
    let btf = kernel_types()?;
    let types = Types::read(&btf).ok_or(KernelError::Type { what: "type information" })?;
    let task = TaskOffsets {
        pid: offset(&types, "task_struct.pid")?,
        signal: offset(&types, "task_struct.signal")?,
        live: offset(&types, "signal_struct.live")?,
        flags: offset(&types, "signal_struct.flags")?,
        thread_pointer: offset(&types, Host::THREAD_STATE)? + offset(&types, Host::THREAD_POINTER)?,
    };
    let (layout, sockets) = if descriptors {
        (layout(&types, has_pt_regs)?, sockets(&types)?)
    } else {
        (Layout::default(), SocketLayout::default())
    };
    Ok((task, Plain(layout), Plain(sockets)))
}

/// Offsets from a task to its descriptors and files.
fn layout(types: &Types<'_>, has_pt_regs: bool) -> Result<Layout, KernelError> {
    let at = |what| offset(types, what);
    let ring = ring_layout(types).unwrap_or_default();
    let stack_bytes = if has_pt_regs {
        0
    } else {
        types.stack_bytes().ok_or(KernelError::Type { what: Host::KERNEL_STACK })?
    };
    Ok(Layout {
        task_stack: at("task_struct.stack")?,
        stack_bytes,
        task_files: at("task_struct.files")?,
        task_leader: at("task_struct.group_leader")?,
        files_table: at("files_struct.fdt")?,
        table_array: at("fdtable.fd")?,
        table_length: at("fdtable.max_fds")?,
        table_taken: at("fdtable.open_fds")?,
        file_inode: at("file.f_inode")?,
        file_dentry: at("file.f_path")? + at("path.dentry")?,
        dentry_name: at("dentry.d_name")? + at("qstr.name")?,
        inode_mode: at("inode.i_mode")?,
        inode_super: at("inode.i_sb")?,
        super_magic: at("super_block.s_magic")?,
        ..ring
    })
}

/// Offsets in requests to an `io_uring`; `None` on a kernel that lays them out differently, or has no `io_uring`.
fn ring_layout(types: &Types<'_>) -> Option<Layout> {
    Some(Layout {
        ring_opcode: types.offset_of("io_kiocb", "opcode")?,
        ring_result: types.offset_of("io_kiocb", "cqe")? + types.offset_of("io_cqe", "res")?,
        ring_open_slot: types.offset_of("io_open", "file_slot")?,
        ring_accept_slot: types.offset_of("io_accept", "file_slot")?,
        ring_socket_slot: types.offset_of("io_socket", "file_slot")?,
        ring_close_fd: types.offset_of("io_close", "fd")?,
        ring_close_slot: types.offset_of("io_close", "file_slot")?,
        ..Layout::default()
    })
}

/// Offsets in sockets.
fn sockets(types: &Types<'_>) -> Result<SocketLayout, KernelError> {
    let at = |what| offset(types, what);
    // Since 6.13 the counter is one less than the number of references.
    let (count, alone) = match types.offset_of("file", "f_ref") {
        Some(count) => (count, 0),
        None => (at("file.f_count")?, 1),
    };
    Ok(SocketLayout {
        file_private: at("file.private_data")?,
        file_count: count,
        file_alone: alone,
        inode_number: at("inode.i_ino")?,
        socket_file: at("socket.file")?,
        socket_sock: at("socket.sk")?,
        family: at("sock_common.skc_family")?,
        state: at("sock_common.skc_state")?,
        local_port: at("sock_common.skc_num")?,
        peer_port: at("sock_common.skc_dport")?,
        local_inet: at("sock_common.skc_rcv_saddr")?,
        peer_inet: at("sock_common.skc_daddr")?,
        local_inet6: at("sock_common.skc_v6_rcv_saddr")?,
        peer_inet6: at("sock_common.skc_v6_daddr")?,
        protocol: at("sock.sk_protocol")?,
        error: at("sock.sk_err")?,
        peer_pid: at("sock.sk_peer_pid")?,
        pid_number: at("pid.numbers")? + at("upid.nr")?,
        received: at("tcp_sock.bytes_received")?,
        acked: at("tcp_sock.bytes_acked")?,
        written: at("tcp_sock.write_seq")?,
        unacked: at("tcp_sock.snd_una")?,
        unix_address: at("unix_sock.addr")?,
        unix_peer: at("unix_sock.peer")?,
        address_length: at("unix_address.len")?,
        address_path: at("unix_address.name")? + at("sockaddr_un.sun_path")?,
    })
}

/// The offset of a member, given as `structure.member`.
fn offset(types: &Types<'_>, what: &'static str) -> Result<u32, KernelError> {
    let (name, member) = what.split_once('.').unwrap_or((what, ""));
    types.offset_of(name, member).ok_or(KernelError::Type { what })
}
