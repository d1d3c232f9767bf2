//! The file descriptors of a process, as `/proc` shows them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use tracer_common::descriptor::FdType;

use super::Pid;

/// Open descriptors by number, with what each leads to: `socket:[1]`, `anon_inode:[eventfd]`, `/a/file`.
pub type Listed = BTreeMap<u32, String>;

/// Lists them; `None` when that is not possible.
pub fn list(pid: Pid) -> Option<Listed> {
    let mut listed = Listed::new();
    for entry in fs::read_dir(pid.proc_path("fd")).ok()?.flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that is closed meanwhile is none.
        if let Ok(link) = fs::read_link(entry.path()) {
            listed.insert(fd, link.to_string_lossy().into_owned());
        }
    }
    Some(listed)
}

/// What a descriptor is, by what it leads to, and where that does not say enough by what the kernel knows of it.
pub fn sort(pid: Pid, fd: u32, link: &str) -> FdType {
    sort_of_link(link).unwrap_or_else(|| {
        // Of what is open the kernel has this at hand, wherever it lies.
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

/// What the link alone tells; `None` for what has a path.
pub fn sort_of_link(link: &str) -> Option<FdType> {
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
    fn links_tell_what_they_can() {
        for (link, sort) in [
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
            assert_eq!(sort_of_link(link), sort, "{link}");
        }
    }

    #[test]
    fn our_own_are_listed_and_told_apart() {
        let (file, folder) = (File::open("/proc/self/maps"), File::open("/"));
        let (file, folder, null) =
            (file.unwrap(), folder.unwrap(), File::open("/dev/null").unwrap());
        let listed = list(Pid::own()).unwrap();
        for (open, sort_of_it) in
            [(&file, FdType::File), (&folder, FdType::Directory), (&null, FdType::Device)]
        {
            let fd = u32::try_from(open.as_raw_fd()).unwrap();
            assert_eq!(sort(Pid::own(), fd, &listed[&fd]), sort_of_it, "{}", listed[&fd]);
        }
        assert_eq!(list(Pid(u32::MAX)), None);
    }
}
