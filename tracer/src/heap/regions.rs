//! What each mapping of a process is for, as far as reading a heap needs to know.
//!
//! Takes mappings, passes on their purpose; and the memory in which another program handles page faults. Reads `/proc`, but
//! no memory.

use std::{fs, io, ops::Range, path::Path};

use procfs::process::{MMapPath, Process, VmFlags};

use crate::target::{Pid, mappings::Mapping};

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Memory that the program asked the kernel for: anonymous, private and writable. `[heap]` belongs here.
    Dynamic,
    /// Variables of an object file.
    Variables,
    /// Constants of an object file, and what the dynamic linker has made constant: tables of virtual functions.
    Constants,
    /// Code.
    Code,
    /// The main thread's stack.
    Stack,
    /// Memory that several processes may share.
    Shared,
    /// A device: reading it may have effects.
    Device,
    /// The kernel's own, or not readable.
    Closed,
}

/// What a mapping is for.
pub fn purpose(mapping: &Mapping) -> Purpose {
    if !mapping.readable {
        return Purpose::Closed;
    }
    match (&mapping.path, mapping.special.as_deref()) {
        (Some(path), _) => of_file(mapping, path),
        (None, Some("[heap]")) => Purpose::Dynamic,
        (None, Some(name)) if name.starts_with("[anon:") => Purpose::Dynamic,
        (None, Some(name)) if name.starts_with("[anon_shmem:") => Purpose::Shared,
        (None, Some("[stack]")) => Purpose::Stack,
        (None, Some(name)) if name.starts_with('[') => Purpose::Closed,
        // Such as anon_inode:[io_uring]
        (None, Some(_)) => Purpose::Device,
        (None, None) if mapping.executable => Purpose::Code,
        (None, None) if mapping.writable => Purpose::Dynamic,
        (None, None) => Purpose::Closed,
    }
}

fn of_file(mapping: &Mapping, path: &Path) -> Purpose {
    let within = |folder| path.starts_with(folder);
    let shared = within("/dev/shm") || path == Path::new("/dev/zero");
    let unnamed = ["/memfd:", "/SYSV", "/[aio]"];
    let text = path.to_string_lossy();
    if shared || unnamed.iter().any(|start| text.starts_with(start)) {
        return Purpose::Shared;
    }
    match (within("/dev"), mapping.executable, mapping.writable) {
        (true, ..) => Purpose::Device,
        (_, true, _) => Purpose::Code,
        (_, _, true) => Purpose::Variables,
        _ => Purpose::Constants,
    }
}

/// The memory of a process in which page faults are handled by a program (`userfaultfd(2)`): it waits for that program
/// when somebody touches it.
pub(super) fn handled_elsewhere(pid: Pid) -> io::Result<Vec<Range<u64>>> {
    // The flags of mappings take long to read in a large process; nearly none has such memory.
    if !has_userfaultfd(pid)? {
        return Ok(Vec::new());
    }
    let process = i32::try_from(pid.0).map_err(io::Error::other)?;
    let maps = Process::new(process).and_then(|process| process.smaps());
    let maps = maps.map_err(io::Error::other)?;
    let handled = maps.into_iter().filter(|map| {
        let handled = VmFlags::UM | VmFlags::UW;
        map.extension.vm_flags.intersects(handled) && map.pathname != MMapPath::Vsyscall
    });
    Ok(handled.map(|map| map.address.0..map.address.1).collect())
}

fn has_userfaultfd(pid: Pid) -> io::Result<bool> {
    for entry in fs::read_dir(pid.proc_path("fd"))? {
        // A descriptor that was closed meanwhile has no link.
        let link = entry.and_then(|entry| fs::read_link(entry.path()));
        if link.is_ok_and(|link| link.to_string_lossy().contains("[userfaultfd]")) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::mappings::Mappings;

    #[test]
    fn mappings_are_classified_by_name_and_rights() {
        let check = |rights: &str, inode: u64, name: &str, expected| {
            let line = format!("1000-2000 {rights} 00000000 00:00 {inode} {name}\n");
            let mappings = Mappings::parse(line.as_bytes());
            assert_eq!(purpose(mappings.iter().next().unwrap()), expected, "{line}");
        };
        check("rw-p", 0, "[heap]", Purpose::Dynamic);
        check("rw-p", 0, "", Purpose::Dynamic);
        check("rw-p", 0, "[anon:arena]", Purpose::Dynamic);
        check("---p", 0, "", Purpose::Closed);
        check("rwxp", 0, "", Purpose::Code);
        check("rw-p", 0, "[stack]", Purpose::Stack);
        check("r--p", 0, "[vvar]", Purpose::Closed);
        check("rw-p", 7, "/usr/lib/libc.so.6", Purpose::Variables);
        check("r--p", 7, "/usr/lib/libc.so.6", Purpose::Constants);
        check("r-xp", 7, "/usr/lib/libc.so.6", Purpose::Code);
        check("rw-s", 7, "/dev/dri/card0", Purpose::Device);
        check("rw-s", 7, "/dev/shm/queue", Purpose::Shared);
        check("rw-s", 7, "/dev/zero (deleted)", Purpose::Shared);
        check("rw-s", 7, "/memfd:frames (deleted)", Purpose::Shared);
        check("rw-s", 0, "anon_inode:[io_uring]", Purpose::Device);
    }
}
