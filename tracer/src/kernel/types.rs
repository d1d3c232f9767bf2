//! Offsets of members in kernel structures, from the kernel's type information (BTF).
//!
//! Takes the bytes of `/sys/kernel/btf/vmlinux`, passes on offsets. Reads structures and their members only. aya does
//! not export its BTF reader, and the license of the other available reader does not suit a statically linked program.
//! The format: `Documentation/bpf/btf.rst` of the kernel.

use std::collections::HashMap;

use crate::arch::{Architecture as _, Host};

/// The first two bytes.
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

/// A structure: the offset of its name, its type id, its size in bytes.
struct Structure {
    name: u32,
    id: u32,
    bytes: u32,
}

/// The structures of the kernel.
pub(super) struct Types<'btf> {
    names: &'btf [u8],
    /// Members by the structure's type id.
    members: HashMap<u32, Vec<Member>>,
    structures: Vec<Structure>,
}

impl<'btf> Types<'btf> {
    /// Parses type information; `None` when the format is unknown.
    pub(super) fn read(btf: &'btf [u8]) -> Option<Self> {
        if u16::from_ne_bytes(*btf.first_chunk()?) != MAGIC {
            return None;
        }
        let section = |at: usize| -> Option<&[u8]> {
            let start = (word(btf, 4)? + word(btf, at)?) as usize;
            btf.get(start..)?.get(..word(btf, at + 4)? as usize)
        };
        let (types, names) = (section(8)?, section(16)?);
        let mut parsed = Self { names, members: HashMap::new(), structures: Vec::new() };
        let mut at = 0;
        // Type ids start at 1: 0 is `void`.
        for id in 1.. {
            if at >= types.len() {
                break;
            }
            let (type_name, info) = (word(types, at)?, word(types, at + 4)?);
            let bytes = word(types, at + 8)?;
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            at += 12;
            if kind == STRUCT || kind == UNION {
                let mut members = Vec::with_capacity(count);
                for index in 0..count {
                    let at = at + index * 12;
                    // If the flag is set, the upper byte is the width of a bit field.
                    let bits = word(types, at + 8)?;
                    let bits = if info >> 31 == 1 { bits & 0xff_ffff } else { bits };
                    let (name, kind) = (word(types, at)?, word(types, at + 4)?);
                    members.push(Member { name, kind, offset: bits / 8 });
                }
                if kind == STRUCT {
                    parsed.structures.push(Structure { name: type_name, id, bytes });
                }
                parsed.members.insert(id, members);
            }
            at += trailer(kind, count)?;
        }
        Some(parsed)
    }

    /// Offset of `member` in the structure `name`, in bytes; members of anonymous structures in it count as its own.
    /// `None` when there is no such member.
    pub(super) fn offset_of(&self, name: &str, member: &str) -> Option<u32> {
        self.offset_within(self.find(name)?.id, member, 4)
    }

    /// Size of the structure `name` in bytes; `None` when there is no such structure.
    fn size_of(&self, name: &str) -> Option<u32> {
        Some(self.find(name)?.bytes)
    }

    /// Size of a thread's kernel stack (`THREAD_SIZE`).
    pub(super) fn stack_bytes(&self) -> Option<u32> {
        self.size_of(Host::KERNEL_STACK)
    }

    fn find(&self, name: &str) -> Option<&Structure> {
        self.structures.iter().find(|structure| self.is_named(structure.name, name))
    }

    fn is_named(&self, at: u32, wanted: &str) -> bool {
        let text = self.names.get(at as usize..).unwrap_or_default();
        text.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    fn offset_within(&self, id: u32, wanted: &str, depth: u32) -> Option<u32> {
        let members = self.members.get(&id)?;
        members.iter().find_map(|member| {
            if self.is_named(member.name, wanted) {
                return Some(member.offset);
            }
            if depth == 0 || !self.is_named(member.name, "") {
                return None;
            }
            let inner = self.offset_within(member.kind, wanted, depth - 1)?;
            Some(member.offset + inner)
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Bytes that follow a type's header; `None` for an unknown kind, after which parsing cannot continue.
const fn trailer(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Pointers, forwards, typedefs, qualifiers, functions, floats, type tags.
        2 | 7..=12 | 16 | 18 => 0,
        // Integers, variables, declaration tags.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Enumerations and function prototypes.
        6 | 13 => 8 * count,
        // Structures, unions, data sections, and 64-bit enumerations.
        STRUCT | UNION | 15 | 19 => 12 * count,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::Types;

    #[test]
    fn offsets_of_the_running_kernel_are_found() {
        let btf = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let types = Types::read(&btf).unwrap();
        let pid = types.offset_of("task_struct", "pid").unwrap();
        // The two members have been adjacent for many releases.
        assert_eq!(types.offset_of("task_struct", "tgid"), Some(pid + 4));
        assert_eq!(types.offset_of("task_struct", "no_such_member"), None);
        assert_eq!(types.offset_of("no_such_struct", "pid"), None);
        // `struct list_head { next, prev }`.
        assert_eq!(types.offset_of("list_head", "prev"), Some(8));
    }

    #[test]
    fn bytes_that_are_not_btf_are_refused() {
        assert!(Types::read(b"").is_none());
        assert!(Types::read(&[0; 64]).is_none());
    }
}
