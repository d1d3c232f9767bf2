//! The file behind a descriptor of the current process, and its type: read from the kernel's structures, whose layout
//! user space takes from the kernel's type information.

use aya_ebpf::helpers::{
    bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_kernel_str_bytes,
    generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
};
use tracer_common::{descriptor::FdType, state::Layout};

use crate::arch::Registers;

/// Offsets of the kernel's fields: user space sets them when it loads the programs.
#[unsafe(no_mangle)]
pub(crate) static LAYOUT: Layout = Layout {
    task_files: 0,
    task_leader: 0,
    files_table: 0,
    table_array: 0,
    table_length: 0,
    table_taken: 0,
    task_stack: 0,
    stack_bytes: 0,
    file_inode: 0,
    file_dentry: 0,
    dentry_name: 0,
    inode_mode: 0,
    inode_super: 0,
    super_magic: 0,
    ring_opcode: 0,
    ring_result: 0,
    ring_open_slot: 0,
    ring_accept_slot: 0,
    ring_socket_slot: 0,
    ring_close_fd: 0,
    ring_close_slot: 0,
    at_events: 0,
};

/// Magic numbers of the kernel's internal file systems, from `linux/magic.h`: anonymous inodes.
const ANONYMOUS: u64 = 0x0904_1934;
/// As above: sockets.
const SOCKETS: u64 = 0x534f_434b;
/// As above: pipes.
const PIPES: u64 = 0x5049_5045;
/// As above: processes, since Linux 6.9.
const PROCESSES: u64 = 0x5049_4446;
/// As above: message queues.
const QUEUES: u64 = 0x1980_0202;
/// As above: namespaces.
const NAMESPACES: u64 = 0x6e73_6673;
/// As above: `memfd_secret`, memory that the kernel itself does not map.
const SECRETS: u64 = 0x5345_434d;
/// As above: file systems in memory. A file there may be a `memfd`.
const MEMORY: u64 = 0x0102_1994;
/// As above, of huge pages.
const HUGE: u64 = 0x9584_58f6;

/// Bytes read of a name.
const NAME: usize = 16;

/// One of these offsets.
macro_rules! at {
    ($field:ident) => {
        // SAFETY: the static is written once, before the programs are loaded: the compiler must not treat it as a
        // constant.
        unsafe { (&raw const $crate::file::LAYOUT.$field).read_volatile() }
    };
}
pub(crate) use at;

#[inline(always)]
pub(crate) fn read_u64(address: u64, offset: u32) -> Option<u64> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((address + u64::from(offset)) as *const u64) }.ok()
}

#[inline(always)]
pub(crate) fn read_u32(address: u64, offset: u32) -> Option<u32> {
    // SAFETY: as above.
    unsafe { bpf_probe_read_kernel((address + u64::from(offset)) as *const u32) }.ok()
}

/// The kernel's `struct file` behind a descriptor of the current thread; `None` when it is not open.
#[inline(always)]
pub(crate) fn behind(fd: u32) -> Option<u64> {
    // SAFETY: a helper without preconditions.
    let task = unsafe { bpf_get_current_task() };
    let files = read_u64(task, at!(task_files))?;
    let table = read_u64(files, at!(files_table))?;
    if fd >= read_u32(table, at!(table_length))? {
        return None;
    }
    let array = read_u64(table, at!(table_array))?;
    let file = read_u64(array + u64::from(fd) * 8, 0)?;
    if file == 0 { None } else { Some(file) }
}

/// Kernel address of its inode.
#[inline(always)]
pub(crate) fn inode(file: u64) -> Option<u64> {
    read_u64(file, at!(file_inode))
}

/// Whether a number is reserved in the current thread's table, even if no file is installed yet.
#[inline(always)]
pub(crate) fn is_reserved(fd: u32) -> Option<bool> {
    // SAFETY: a helper without preconditions.
    let task = unsafe { bpf_get_current_task() };
    let table = read_u64(read_u64(task, at!(task_files))?, at!(files_table))?;
    let bits = read_u64(table, at!(table_taken))?;
    Some(read_u64(bits + u64::from(fd / 64) * 8, 0)? >> (fd % 64) & 1 == 1)
}

/// Whether the layout of the kernel's files is known. The verifier sees it as a constant.
#[inline(always)]
pub(crate) fn is_layout_known() -> bool {
    at!(task_files) != 0
}

/// Kernel address of the registers with which the current thread entered the kernel.
#[inline(always)]
pub(crate) fn registers() -> Option<u64> {
    // The verifier knows this value, and never reaches a helper that the kernel lacks.
    let bytes = at!(stack_bytes);
    if bytes == 0 {
        // SAFETY: helpers without preconditions.
        return Some(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64);
    }
    // SAFETY: a helper without preconditions.
    let task = unsafe { bpf_get_current_task() };
    let stack = read_u64(task, at!(task_stack))?;
    Some(stack + u64::from(bytes) - size_of::<Registers>() as u64)
}

/// Whether the current thread has a descriptor table of its own, other than that of its process's first thread.
#[inline(always)]
pub(crate) fn has_own_table() -> bool {
    // SAFETY: a helper without preconditions.
    let task = unsafe { bpf_get_current_task() };
    let files = |task| read_u64(task, at!(task_files));
    let leader = read_u64(task, at!(task_leader)).and_then(files);
    leader.is_some() && leader != files(task)
}

/// The type of a file.
#[inline(always)]
pub(crate) fn fd_type(file: u64) -> FdType {
    try_fd_type(file).unwrap_or(FdType::Unknown)
}

#[inline(always)]
fn try_fd_type(file: u64) -> Option<FdType> {
    let inode = read_u64(file, at!(file_inode))?;
    let magic = read_u64(read_u64(inode, at!(inode_super))?, at!(super_magic))?;
    let mode = read_u32(inode, at!(inode_mode))? & 0o17_0000;
    Some(match magic {
        ANONYMOUS => anonymous(name(file)?),
        SOCKETS => FdType::Socket,
        PIPES => FdType::Pipe,
        PROCESSES => FdType::Pidfd,
        QUEUES => FdType::Mqueue,
        NAMESPACES => FdType::Namespace,
        SECRETS => FdType::Memfd,
        MEMORY | HUGE if mode == 0o10_0000 && &name(file)?[..6] == b"memfd:" => FdType::Memfd,
        _ => match mode {
            0o10_0000 => FdType::File,
            0o04_0000 => FdType::Directory,
            0o02_0000 | 0o06_0000 => FdType::Device,
            0o01_0000 => FdType::Pipe,
            0o14_0000 => FdType::Socket,
            _ => FdType::Other,
        },
    })
}

/// The beginning of a file's name, padded with zeros.
#[inline(always)]
fn name(file: u64) -> Option<[u8; NAME]> {
    let dentry = read_u64(file, at!(file_dentry))?;
    let text = read_u64(dentry, at!(dentry_name))?;
    let mut name = [0; NAME];
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel_str_bytes(text as *const u8, &mut name) }.ok()?;
    Some(name)
}

/// The type of an anonymous-inode file, by the kernel's name for it, as in `FdType::of_anonymous`. Compares words of
/// eight letters, which takes one instruction each.
#[inline(always)]
fn anonymous(name: [u8; NAME]) -> FdType {
    let text = if name[0] == b'[' { 1 } else { 0 };
    let mut letters = [0_u8; 8];
    let mut at = 0;
    while at < 8 {
        letters[at] = if text == 1 { name[at + 1] } else { name[at] };
        at += 1;
    }
    match u64::from_le_bytes(letters) {
        word if word == u64::from_le_bytes(*b"eventpol") => FdType::Epoll,
        word if word == u64::from_le_bytes(*b"eventfd]") => FdType::Eventfd,
        word if word == u64::from_le_bytes(*b"timerfd]") => FdType::Timerfd,
        word if word == u64::from_le_bytes(*b"signalfd") => FdType::Signalfd,
        word if word == u64::from_le_bytes(*b"inotify\0") => FdType::Inotify,
        word if word == u64::from_le_bytes(*b"fanotify") => FdType::Fanotify,
        word if word == u64::from_le_bytes(*b"pidfd]\0\0") => FdType::Pidfd,
        word if word == u64::from_le_bytes(*b"io_uring") => FdType::IoUring,
        word if word == u64::from_le_bytes(*b"perf_eve") => FdType::PerfEvent,
        word if word == u64::from_le_bytes(*b"userfaul") => FdType::Userfaultfd,
        word if word & 0xff_ffff == u64::from_le_bytes(*b"bpf\0\0\0\0\0") => FdType::Bpf,
        word if word & 0xff_ffff == u64::from_le_bytes(*b"btf\0\0\0\0\0") => FdType::Bpf,
        _ => FdType::Other,
    }
}
