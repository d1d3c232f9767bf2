//! The table: which function has which shape. Data only; one more allocator is a few more lines.

use tracer_common::{attach::Shape, kind::Kind};

/// A function worth a probe.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its symbol.
    pub name: &'static str,
    /// What sort of resource it is about.
    pub kind: Kind,
    /// How it acquires or releases.
    pub shape: Shape,
    /// Which arguments the shape's `a`, `b` and `c` are.
    pub arguments: [u8; 3],
}

const fn function(name: &'static str, kind: Kind, shape: Shape, arguments: [u8; 3]) -> Function {
    Function { name, kind, shape, arguments }
}

/// The C allocator family and anonymous memory, as libc has them. C++ `new` and `delete` arrive
/// through `malloc` and `free`.
///
/// Of two names for the same code the first one is kept: `aligned_alloc` is `memalign` in glibc.
pub static LIBC: [Function; 14] = [
    function("malloc", Kind::Heap, Shape::Size, [0, 0, 0]),
    function("calloc", Kind::Heap, Shape::CountSize, [0, 1, 0]),
    function("realloc", Kind::Heap, Shape::Resize, [0, 1, 0]),
    function("reallocarray", Kind::Heap, Shape::CountResize, [0, 1, 2]),
    function("free", Kind::Heap, Shape::Release, [0, 0, 0]),
    function("posix_memalign", Kind::Heap, Shape::OutPointer, [0, 2, 0]),
    function("aligned_alloc", Kind::Heap, Shape::Size, [1, 0, 0]),
    function("memalign", Kind::Heap, Shape::Size, [1, 0, 0]),
    function("valloc", Kind::Heap, Shape::Size, [0, 0, 0]),
    function("pvalloc", Kind::Heap, Shape::Size, [0, 0, 0]),
    // Older C libraries: another name of `free`.
    function("cfree", Kind::Heap, Shape::Release, [0, 0, 0]),
    function("mmap", Kind::Mmap, Shape::Map, [1, 3, 0]),
    function("munmap", Kind::Mmap, Shape::Unmap, [0, 1, 0]),
    function("mremap", Kind::Mmap, Shape::Remap, [0, 1, 2]),
];

#[cfg(test)]
mod tests {
    use super::LIBC;

    #[test]
    fn no_function_is_listed_twice() {
        for (at, one) in LIBC.iter().enumerate() {
            assert!(!LIBC.iter().skip(at + 1).any(|other| other.name == one.name), "{}", one.name);
        }
    }
}
