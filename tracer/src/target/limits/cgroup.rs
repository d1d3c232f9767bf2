//! Limits of control groups, of both versions: a group is bounded by its own limits and by those of all its ancestors.
//!
//! Takes where the hierarchies are mounted, and the groups of processes; passes on the limits of memory and threads that
//! they have. Formats: `cgroup-v2.rst`, `cgroup-v1/memory.rst` and `cgroup-v1/pids.rst` of the kernel.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use procfs::{ProcessCGroup, process::MountInfos};

use super::{Bounded, LimitedBy};

/// Version 1 has no word for *unlimited*: it is the largest number of whole pages, which depends on the page size.
const UNLIMITED: u64 = 1 << 62;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Controller {
    Memory,
    Pids,
}

impl Controller {
    const ALL: [Self; 2] = [Self::Memory, Self::Pids];

    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// A mounted hierarchy of control groups.
#[derive(Debug)]
struct Hierarchy {
    /// Its controllers of version 1; `None` for version 2.
    controllers: Option<Vec<Controller>>,
    mount_point: PathBuf,
    /// The path of the group at the mount point: in a container it need not be the root.
    root: String,
}

/// The mounted hierarchies.
#[derive(Debug, Default)]
pub(super) struct Hierarchies(Vec<Hierarchy>);

/// Folders of groups whose limits apply, by controller and path, and whether they are of version 2.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<(Controller, String), (PathBuf, bool)>);

impl Hierarchies {
    /// Those of a mount table.
    pub(super) fn new(mounts: &MountInfos) -> Self {
        let hierarchy = |controllers, mount: &procfs::process::MountInfo| Hierarchy {
            controllers,
            mount_point: mount.mount_point.clone(),
            root: mount.root.clone(),
        };
        let found = mounts.iter().filter_map(|mount| match mount.fs_type.as_str() {
            "cgroup2" => Some(hierarchy(None, mount)),
            "cgroup" => {
                let has = |one: &Controller| mount.super_options.contains_key(one.name());
                let controllers: Vec<_> = Controller::ALL.into_iter().filter(has).collect();
                (!controllers.is_empty()).then(|| hierarchy(Some(controllers), mount))
            }
            _ => None,
        });
        Self(found.collect())
    }

    /// Adds the groups that a process is in, and their ancestors.
    pub(super) fn add(&self, memberships: &[ProcessCGroup], groups: &mut Groups) {
        for hierarchy in &self.0 {
            let of_this = |one: &&ProcessCGroup| match &hierarchy.controllers {
                None => one.hierarchy == 0,
                Some(all) => all.iter().any(|own| one.controllers.iter().any(|c| c == own.name())),
            };
            let Some(membership) = memberships.iter().find(of_this) else { continue };
            let controllers = hierarchy.controllers.as_deref().unwrap_or(&Controller::ALL);
            for path in Path::new(&membership.pathname).ancestors() {
                // What lies above the mount point is not visible; neither is a group outside of our cgroup namespace.
                let Ok(inside) = path.strip_prefix(&hierarchy.root) else { continue };
                if inside.components().any(|part| part.as_os_str() == "..") {
                    continue;
                }
                for controller in controllers {
                    let key = (*controller, path.to_string_lossy().into_owned());
                    let folder = hierarchy.mount_point.join(inside);
                    groups.0.entry(key).or_insert((folder, hierarchy.controllers.is_none()));
                }
            }
        }
    }
}

impl Groups {
    /// The limits that these groups have.
    pub(super) fn limits(&self) -> Vec<Bounded> {
        let all = self.0.iter().filter_map(|((controller, path), (folder, second))| {
            match (controller, second) {
                (Controller::Pids, _) => threads(folder, path),
                (Controller::Memory, true) => memory(folder, path),
                (Controller::Memory, false) => memory_of_version_1(folder, path),
            }
        });
        all.collect()
    }
}

fn threads(folder: &Path, path: &str) -> Option<Bounded> {
    let limit = number(folder, "pids.max")?;
    let used = number(folder, "pids.current")?;
    Some(Bounded { by: LimitedBy::CgroupThreads(path.to_owned()), used: Some(used), limit })
}

/// The group's memory without what the kernel can take back at once: pages of files and caches of file names. Else every
/// server that reads files would seem to approach its limit.
fn memory(folder: &Path, path: &str) -> Option<Bounded> {
    let limit = number(folder, "memory.max")?;
    let all = number(folder, "memory.current")?;
    let back = sum(folder, &["inactive_file", "active_file", "slab_reclaimable"]);
    let used = Some(all.saturating_sub(back));
    Some(Bounded { by: LimitedBy::CgroupMemory(path.to_owned()), used, limit })
}

fn memory_of_version_1(folder: &Path, path: &str) -> Option<Bounded> {
    let limit = number(folder, "memory.limit_in_bytes").filter(|limit| *limit < UNLIMITED)?;
    let all = number(folder, "memory.usage_in_bytes")?;
    let back = sum(folder, &["total_inactive_file", "total_active_file"]);
    let used = Some(all.saturating_sub(back));
    Some(Bounded { by: LimitedBy::CgroupMemory(path.to_owned()), used, limit })
}

/// The number in a file; `None` for `max`, or without the file: the group has no such controller, or is the root.
fn number(folder: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
}

/// The sum of these lines of `memory.stat`.
fn sum(folder: &Path, names: &[&str]) -> u64 {
    let text = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(name, _)| names.contains(name)).filter_map(|(_, n)| n.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use procfs::{FromBufRead as _, ProcessCGroups};

    use super::*;

    /// A folder with files, removed when dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root =
                std::env::temp_dir().join(format!("leaktrace-{name}-{}", std::process::id()));
            for (path, content) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            Self(root)
        }

        /// The limits of a process, with the mount table's `ROOT` being this folder.
        fn limits(&self, mounts: &str, memberships: &str) -> Vec<Bounded> {
            let mounts = mounts.replace("ROOT", self.0.to_str().unwrap());
            let mounts = MountInfos::from_buf_read(mounts.as_bytes()).unwrap();
            let ProcessCGroups(of) = ProcessCGroups::from_buf_read(memberships.as_bytes()).unwrap();
            let mut groups = Groups::default();
            Hierarchies::new(&mounts).add(&of, &mut groups);
            groups.limits()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn bound(by: LimitedBy, used: u64, limit: u64) -> Bounded {
        Bounded { by, used: Some(used), limit }
    }

    fn text_of(path: &str) -> String {
        path.to_owned()
    }

    const VERSION_2: &str = "29 24 0:26 / ROOT rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn limits_of_version_2_are_those_of_the_group_and_of_its_ancestors() {
        let tree = Tree::new(
            "cgroup-2",
            &[
                ("memory.stat", "anon 1\n"),
                ("system.slice/memory.max", "8589934592\n"),
                ("system.slice/memory.current", "3000000000\n"),
                (
                    "system.slice/memory.stat",
                    "anon 2\ninactive_file 500\nactive_file 400\nslab_reclaimable 100\n",
                ),
                ("system.slice/pids.max", "max\n"),
                ("system.slice/pids.current", "311\n"),
                ("system.slice/gateway.service/memory.max", "max\n"),
                ("system.slice/gateway.service/memory.current", "1000\n"),
                ("system.slice/gateway.service/pids.max", "4915\n"),
                ("system.slice/gateway.service/pids.current", "17\n"),
            ],
        );
        let limits = tree.limits(VERSION_2, "0::/system.slice/gateway.service\n");
        let memory = LimitedBy::CgroupMemory(text_of("/system.slice"));
        let threads = LimitedBy::CgroupThreads(text_of("/system.slice/gateway.service"));
        let wanted = [bound(memory, 2_999_999_000, 8_589_934_592), bound(threads, 17, 4915)];
        assert_eq!(limits, wanted);
    }

    #[test]
    fn version_1_has_a_hierarchy_for_each_controller_and_a_large_number_for_no_limit() {
        let tree = Tree::new(
            "cgroup-1",
            &[
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/memory.usage_in_bytes", "52428800\n"),
                ("memory/box/memory.limit_in_bytes", "134217728\n"),
                ("memory/box/memory.usage_in_bytes", "52428800\n"),
                (
                    "memory/box/memory.stat",
                    "cache 7\ninactive_file 1\ntotal_inactive_file 4096\ntotal_active_file 8192\n",
                ),
                ("pids/box/pids.max", "64\n"),
                ("pids/box/pids.current", "3\n"),
                ("cpu/box/pids.max", "1\n"),
            ],
        );
        let mounts = "32 31 0:29 / ROOT/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      35 31 0:32 / ROOT/memory rw,relatime - cgroup cgroup rw,memory\n\
                      39 31 0:36 / ROOT/pids rw,relatime - cgroup cgroup rw,pids\n\
                      41 31 0:38 / ROOT/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let limits = tree.limits(mounts, "8:pids:/box\n4:memory:/box\n1:cpu:/box\n0::/\n");
        let memory = LimitedBy::CgroupMemory(text_of("/box"));
        let threads = LimitedBy::CgroupThreads(text_of("/box"));
        let wanted = [bound(memory, 52_428_800 - 12_288, 134_217_728), bound(threads, 3, 64)];
        assert_eq!(limits, wanted);
    }

    #[test]
    fn a_container_sees_its_own_part_of_the_tree() {
        let tree = Tree::new("cgroup-part", &[("pids.max", "10\n"), ("pids.current", "2\n")]);
        let mounts = VERSION_2.replace(" / ROOT", " /docker/4f2a ROOT");
        let own = tree.limits(&mounts, "0::/docker/4f2a\n");
        assert_eq!(own, [bound(LimitedBy::CgroupThreads(text_of("/docker/4f2a")), 2, 10)]);
        // Another container, and a group outside of our namespace: not visible.
        assert_eq!(tree.limits(&mounts, "0::/docker/77\n"), []);
        assert_eq!(
            tree.limits(VERSION_2, "0::/../../system.slice\n"),
            [bound(LimitedBy::CgroupThreads(text_of("/")), 2, 10)]
        );
    }

    #[test]
    fn without_control_groups_there_are_no_limits() {
        let tree = Tree::new("cgroup-none", &[("pids.max", "10\n")]);
        assert_eq!(tree.limits("", "0::/\n"), []);
        assert_eq!(tree.limits(VERSION_2, ""), []);
    }
}
