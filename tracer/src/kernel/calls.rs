//! The programs at system calls, which see file descriptors come and go: loaded and attached.
//!
//! Where the kernel keeps what is behind a descriptor, its type information says.

use std::os::fd::AsFd as _;

use aya::Ebpf;
use tracer_common::state::{Layout, SocketLayout};

use super::{
    object::{Failed, own, place, program_failed, tracepoint},
    types::Types,
};

/// The map that the programs find each other by.
pub(super) const UNWINDER: &str = "CALL_UNWINDER";
/// At the beginning of every system call.
const ENTER: &str = "call_enter";
/// At the end of every system call.
const EXIT: &str = "call_exit";
/// What the one at the end goes on with, in the order of their places in [`UNWINDER`].
const CONTINUED: [&str; 4] = ["take_call", "next_opened", "messages_received", "connection_begins"];
/// At requests to an `io_uring`, and the names that the kernel has given its tracepoints so far.
const RING: [(&str, &[&str]); 2] = [
    ("ring_complete", &["io_uring_complete"]),
    ("ring_submit", &["io_uring_submit_req", "io_uring_submit_sqe"]),
];
/// Where TCP sockets change their state, and its tracepoint.
const STATES: (&str, &str) = ("state_changes", "inet_sock_set_state");
/// All of them.
#[cfg(test)]
pub(super) const PROGRAMS: [&str; 9] = [
    ENTER,
    EXIT,
    CONTINUED[0],
    CONTINUED[1],
    CONTINUED[2],
    CONTINUED[3],
    RING[0].0,
    RING[1].0,
    STATES.0,
];

/// Loads the programs and attaches them; nothing is recorded yet.
pub(super) fn load(ebpf: &mut Ebpf, layout: &Layout) -> Result<(), Failed> {
    let rings = layout.ring_result != 0;
    for (at, name) in (0..).zip(CONTINUED) {
        let program = tracepoint(ebpf, name)?;
        program.load().map_err(|error| program_failed(name, error))?;
        let program = own(tracepoint(ebpf, name)?.fd(), name)?;
        place(ebpf, UNWINDER, at, program.as_fd())?;
    }
    for (name, point) in [STATES, (EXIT, "sys_exit"), (ENTER, "sys_enter")] {
        let program = tracepoint(ebpf, name)?;
        program.load().map_err(|error| program_failed(name, error))?;
        program.attach(point).map_err(|error| program_failed(name, error))?;
    }
    if rings {
        for (name, points) in RING {
            ring(ebpf, name, points);
        }
    }
    Ok(())
}

/// What a ring opens and closes unseen is found in `/proc`: later, and without a stack.
fn ring(ebpf: &mut Ebpf, name: &'static str, points: &[&str]) {
    let attached = tracepoint(ebpf, name).and_then(|program| {
        program.load().map_err(|error| program_failed(name, error))?;
        let attach = |point: &&str| program.attach(point).is_ok();
        if points.iter().any(attach) { Ok(()) } else { Err(Failed::Missing { name: "io_uring" }) }
    });
    if let Err(failed) = attached {
        log::info!("requests to an io_uring are not seen: {failed}");
    }
}

/// Where the kernel keeps what the programs look at.
pub(super) fn layout(types: &Types<'_>) -> Result<Layout, Failed> {
    let at = |what: &'static str| {
        let (name, member) = what.split_once('.').unwrap_or((what, ""));
        types.offset_of(name, member).ok_or(Failed::Type { what })
    };
    let ring = ring_layout(types).unwrap_or_default();
    Ok(Layout {
        task_files: at("task_struct.files")?,
        task_leader: at("task_struct.group_leader")?,
        files_table: at("files_struct.fdt")?,
        table_array: at("fdtable.fd")?,
        table_length: at("fdtable.max_fds")?,
        file_inode: at("file.f_inode")?,
        file_dentry: at("file.f_path")? + at("path.dentry")?,
        dentry_name: at("dentry.d_name")? + at("qstr.name")?,
        inode_mode: at("inode.i_mode")?,
        inode_super: at("inode.i_sb")?,
        super_magic: at("super_block.s_magic")?,
        ..ring
    })
}

/// The same of requests to an `io_uring`; `None` on a kernel that keeps them otherwise, or has none.
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

/// Where it keeps what is told of connections.
pub(super) fn socket_layout(types: &Types<'_>) -> Result<SocketLayout, Failed> {
    let at = |what: &'static str| {
        let (name, member) = what.split_once('.').unwrap_or((what, ""));
        types.offset_of(name, member).ok_or(Failed::Type { what })
    };
    // Since 6.13 the count is one less than the references.
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
