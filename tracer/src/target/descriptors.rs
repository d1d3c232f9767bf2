//! Lists the file descriptors of a process, and finds their types, from `/proc`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use tracer_common::descriptor::FdType;

use super::Pid;

/// Open descriptors by number, with their links in `/proc`: `socket:[1]`, `anon_inode:[eventfd]`, `/a/file`.
pub type Listed = BTreeMap<u32, String>;

/// The open descriptors of a process; `None` if they cannot be listed.
pub fn list(pid: Pid) -> Option<Listed> {
    let mut listed = Listed::new();
    for entry in fs::read_dir(pid.proc_path("fd")).ok()?.flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Skips a descriptor that was closed in the meantime.
        if let Ok(link) = fs::read_link(entry.path()) {
            listed.insert(fd, link.to_string_lossy().into_owned());
        }
    }
    Some(listed)
}

/// The type of a descriptor: by its link, and for a path by the file's metadata.
pub fn fd_type(pid: Pid, fd: u32, link: &str) -> FdType {
    type_of_link(link).unwrap_or_else(|| {
        // The kernel keeps the inode of an open file in memory, whichever file system it is on.
        let Ok(data) = fs::metadata(pid.proc_path(format!("fd/{fd}"))) else {
            return FdType::Unknown;
        };
        let kind = data.file_type();
        match () {
            () if kind.is_file() && data.mode() & 0o170_000 == 0 => FdType::Other,
            () if kind.is_dir() => FdType::Directory,
            () if kind.is_char_device() || kind.is_block_device() => FdType::Device,
            () if kind.is_fifo() => FdType::Pipe,
            () if kind.is_socket() => FdType::Socket,
            () => FdType::File,
        }
    })
}

/// The type of a descriptor by its link alone; `None` for a link to a path.
pub fn type_of_link(link: &str) -> Option<FdType> {
    if link.starts_with("/memfd:") || link.starts_with("/secretmem") {
        return Some(FdType::Memfd);
    }
    if link.starts_with('/') {
        return None;
    }
    Some(match link.split_once(':') {
        Some(("socket", _)) => FdType::Socket,
        Some(("pipe", _)) => FdType::Pipe,
        Some(("anon_inode", name)) => FdType::of_anonymous(name),
        Some((
            "mnt" | "net" | "pid" | "user" | "uts" | "ipc" | "cgroup" | "time" | "pid_for_children"
            | "time_for_children",
            _,
        )) => FdType::Namespace,
        _ => FdType::Other,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn types_are_found_from_links() {
        for (link, fd_type) in [
            ("socket:[4711]", Some(FdType::Socket)),
            ("pipe:[12]", Some(FdType::Pipe)),
            ("anon_inode:[eventpoll]", Some(FdType::Epoll)),
            ("anon_inode:inotify", Some(FdType::Inotify)),
            ("anon_inode:", Some(FdType::Other)),
            ("anon_inode:[pidfd]", Some(FdType::Pidfd)),
            ("/memfd:buffer (deleted)", Some(FdType::Memfd)),
            ("net:[4026531840]", Some(FdType::Namespace)),
            ("/dev/null", None),
            ("?", Some(FdType::Other)),
        ] {
            assert_eq!(type_of_link(link), fd_type, "{link}");
        }
    }

    #[test]
    fn our_own_descriptors_are_listed_with_their_types() {
        let (file, folder) = (File::open("/proc/self/maps"), File::open("/"));
        let (file, folder, null) =
            (file.unwrap(), folder.unwrap(), File::open("/dev/null").unwrap());
        let listed = list(Pid::own()).unwrap();
        for (open, fd_type) in
            [(&file, FdType::File), (&folder, FdType::Directory), (&null, FdType::Device)]
        {
            let fd = u32::try_from(open.as_raw_fd()).unwrap();
            assert_eq!(super::fd_type(Pid::own(), fd, &listed[&fd]), fd_type, "{}", listed[&fd]);
        }
        assert_eq!(list(Pid(u32::MAX)), None);
    }
}
