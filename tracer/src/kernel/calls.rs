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
const CONTINUED: [&str; 2] = ["take_call", "next_opened"];
/// All of them.
#[cfg(test)]
pub(super) const PROGRAMS: [&str; 4] = [ENTER, EXIT, CONTINUED[0], CONTINUED[1]];

/// Loads the programs and attaches them; nothing is recorded yet.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), Failed> {
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
    Ok(())
}

/// Where the kernel keeps what the programs look at.
pub(super) fn layout(types: &Types<'_>) -> Result<Layout, Failed> {
    let at = |what: &'static str| {
        let (name, member) = what.split_once('.').unwrap_or((what, ""));
        types.offset_of(name, member).ok_or(Failed::Type { what })
    };
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
    })
}
