//! Where the kernel keeps things, from its own type information (BTF).
//!
//! Takes the bytes of `/sys/kernel/btf/vmlinux`, hands on offsets. Only structures and their members are
//! looked at; aya keeps its reader of them to itself, and the other one is under a license that a static
//! program cannot bear. The format: `Documentation/bpf/btf.rst` of the kernel.

use std::collections::HashMap;

/// What the first two bytes are.
const MAGIC: u16 = 0xeb9f;
/// `BTF_KIND_STRUCT`.
const STRUCT: u32 = 4;
/// `BTF_KIND_UNION`.
const UNION: u32 = 5;

/// One member of a structure.
struct Member {
    name: u32,
    kind: u32,
    /// Bytes from the structure's start.
    offset: u32,
}

/// A structure by its name, and all structures and unions by their numbers.
struct Found<'bytes> {
    number: u32,
    bytes: u32,
    structures: HashMap<u32, Vec<Member>>,
    names: &'bytes [u8],
}

/// Bytes of `member` from the start of the structure `name`; members of nameless structures in it count as
/// its own. `None` when there is none, or the bytes are not understood.
pub(super) fn offset_of(btf: &[u8], name: &str, member: &str) -> Option<u32> {
    let Found { number, structures, names, .. } = find(btf, name)?;
    within(&structures, number, &|at| is_named(names, at, member), &|at| is_named(names, at, ""), 4)
}

/// Bytes of the structure `name`. `None` as above.
pub(super) fn size_of_structure(btf: &[u8], name: &str) -> Option<u32> {
    Some(find(btf, name)?.bytes)
}

fn is_named(names: &[u8], at: u32, wanted: &str) -> bool {
    let text = names.get(at as usize..).unwrap_or_default();
    text.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}

fn find<'bytes>(btf: &'bytes [u8], name: &str) -> Option<Found<'bytes>> {
    let word = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
    };
    if u16::from_ne_bytes(*btf.first_chunk()?) != MAGIC {
        return None;
    }
    let part = |at: usize| -> Option<&'bytes [u8]> {
        let start = (word(btf, 4)? + word(btf, at)?) as usize;
        btf.get(start..)?.get(..word(btf, at + 4)? as usize)
    };
    let (types, names) = (part(8)?, part(16)?);
    let mut structures: HashMap<u32, Vec<Member>> = HashMap::new();
    let mut found = None;
    let mut at = 0;
    // Numbers begin with 1: 0 is `void`.
    for number in 1.. {
        if at >= types.len() {
            break;
        }
        let (title, info) = (word(types, at)?, word(types, at + 4)?);
        let size = word(types, at + 8)?;
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        at += 12;
        if kind == STRUCT || kind == UNION {
            let mut members = Vec::with_capacity(count);
            for index in 0..count {
                let at = at + index * 12;
                // With the flag set, the upper byte is the width of a bit field.
                let bits = word(types, at + 8)?;
                let bits = if info >> 31 == 1 { bits & 0xff_ffff } else { bits };
                let (name, kind) = (word(types, at)?, word(types, at + 4)?);
                members.push(Member { name, kind, offset: bits / 8 });
            }
            if kind == STRUCT && is_named(names, title, name) {
                found = found.or(Some((number, size)));
            }
            structures.insert(number, members);
        }
        at += rest(kind, count)?;
    }
    let (number, bytes) = found?;
    Some(Found { number, bytes, structures, names })
}

/// Bytes that follow a type's head; `None` for a kind that came later, behind which nothing can be read.
const fn rest(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Pointers, forwards, names, qualifiers, functions, floats, tags of types.
        2 | 7..=12 | 16 | 18 => 0,
        // Integers, variables, tags of declarations.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Enumerations and the parameters of prototypes.
        6 | 13 => 8 * count,
        // Members, sections, and enumerations of 64 bits.
        STRUCT | UNION | 15 | 19 => 12 * count,
        _ => return None,
    })
}

fn within(
    structures: &HashMap<u32, Vec<Member>>,
    number: u32,
    is_it: &impl Fn(u32) -> bool,
    is_nameless: &impl Fn(u32) -> bool,
    depth: u32,
) -> Option<u32> {
    let members = structures.get(&number)?;
    members.iter().find_map(|member| {
        if is_it(member.name) {
            return Some(member.offset);
        }
        if depth == 0 || !is_nameless(member.name) {
            return None;
        }
        let inner = within(structures, member.kind, is_it, is_nameless, depth - 1)?;
        Some(member.offset + inner)
    })
}

#[cfg(test)]
mod tests {
    use super::{offset_of, size_of_structure};

    #[test]
    fn the_running_kernel_says_where_a_task_keeps_its_id() {
        let btf = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let pid = offset_of(&btf, "task_struct", "pid").unwrap();
        // They stand side by side since long ago.
        assert_eq!(offset_of(&btf, "task_struct", "tgid"), Some(pid + 4));
        assert_eq!(offset_of(&btf, "task_struct", "no_such_member"), None);
        assert_eq!(offset_of(&btf, "no_such_struct", "pid"), None);
        // `struct list_head { next, prev }`.
        assert_eq!(offset_of(&btf, "list_head", "prev"), Some(8));
        assert_eq!(size_of_structure(&btf, "list_head"), Some(16));
        assert_eq!(size_of_structure(&btf, "no_such_struct"), None);
    }

    #[test]
    fn what_is_no_type_information_is_refused() {
        assert_eq!(offset_of(b"", "task_struct", "pid"), None);
        assert_eq!(offset_of(&[0; 64], "task_struct", "pid"), None);
    }
}
