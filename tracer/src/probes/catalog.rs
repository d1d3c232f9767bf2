//! The table of allocator functions and their shapes. Data only; another allocator takes a few more lines.
//!
//! Left out on purpose: `reallocf` (it calls `realloc` and `free`, which are probed; unlike a resize, a failed call
//! releases its block), and jemalloc's `xallocx`, which resizes in place and returns a size instead of a handle: the
//! block keeps the size of its first request.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};
use tracer_common::{
    attach::Shape,
    kind::{Kind, ResourceKind},
    object::{BLOCK, CONSTRUCT_FIRST_BLOCK, CONSTRUCT_MAYBE_FIRST_BLOCK},
};

use crate::packs::Use;

/// A function to probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its symbol, or its address in the executable as `0x…`.
    pub name: Cow<'static, str>,
    /// The kind of resource that it acquires or releases.
    pub kind: ResourceKind,
    /// How it acquires or releases.
    #[serde(with = "crate::tape::wire::shape")]
    pub shape: Shape,
    /// Which arguments the shape's `a`, `b` and `c` are.
    pub arguments: [u8; 3],
    /// Whether a C++ exception may leave it.
    pub throws: bool,
    /// What it does to a library's objects, if a pack names it.
    pub object: Option<Arc<Use>>,
}

impl Function {
    /// Whether it creates an object that is the first block allocated during the call.
    pub(super) fn is_by_first_block(&self) -> bool {
        self.object.as_ref().is_some_and(|of| of.function.does == CONSTRUCT_FIRST_BLOCK)
    }

    /// Whether it creates an object that is the first block allocated during the call, if there is one, and that no
    /// returned or stored value leads to.
    pub(super) fn is_first_allocation(&self) -> bool {
        self.object.as_ref().is_some_and(|of| of.function.does == CONSTRUCT_MAYBE_FIRST_BLOCK)
    }

    /// The kind that its resources have in records.
    pub(super) fn record_kind(&self) -> Kind {
        match (&self.object, self.kind) {
            (Some(of), _) if of.function.own != BLOCK => Kind::CallerAllocated,
            (None, ResourceKind::Mmap) => Kind::Mmap,
            (None, ResourceKind::Thread) => Kind::Thread,
            // Without a wildcard, so that a new kind is decided here.
            (Some(_), _)
            | (
                None,
                ResourceKind::Heap
                | ResourceKind::Object
                | ResourceKind::Fd
                | ResourceKind::Socket
                | ResourceKind::Pages,
            ) => Kind::Heap,
        }
    }

    /// Whether it is a function of an allocator.
    pub fn is_of_allocator(&self) -> bool {
        self.object.is_none() && self.kind != ResourceKind::Thread
    }

    /// Whether it only updates or releases an object: it acquires nothing.
    pub fn is_note(&self) -> bool {
        self.shape == Shape::Note
    }

    /// The arguments that its BPF programs read.
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

/// A function that throws if there is no memory.
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

/// A throwing form of `operator new`.
const fn new(name: &'static str) -> Function {
    throwing(name, Shape::Size, [0, 0, 0])
}

const fn release(name: &'static str) -> Function {
    heap(name, Shape::Release, [0, 0, 0])
}

/// The C allocator family, memory mappings and the break in libc. With libc's own allocator, C++ `new` and `delete` call
/// `malloc` and `free`.
///
/// If two names have the same code, the first one is used: `aligned_alloc` is `memalign` in glibc.
pub static LIBC: [Function; 15] = [
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
    // In older C libraries, another name of `free`.
    release("cfree"),
    function("mmap", ResourceKind::Mmap, Shape::Map, [1, 3, 0]),
    function("munmap", ResourceKind::Mmap, Shape::Unmap, [0, 1, 0]),
    function("mremap", ResourceKind::Mmap, Shape::Remap, [0, 1, 2]),
    function("sbrk", ResourceKind::Mmap, Shape::Break, [0, 0, 0]),
];

/// Functions of other allocators in addition to the family: C23's releases, and jemalloc's own interface.
pub(super) static EXTENDED: [Function; 6] = [
    release("free_sized"),
    release("free_aligned_sized"),
    size("mallocx"),
    heap("rallocx", Shape::Resize, [0, 1, 0]),
    release("dallocx"),
    release("sdallocx"),
];

/// The C++ operators of an allocator whose operators do not call `malloc`.
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

/// Functions of tcmalloc with its own prefix, in addition to the family.
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

/// Functions of mimalloc with its own prefix, in addition to the family. leaktrace does not see blocks that
/// `mi_heap_destroy` releases with their heap.
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

/// Prefixes of allocators that are built into programs and libraries; the empty prefix is the family that replaces
/// libc's.
pub(super) const PREFIXES: [&str; 6] = ["", "je_", "_rjem_", "rjem_", "tc_", "mi_"];

/// jemalloc's experimental `smallocx_<commit>(size, flags)`.
const SMALLOCX: &str = "smallocx_";

/// Every function that an allocator with these prefixes may have; `other` if it is not libc's own. `names` are the
/// functions that the object defines, to find those whose names are not fixed.
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

/// Whether a function is C++'s `operator new`, which may call another probed function.
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
