//! Trees of processes: which targets live, and which of them have the same program in memory.
//!
//! Takes beginnings, forks, execs and ends of targets. Says whether a process that ends leaves others of its tree behind:
//! only then is what it held given back, because the figures of the last one are final. Pure.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::target::Pid;

/// A program in memory: shared by processes that forked from each other and have not called exec since. Their code has
/// the same addresses.
pub(super) type Image = u32;

/// A living target.
#[derive(Clone, Copy, Debug)]
struct Member {
    tree: u32,
    image: Image,
}

/// All living targets.
#[derive(Debug, Default)]
pub(super) struct Trees {
    live: HashMap<Pid, Member, FixedState>,
    /// Living processes by tree.
    sizes: HashMap<u32, u32, FixedState>,
    /// Living processes by image.
    images: HashMap<Image, Vec<Pid>, FixedState>,
    next: u32,
}

/// What the end of a process leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Others of its tree.
    Others {
        /// The image that ended with it, if no other process has it.
        image: Option<Image>,
    },
    /// Nobody.
    Nobody,
}

impl Trees {
    /// A target whose tree begins with it.
    pub(super) fn begin(&mut self, pid: Pid) {
        if self.live.contains_key(&pid) {
            return;
        }
        let (tree, image) = (self.fresh(), self.fresh());
        self.insert(pid, Member { tree, image });
    }

    /// A process that was running when its ancestor became a target.
    pub(super) fn adopt(&mut self, ancestor: Pid, pid: Pid) {
        let Some(tree) = self.live.get(&ancestor).map(|member| member.tree) else {
            return self.begin(pid);
        };
        if !self.live.contains_key(&pid) {
            let image = self.fresh();
            self.insert(pid, Member { tree, image });
        }
    }

    /// A fork. The child's id may have been another process's, whose end was not seen.
    pub(super) fn forked(&mut self, parent: Pid, child: Pid) {
        self.begin(parent);
        self.remove(child);
        if let Some(member) = self.live.get(&parent).copied() {
            self.insert(child, member);
        }
    }

    /// A process has called exec. `parent` is set for one that shared its parent's memory until then. Returns the image
    /// that ended with that, if no other process has it.
    pub(super) fn executed(&mut self, pid: Pid, parent: Option<Pid>) -> Option<Image> {
        let begins = parent.unwrap_or(pid);
        self.begin(begins);
        let tree = self.live.get(&begins).map(|member| member.tree);
        let former = self.remove(pid);
        let image = self.fresh();
        self.insert(pid, Member { tree: tree.unwrap_or(image), image });
        former
    }

    /// A process has ended. The last one of its tree keeps its image.
    pub(super) fn end(&mut self, pid: Pid) -> Left {
        let size = self.live.get(&pid).and_then(|member| self.sizes.get(&member.tree)).copied();
        match size {
            Some(size) if size > 1 => Left::Others { image: self.remove(pid) },
            _ => Left::Nobody,
        }
    }

    /// Whether a process lives, or is the last one of its tree.
    pub(super) fn lives(&self, pid: Pid) -> bool {
        self.live.contains_key(&pid)
    }

    /// The image of a living process; 0 for another one.
    pub(super) fn image(&self, pid: Pid) -> Image {
        self.live.get(&pid).map_or(0, |member| member.image)
    }

    /// The living process that has had an image for longest.
    pub(super) fn user(&self, image: Image) -> Option<Pid> {
        self.images.get(&image)?.first().copied()
    }

    fn fresh(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn insert(&mut self, pid: Pid, member: Member) {
        self.live.insert(pid, member);
        *self.sizes.entry(member.tree).or_default() += 1;
        self.images.entry(member.image).or_default().push(pid);
    }

    /// Removes a process. Returns its image if no other process has it.
    fn remove(&mut self, pid: Pid) -> Option<Image> {
        let Member { tree, image } = self.live.remove(&pid)?;
        if let Some(size) = self.sizes.get_mut(&tree) {
            *size -= 1;
            if *size == 0 {
                self.sizes.remove(&tree);
            }
        }
        let users = self.images.get_mut(&image)?;
        users.retain(|one| *one != pid);
        if !users.is_empty() {
            return None;
        }
        self.images.remove(&image);
        Some(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_process_of_a_tree_leaves_nobody() {
        let mut trees = Trees::default();
        trees.begin(Pid(1));
        trees.begin(Pid(2));
        trees.forked(Pid(1), Pid(11));
        trees.adopt(Pid(1), Pid(12));
        assert_eq!(trees.end(Pid(2)), Left::Nobody);
        // The parent first: its children go on.
        assert_eq!(trees.end(Pid(1)), Left::Others { image: None });
        assert!(matches!(trees.end(Pid(12)), Left::Others { image: Some(_) }));
        assert_eq!((trees.end(Pid(11)), trees.end(Pid(99))), (Left::Nobody, Left::Nobody));
    }

    #[test]
    fn forked_processes_share_an_image_until_one_calls_exec() {
        let mut trees = Trees::default();
        trees.begin(Pid(1));
        trees.forked(Pid(1), Pid(2));
        let image = trees.image(Pid(1));
        assert_eq!((trees.image(Pid(2)), trees.user(image)), (image, Some(Pid(1))));
        assert_eq!(trees.executed(Pid(2), None), None);
        assert_ne!(trees.image(Pid(2)), image);
        assert_eq!(trees.executed(Pid(1), None), Some(image));
        assert_eq!(trees.user(image), None);
        // The same id again, as a child.
        trees.forked(Pid(1), Pid(2));
        assert_eq!(trees.image(Pid(2)), trees.image(Pid(1)));
    }

    #[test]
    fn nothing_is_left_of_a_million_lives() {
        let mut trees = Trees::default();
        trees.begin(Pid(1));
        for pid in 2..1_000_002 {
            let pid = Pid(pid % 1000 + 2);
            trees.forked(Pid(1), pid);
            trees.executed(pid, None);
            trees.end(pid);
        }
        assert_eq!((trees.live.len(), trees.sizes.len(), trees.images.len()), (1, 1, 1));
    }
}
