//! Zombies: children of a process that have ended, and that it has not waited for.
//!
//! Takes a process id, passes on how many of its children are zombies, by the name of their program, as `/proc` shows it.

use std::{collections::BTreeMap, fs};

use super::Pid;

/// Names and numbers of zombies.
pub type Zombies = Vec<(String, u64)>;

/// The zombies among the children of a process, most first; none where the kernel does not list children. The kernel lists
/// the children of each thread.
pub fn read(pid: Pid) -> Zombies {
    let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
    let tasks = fs::read_dir(pid.proc_path("task")).into_iter().flatten().flatten();
    for task in tasks {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        for name in pids.filter_map(|pid| zombie_name(Pid(pid))) {
            *by_name.entry(name).or_default() += 1;
        }
    }
    let mut zombies: Zombies = by_name.into_iter().collect();
    zombies.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    zombies
}

/// The name of a process's program if it is a zombie.
fn zombie_name(pid: Pid) -> Option<String> {
    let stat = fs::read(pid.proc_path("stat")).ok()?;
    parse(&String::from_utf8_lossy(&stat))
}

/// The same from its `stat`: the name, in parentheses, may contain anything.
fn parse(stat: &str) -> Option<String> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    after.trim_start().starts_with('Z').then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_zombies_have_a_name() {
        assert_eq!(parse("7 (sh) Z 1 7 7 0"), Some("sh".to_owned()));
        assert_eq!(parse("7 (a) (b) Z 1 7 7 0"), Some("a) (b".to_owned()));
        assert_eq!(parse("7 (sh) S 1 7 7 0"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_child_that_has_ended_is_a_zombie_until_it_is_waited_for() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = Pid(child.id());
        let begun = std::time::Instant::now();
        while zombie_name(pid).is_none() {
            assert!(begun.elapsed().as_secs() < 20, "it does not end");
            std::thread::yield_now();
        }
        let count = |all: Zombies| {
            all.into_iter().find(|(name, _)| name == "true").map_or(0, |(_, count)| count)
        };
        assert_eq!(count(read(Pid::own())), 1);
        child.wait().unwrap();
        assert_eq!(count(read(Pid::own())), 0);
    }
}
