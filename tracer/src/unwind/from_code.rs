//! Rules of functions without a table, from their code: musl is built without tables.
//!
//! Takes the code of a section, the functions that are known to begin in it, and the stretches that tables cover; passes
//! on functions with their rules. Pure. A function that cannot be followed gets none.

use std::{collections::BTreeSet, ops::Range};

use crate::arch::{Architecture as _, Host, Meaning};

/// A function: its addresses, and its rules from their address on, `None` where none is known.
pub(super) type Followed = (Range<u64>, Vec<(u64, Option<Meaning>)>);

/// The longest function that is followed: longer ones are of generated code, and take the time of many.
const LONGEST: u64 = 64 << 10;

/// The functions of the section at `address` that no table covers; `begins` are addresses at which symbols say that one
/// begins, `covered` the stretches of tables in ascending order.
pub(super) fn functions(
    code: &[u8],
    address: u64,
    begins: impl Iterator<Item = u64>,
    covered: &[Range<u64>],
) -> Vec<Followed> {
    let end = address.saturating_add(code.len() as u64);
    // A function without a symbol is called, or its address is taken.
    let mut begins: BTreeSet<u64> = begins.chain(Host::addresses_in(code, address)).collect();
    begins.retain(|begin| (address..end).contains(begin));
    let is_covered = |at: u64| {
        let next = covered.partition_point(|range| range.end <= at);
        covered.get(next).is_some_and(|range| range.contains(&at))
    };
    let stops: BTreeSet<u64> =
        begins.iter().copied().chain(covered.iter().map(|range| range.start)).collect();
    let followed = |begin: &u64| {
        let next = stops.range(begin + 1..).next().copied().unwrap_or(end).min(end);
        let next = next.min(begin.saturating_add(LONGEST));
        let [from, to] = [*begin, next].map(|at| usize::try_from(at - address).ok());
        let rules = Host::rules_of_code(code.get(from?..to?)?, *begin);
        let known = rules.last().map_or(*begin, |(last, _)| *last);
        (known > *begin).then_some((*begin..known, rules))
    };
    begins.iter().filter(|begin| !is_covered(**begin)).filter_map(followed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_end_where_the_next_begins_and_tables_are_left_alone() {
        // The code is for one processor; another follows none.
        if Host::supported().is_err() {
            return;
        }
        // 0: push rbx; call 16; pop rbx; ret. 16: push rax; pop rax; ret. 32: push rax; pop rax; ret (with a table).
        let mut code = vec![0xcc; 48];
        code[..8].copy_from_slice(&[0x53, 0xe8, 10, 0, 0, 0, 0x5b, 0xc3]);
        code[16..19].copy_from_slice(&[0x50, 0x58, 0xc3]);
        code[32..35].copy_from_slice(&[0x50, 0x58, 0xc3]);
        let covered = std::slice::from_ref(&(0x1020..0x1023));
        let found = functions(&code, 0x1000, [0x1000, 0x1020].into_iter(), covered);
        let ranges: Vec<Range<u64>> = found.into_iter().map(|(range, _)| range).collect();
        assert_eq!(ranges, [0x1000..0x1008, 0x1010..0x1013], "one by its symbol, one by its call");
    }
}
