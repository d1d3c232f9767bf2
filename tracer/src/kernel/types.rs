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

/// A structure: the place of its name among the names, its number, its bytes.
struct Title {
    name: u32,
    number: u32,
    bytes: u32,
}

/// The structures of the kernel.
pub(super) struct Types<'btf> {
    names: &'btf [u8],
    /// Members by number of the structure.
    structures: HashMap<u32, Vec<Member>>,
    titles: Vec<Title>,
}

impl<'btf> Types<'btf> {
    /// Reads type information; `None` when it is not understood.
    pub(super) fn read(btf: &'btf [u8]) -> Option<Self> {
        if u16::from_ne_bytes(*btf.first_chunk()?) != MAGIC {
            return None;
        }
        let part = |at: usize| -> Option<&[u8]> {
            let start = (word(btf, 4)? + word(btf, at)?) as usize;
            btf.get(start..)?.get(..word(btf, at + 4)? as usize)
        };
        let (types, names) = (part(8)?, part(16)?);
        let mut read = Self { names, structures: HashMap::new(), titles: Vec::new() };
        let mut at = 0;
        // Numbers begin with 1: 0 is `void`.
        for number in 1.. {
            if at >= types.len() {
                break;
            }
            let (title, info) = (word(types, at)?, word(types, at + 4)?);
            let bytes = word(types, at + 8)?;
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
                if kind == STRUCT {
                    read.titles.push(Title { name: title, number, bytes });
                }
                read.structures.insert(number, members);
            }
            at += rest(kind, count)?;
        }
        Some(read)
    }

    /// Bytes of `member` from the start of the structure `name`; members of nameless structures in it count as
    /// its own. `None` when there is none.
    pub(super) fn offset_of(&self, name: &str, member: &str) -> Option<u32> {
        self.within(self.find(name)?.number, member, 4)
    }

    /// Bytes of the structure `name`. `None` as above.
    fn size_of(&self, name: &str) -> Option<u32> {
        Some(self.find(name)?.bytes)
    }

    /// Bytes of a thread's stack in the kernel (`THREAD_SIZE`), which has no type of its own. `IRQ_STACK_SIZE` is the same
    /// by definition (order 2, one more with KASAN: `arch/x86/include/asm/page_64_types.h`), and is a structure's size.
    pub(super) fn stack_bytes(&self) -> Option<u32> {
        self.size_of("irq_stack")
    }

    fn find(&self, name: &str) -> Option<&Title> {
        self.titles.iter().find(|title| self.is_named(title.name, name))
    }

    fn is_named(&self, at: u32, wanted: &str) -> bool {
        let text = self.names.get(at as usize..).unwrap_or_default();
        text.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    fn within(&self, number: u32, wanted: &str, depth: u32) -> Option<u32> {
        let members = self.structures.get(&number)?;
        members.iter().find_map(|member| {
            if self.is_named(member.name, wanted) {
                return Some(member.offset);
            }
            if depth == 0 || !self.is_named(member.name, "") {
                return None;
            }
            let inner = self.within(member.kind, wanted, depth - 1)?;
            Some(member.offset + inner)
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
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

#[cfg(test)]
mod tests {
    use super::Types;

    #[test]
    fn the_running_kernel_says_where_a_task_keeps_its_id() {
        let btf = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let types = Types::read(&btf).unwrap();
        let pid = types.offset_of("task_struct", "pid").unwrap();
        // They stand side by side since long ago.
        assert_eq!(types.offset_of("task_struct", "tgid"), Some(pid + 4));
        assert_eq!(types.offset_of("task_struct", "no_such_member"), None);
        assert_eq!(types.offset_of("no_such_struct", "pid"), None);
        // `struct list_head { next, prev }`.
        assert_eq!(types.offset_of("list_head", "prev"), Some(8));
    }

    #[test]
    fn what_is_no_type_information_is_refused() {
        assert!(Types::read(b"").is_none());
        assert!(Types::read(&[0; 64]).is_none());
    }
}
