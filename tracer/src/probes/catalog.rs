//! The table: which function has which shape. Data only; one more allocator is a few more lines.
//!
//! Left out on purpose: `reallocf` (it ends in `realloc` and `free`, which are probed: a failed one
//! releases its block, which no resize does), and jemalloc's `xallocx`, which resizes in place and returns
//! a size instead of a handle: the block stays, with the size it was first asked for.

use std::{borrow::Cow, sync::Arc};

use tracer_common::{
    attach::Shape,
    kind::{Kind, ResourceKind},
    object::{BLOCK, CONSTRUCT_FIRST_BLOCK, CONSTRUCT_MAYBE_FIRST_BLOCK},
};

use crate::packs::Use;

/// A function worth a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its symbol, or its address in the executable as `0x…`.
    pub name: Cow<'static, str>,
    /// What sort of resource it is about.
    pub kind: ResourceKind,
    /// How it acquires or releases.
    pub shape: Shape,
    /// Which arguments the shape's `a`, `b` and `c` are.
    pub arguments: [u8; 3],
    /// Whether an exception may leave it.
    pub throws: bool,
    /// What it does to a library's objects, if it is about them.
    pub object: Option<Arc<Use>>,
}

impl Function {
    /// Whether it makes an object that is the first block acquired meanwhile.
    pub(super) fn is_by_first_block(&self) -> bool {
        self.object.as_ref().is_some_and(|of| of.function.does == CONSTRUCT_FIRST_BLOCK)
    }

    /// Whether it makes such an object, if it needs a block at all, and does not tell it.
    pub(super) fn is_untold(&self) -> bool {
        self.object.as_ref().is_some_and(|of| of.function.does == CONSTRUCT_MAYBE_FIRST_BLOCK)
    }

    /// The kind that its resources have in records.
    pub(super) fn record_kind(&self) -> Kind {
        match (&self.object, self.kind) {
            (Some(of), _) if of.function.own != BLOCK => Kind::CallerAllocated,
            (None, ResourceKind::Mmap) => Kind::Mmap,
            _ => Kind::Heap,
        }
    }

    /// Whether it only says something of an object: it acquires nothing.
    pub fn is_note(&self) -> bool {
        self.shape == Shape::Note
    }

    /// The arguments that its programs look at.
    pub(super) fn uses(&self) -> Vec<u8> {
        match &self.object {
            Some(of) => of.function.uses().collect(),
            None => self.shape.uses(self.arguments).to_vec(),
        }
    }
}

const fn function(
    name: &'static str,
    kind: ResourceKind,
    shape: Shape,
    arguments: [u8; 3],
) -> Function {
    Function { name: Cow::Borrowed(name), kind, shape, arguments, throws: false, object: None }
}

const fn heap(name: &'static str, shape: Shape, arguments: [u8; 3]) -> Function {
    function(name, ResourceKind::Heap, shape, arguments)
}

const fn size(name: &'static str) -> Function {
    heap(name, Shape::Size, [0, 0, 0])
}

/// What throws when there is no memory.
const fn throwing(name: &'static str, shape: Shape, arguments: [u8; 3]) -> Function {
    Function {
        name: Cow::Borrowed(name),
        kind: ResourceKind::Heap,
        shape,
        arguments,
        throws: true,
        object: None,
    }
}

/// A form of `operator new` that does.
const fn new(name: &'static str) -> Function {
    throwing(name, Shape::Size, [0, 0, 0])
}

const fn release(name: &'static str) -> Function {
    heap(name, Shape::Release, [0, 0, 0])
}

/// The C allocator family and anonymous memory, as libc has them. With libc's own allocator, C++ `new`
/// and `delete` arrive through `malloc` and `free`.
///
/// Of two names for the same code the first one is kept: `aligned_alloc` is `memalign` in glibc.
pub static LIBC: [Function; 14] = [
    size("malloc"),
    heap("calloc", Shape::CountSize, [0, 1, 0]),
    heap("realloc", Shape::Resize, [0, 1, 0]),
    heap("reallocarray", Shape::CountResize, [0, 1, 2]),
    release("free"),
    heap("posix_memalign", Shape::OutPointer, [0, 2, 0]),
    heap("aligned_alloc", Shape::Size, [1, 0, 0]),
    heap("memalign", Shape::Size, [1, 0, 0]),
    size("valloc"),
    size("pvalloc"),
    // OldKernelProbes C libraries: another name of `free`.
    release("cfree"),
    function("mmap", ResourceKind::Mmap, Shape::Map, [1, 3, 0]),
    function("munmap", ResourceKind::Mmap, Shape::Unmap, [0, 1, 0]),
    function("mremap", ResourceKind::Mmap, Shape::Remap, [0, 1, 2]),
];

/// What allocators have beside the family: C23's releases, and jemalloc's own interface.
pub(super) static EXTENDED: [Function; 6] = [
    release("free_sized"),
    release("free_aligned_sized"),
    size("mallocx"),
    heap("rallocx", Shape::Resize, [0, 1, 0]),
    release("dallocx"),
    release("sdallocx"),
];

/// The C++ operators of an allocator that does not send them through `malloc`.
pub(super) static OPERATORS: [Function; 20] = [
    new("_Znwm"),
    new("_Znam"),
    size("_ZnwmRKSt9nothrow_t"),
    size("_ZnamRKSt9nothrow_t"),
    new("_ZnwmSt11align_val_t"),
    new("_ZnamSt11align_val_t"),
    size("_ZnwmSt11align_val_tRKSt9nothrow_t"),
    size("_ZnamSt11align_val_tRKSt9nothrow_t"),
    release("_ZdlPv"),
    release("_ZdaPv"),
    release("_ZdlPvRKSt9nothrow_t"),
    release("_ZdaPvRKSt9nothrow_t"),
    release("_ZdlPvm"),
    release("_ZdaPvm"),
    release("_ZdlPvSt11align_val_t"),
    release("_ZdaPvSt11align_val_t"),
    release("_ZdlPvSt11align_val_tRKSt9nothrow_t"),
    release("_ZdaPvSt11align_val_tRKSt9nothrow_t"),
    release("_ZdlPvmSt11align_val_t"),
    release("_ZdaPvmSt11align_val_t"),
];

/// What tcmalloc has under its own prefix beside the family.
pub(super) static TCMALLOC: [Function; 19] = [
    size("tc_malloc_skip_new_handler"),
    new("tc_new"),
    new("tc_newarray"),
    size("tc_new_nothrow"),
    size("tc_newarray_nothrow"),
    new("tc_new_aligned"),
    new("tc_newarray_aligned"),
    size("tc_new_aligned_nothrow"),
    size("tc_newarray_aligned_nothrow"),
    release("tc_delete"),
    release("tc_deletearray"),
    release("tc_delete_nothrow"),
    release("tc_deletearray_nothrow"),
    release("tc_delete_sized"),
    release("tc_deletearray_sized"),
    release("tc_delete_aligned"),
    release("tc_deletearray_aligned"),
    release("tc_delete_sized_aligned"),
    release("tc_deletearray_sized_aligned"),
];

/// What mimalloc has under its own prefix beside the family. A heap that is destroyed with its blocks
/// (`mi_heap_destroy`) releases them unseen.
pub(super) static MIMALLOC: [Function; 47] = [
    size("mi_zalloc"),
    size("mi_malloc_small"),
    size("mi_zalloc_small"),
    heap("mi_mallocn", Shape::CountSize, [0, 1, 0]),
    size("mi_malloc_aligned"),
    size("mi_malloc_aligned_at"),
    size("mi_zalloc_aligned"),
    size("mi_zalloc_aligned_at"),
    heap("mi_calloc_aligned", Shape::CountSize, [0, 1, 0]),
    heap("mi_calloc_aligned_at", Shape::CountSize, [0, 1, 0]),
    heap("mi_expand", Shape::Resize, [0, 1, 0]),
    heap("mi_reallocn", Shape::CountResize, [0, 1, 2]),
    heap("mi_rezalloc", Shape::Resize, [0, 1, 0]),
    heap("mi_recalloc", Shape::CountResize, [0, 1, 2]),
    heap("mi_realloc_aligned", Shape::Resize, [0, 1, 0]),
    heap("mi_realloc_aligned_at", Shape::Resize, [0, 1, 0]),
    heap("mi_rezalloc_aligned", Shape::Resize, [0, 1, 0]),
    heap("mi_recalloc_aligned", Shape::CountResize, [0, 1, 2]),
    new("mi_new"),
    size("mi_new_nothrow"),
    new("mi_new_aligned"),
    size("mi_new_aligned_nothrow"),
    throwing("mi_new_n", Shape::CountSize, [0, 1, 0]),
    throwing("mi_new_realloc", Shape::Resize, [0, 1, 0]),
    throwing("mi_new_reallocn", Shape::CountResize, [0, 1, 2]),
    heap("mi_heap_malloc", Shape::Size, [1, 0, 0]),
    heap("mi_heap_zalloc", Shape::Size, [1, 0, 0]),
    heap("mi_heap_malloc_small", Shape::Size, [1, 0, 0]),
    heap("mi_heap_calloc", Shape::CountSize, [1, 2, 0]),
    heap("mi_heap_mallocn", Shape::CountSize, [1, 2, 0]),
    heap("mi_heap_malloc_aligned", Shape::Size, [1, 0, 0]),
    heap("mi_heap_malloc_aligned_at", Shape::Size, [1, 0, 0]),
    heap("mi_heap_zalloc_aligned", Shape::Size, [1, 0, 0]),
    heap("mi_heap_zalloc_aligned_at", Shape::Size, [1, 0, 0]),
    heap("mi_heap_calloc_aligned", Shape::CountSize, [1, 2, 0]),
    heap("mi_heap_calloc_aligned_at", Shape::CountSize, [1, 2, 0]),
    heap("mi_heap_realloc", Shape::Resize, [1, 2, 0]),
    heap("mi_heap_reallocn", Shape::CountResize, [1, 2, 3]),
    heap("mi_heap_rezalloc", Shape::Resize, [1, 2, 0]),
    heap("mi_heap_recalloc", Shape::CountResize, [1, 2, 3]),
    heap("mi_heap_realloc_aligned", Shape::Resize, [1, 2, 0]),
    heap("mi_heap_rezalloc_aligned", Shape::Resize, [1, 2, 0]),
    heap("mi_heap_recalloc_aligned", Shape::CountResize, [1, 2, 3]),
    throwing("mi_heap_alloc_new", Shape::Size, [1, 0, 0]),
    release("mi_free_size"),
    release("mi_free_aligned"),
    release("mi_free_size_aligned"),
];

/// Prefixes under which allocators are built into programs and libraries; the empty one is the family
/// that takes libc's place.
pub(super) const PREFIXES: [&str; 6] = ["", "je_", "_rjem_", "rjem_", "tc_", "mi_"];

/// jemalloc's experimental `smallocx_<commit>(size, flags)`.
const SMALLOCX: &str = "smallocx_";

/// Every function that an allocator with these prefixes may have: `other` when it is not libc's own.
/// `names` are those that the object defines, for the ones whose names are not known beforehand.
pub(super) fn functions(prefixes: &[&str], other: bool, names: &[&str]) -> Vec<Function> {
    let mut all = Vec::new();
    for prefix in prefixes {
        let family = LIBC.iter().filter(|one| prefix.is_empty() || one.kind == ResourceKind::Heap);
        let extended = EXTENDED.iter().filter(|_| other);
        all.extend(family.chain(extended).map(|one| Function {
            name: if prefix.is_empty() {
                one.name.clone()
            } else {
                Cow::Owned(format!("{prefix}{}", one.name))
            },
            ..one.clone()
        }));
    }
    if other {
        all.extend(OPERATORS.iter().chain(&TCMALLOC).chain(&MIMALLOC).cloned());
        let small = names.iter().filter(|name| {
            prefixes.iter().any(|prefix| {
                name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(SMALLOCX))
            })
        });
        all.extend(small.map(|name| Function { name: Cow::Owned((*name).to_owned()), ..size("") }));
    }
    all
}

/// Whether a function is C++'s `operator new`, which may pass its request on to a probed function.
pub(super) fn is_operator_new(function: &Function) -> bool {
    function.name.starts_with("_Zn") && !function.shape.releases()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_function_is_listed_twice() {
        let all = functions(&PREFIXES, true, &["smallocx_0abc", "other"]);
        for (at, one) in all.iter().enumerate() {
            assert!(!all.iter().skip(at + 1).any(|other| other.name == one.name), "{}", one.name);
        }
        assert!(all.iter().any(|one| one.name == "smallocx_0abc"));
        assert!(all.iter().any(|one| one.name == "_rjem_sdallocx"));
    }

    #[test]
    fn only_plain_operator_new_throws() {
        let throwing = OPERATORS.iter().filter(|one| one.throws);
        let names: Vec<&str> = throwing.map(|one| &*one.name).collect();
        assert_eq!(names, ["_Znwm", "_Znam", "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t"]);
    }

    #[test]
    fn libc_itself_has_the_family_only() {
        assert_eq!(functions(&[""], false, &[]), LIBC);
    }
}
