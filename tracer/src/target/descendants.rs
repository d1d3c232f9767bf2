//! The descendants of processes, as `/proc` shows them.
//!
//! Takes process ids, passes on those of their children, of the children of these, and so on. A process whose parent has
//! ended belongs to another one by then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Pid;

/// The descendants of these processes that are not among them, with the parent of each: parents first.
pub fn descendants(of: &[Pid]) -> Vec<(Pid, Pid)> {
    let Ok(processes) = procfs::process::all_processes() else { return Vec::new() };
    let all = processes.flatten().filter_map(|process| {
        let stat = process.stat().ok()?;
        // A zombie holds nothing.
        let lives = !matches!(stat.state, 'Z' | 'X' | 'x');
        let pid = u32::try_from(stat.pid).ok()?;
        let parent = u32::try_from(stat.ppid).ok()?;
        lives.then_some((Pid(pid), Pid(parent)))
    });
    below(of, all)
}

/// The descendants among `all` processes, given with their parents.
fn below(of: &[Pid], all: impl Iterator<Item = (Pid, Pid)>) -> Vec<(Pid, Pid)> {
    let mut children: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
    for (pid, parent) in all {
        children.entry(parent).or_default().push(pid);
    }
    let mut seen: BTreeSet<Pid> = of.iter().copied().collect();
    let (mut found, mut queue) = (Vec::new(), of.iter().copied().collect::<VecDeque<_>>());
    while let Some(parent) = queue.pop_front() {
        for pid in children.remove(&parent).unwrap_or_default() {
            if seen.insert(pid) {
                found.push((pid, parent));
                queue.push_back(pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_of_children_follow_their_parents_and_the_given_ones_are_left_out() {
        let all = [(5, 1), (9, 7), (7, 5), (6, 5), (8, 6), (3, 2), (4, 3)];
        let all = all.map(|(pid, parent)| (Pid(pid), Pid(parent)));
        let found = below(&[Pid(5), Pid(6)], all.into_iter());
        assert_eq!(found, [(Pid(7), Pid(5)), (Pid(8), Pid(6)), (Pid(9), Pid(7))]);
    }

    #[test]
    fn a_child_of_this_process_is_found() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let found = descendants(&[Pid::own()]);
        assert!(found.contains(&(Pid(child.id()), Pid::own())), "{found:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
