//! Numbers for targets, and for the states of their memory maps.
//!
//! The BPF programs cache results by address for one target and one state of its memory map. Both numbers
//! have 8 bits there. Pure.

use std::collections::BTreeMap;

use crate::target::Pid;

/// The number of each target, and how many states each number has had.
#[derive(Debug)]
pub(super) struct Generations {
    numbers: BTreeMap<Pid, u8>,
    counts: [u8; 256],
}

/// The numbers of a target as passed to the BPF programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    /// Number of the target, unique while it is tracked.
    pub(super) number: u8,
    /// State of its memory map: 1 to 255.
    pub(super) count: u8,
    /// The count of this number has wrapped around: the caches must be cleared.
    pub(super) wrapped: bool,
}

impl Default for Generations {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), counts: [0; 256] }
    }
}

impl Generations {
    /// The next state of a target; `None` when 256 others are tracked.
    pub(super) fn next(&mut self, pid: Pid) -> Option<Generation> {
        let known = self.numbers.get(&pid).copied();
        let free = |number: &u8| !self.numbers.values().any(|used| used == number);
        let number = known.or_else(|| (0..=u8::MAX).find(free))?;
        self.numbers.insert(pid, number);
        let count = self.counts.get_mut(usize::from(number))?;
        let wrapped = *count == u8::MAX;
        *count = if wrapped { 1 } else { *count + 1 };
        Some(Generation { number, count: *count, wrapped })
    }

    /// Frees the number of a target that has ended.
    pub(super) fn end(&mut self, pid: Pid) {
        self.numbers.remove(&pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_states_share_their_numbers_until_the_caches_are_cleared() {
        let mut generations = Generations::default();
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..200 {
            let pid = Pid(round);
            for _ in 0..3 {
                let next = generations.next(pid).unwrap();
                if next.wrapped {
                    seen.clear();
                }
                assert!(seen.insert((next.number, next.count)));
            }
            generations.end(pid);
        }
    }

    #[test]
    fn targets_keep_their_number_and_the_257th_gets_none() {
        let mut generations = Generations::default();
        let first = generations.next(Pid(1)).unwrap();
        assert_eq!(generations.next(Pid(1)).unwrap().number, first.number);
        for pid in 2..=256 {
            assert!(generations.next(Pid(pid)).is_some());
        }
        assert_eq!(generations.next(Pid(257)), None);
        generations.end(Pid(7));
        assert!(generations.next(Pid(257)).is_some());
    }
}
