//! The programs at system calls, which see file descriptors come and go: loaded and attached.
//!
//! Where the kernel keeps what is behind a descriptor, its type information says.

use std::os::fd::AsFd as _;

use aya::Ebpf;
use tracer_common::state::Layout;

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
const CONTINUED: [&str; 3] = ["take_call", "next_opened", "messages_received"];
/// At requests to an `io_uring`, and the names that the kernel has given its tracepoints so far.
const RING: [(&str, &[&str]); 2] = [
    ("ring_complete", &["io_uring_complete"]),
    ("ring_submit", &["io_uring_submit_req", "io_uring_submit_sqe"]),
];
/// All of them.
#[cfg(test)]
pub(super) const PROGRAMS: [&str; 7] =
    [ENTER, EXIT, CONTINUED[0], CONTINUED[1], CONTINUED[2], RING[0].0, RING[1].0];

/// Loads the programs and attaches them; nothing is recorded yet.
pub(super) fn load(ebpf: &mut Ebpf, layout: &Layout) -> Result<(), Failed> {
    let rings = layout.ring_result != 0;
    for (at, name) in (0..).zip(CONTINUED) {
        let program = tracepoint(ebpf, name)?;
        program.load().map_err(|error| program_failed(name, error))?;
        let program = own(tracepoint(ebpf, name)?.fd(), name)?;
        place(ebpf, UNWINDER, at, program.as_fd())?;
    }
    for (name, point) in [(EXIT, "sys_exit"), (ENTER, "sys_enter")] {
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
