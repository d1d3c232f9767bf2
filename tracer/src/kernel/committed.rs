//! The bytes of the committed BPF object.

/// Gives the bytes of the object the alignment that ELF parsing needs.
#[repr(C, align(8))]
pub(super) struct Aligned<T: ?Sized>(pub(super) T);
/// The committed object.
pub(super) static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!("../../bpf/leaktrace-x86_64.bpf.o"));
