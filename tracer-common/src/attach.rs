//! The attach cookie: describes the probed function to the program that runs on a hit.
//!
//! The kernel side knows shapes, user space knows functions: a function is a line of data that becomes
//! one cookie per probe. Only packs and unpacks, in the same way on both sides.

/// Number of a probe: a function in one object file. Numbers below [`crate::limits::PROBES`] stand for functions; those
/// from [`crate::descriptor::FIRST_FD_ORIGIN`] on stand for system calls that open descriptors.
pub type ProbeNumber = u16;

/// How a function acquires or releases: the role of each argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shape {
    /// Size in argument `a`, handle returned; 0 means failure.
    Size = 0,
    /// Count in argument `a`, size of one in argument `b`, handle returned; 0 means failure.
    CountSize = 1,
    /// Handle stored through the pointer in argument `a`, size in argument `b`; 0 returned means success.
    OutPointer = 2,
    /// Old handle in argument `a`, new size in argument `b`, handle returned; 0 keeps the old one,
    /// unless the new size is 0.
    Resize = 3,
    /// As [`Shape::Resize`], with the size of one in argument `c`.
    CountResize = 4,
    /// Handle in argument `a` is released.
    Release = 5,
    /// Length in argument `a`, `mmap` flags in argument `b`; -1 means failure.
    Map = 6,
    /// Address in argument `a`, length in argument `b`: that range is released.
    Unmap = 7,
    /// Old address in `a`, old length in `b`, new length in `c`; -1 keeps the old range.
    Remap = 8,
    /// Constructor of a library object, described by [`crate::object::Function`].
    Construct = 9,
    /// Constructor of a library object in memory that its caller allocated; as above.
    ConstructInPlace = 10,
    /// Requests the release of a library object, ends it, or updates its name, descriptor or owner; as above.
    Note = 11,
    /// Bytes to move the end of the data segment by in argument `a`, signed; the old end returned; -1 means failure.
    /// A negative number releases.
    Break = 12,
    /// Starts a thread: attributes in argument `a`, with the detach state at byte `b` of them, in the bits `c`. The
    /// kernel's new task has the handle.
    StartThread = 13,
    /// Waits for the thread whose handle is argument `a`, and releases it; a value other than 0 means failure.
    JoinThread = 14,
    /// Detaches the thread whose handle is argument `a`: nobody needs to join it.
    DetachThread = 15,
}

impl Shape {
    /// The shape with this number, or `None`.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Size,
            1 => Self::CountSize,
            2 => Self::OutPointer,
            3 => Self::Resize,
            4 => Self::CountResize,
            5 => Self::Release,
            6 => Self::Map,
            7 => Self::Unmap,
            8 => Self::Remap,
            9 => Self::Construct,
            10 => Self::ConstructInPlace,
            11 => Self::Note,
            12 => Self::Break,
            13 => Self::StartThread,
            14 => Self::JoinThread,
            15 => Self::DetachThread,
            _ => return None,
        })
    }

    /// Whether the result is known only when the function returns.
    pub const fn needs_return(self) -> bool {
        !matches!(
            self,
            Self::Release
                | Self::Unmap
                | Self::ConstructInPlace
                | Self::Note
                | Self::StartThread
                | Self::DetachThread
        )
    }

    /// The ones of `arguments` that the shape reads. For an object's function [`crate::object::Function::uses`] has
    /// them.
    pub fn uses(self, arguments: [u8; 3]) -> [u8; 3] {
        let [a, b, _] = arguments;
        match self {
            Self::Size
            | Self::Release
            | Self::Break
            | Self::StartThread
            | Self::DetachThread
            | Self::JoinThread => [a; 3],
            Self::CountSize | Self::OutPointer | Self::Resize | Self::Map | Self::Unmap => {
                [a, b, b]
            }
            _ => arguments,
        }
    }

    /// Whether the function releases resources, or may release them.
    pub const fn releases(self) -> bool {
        matches!(
            self,
            Self::Resize
                | Self::CountResize
                | Self::Release
                | Self::Unmap
                | Self::Remap
                | Self::Break
                | Self::DetachThread
                | Self::JoinThread
        )
    }
}

/// In a cookie's last byte: the result is read at the function's own return instructions.
const NO_RETURN_PROBE: u8 = 1;
/// As above: the function may throw an exception.
const THROWS: u8 = 2;

/// As above: the result is the first argument of the function that this one tail-calls.
const FIRST_ARGUMENT: u8 = 4;

/// As above: the constructed object is the first block acquired before the function returns.
const FIRST_BLOCK: u8 = 8;

/// As above: calls that the library's own code makes are not the program's.
const OWN_CALLS: u8 = 16;

/// Bits of the cookie's third byte that hold the shape; the kind is in those above.
const SHAPE_BITS: u32 = 4;
const _: () = assert!((Shape::DetachThread as u8) < 1 << SHAPE_BITS);
const _: () = assert!((crate::kind::Kind::Thread as u8) < 1 << (8 - SHAPE_BITS));

/// One probed function as the programs see it; passed as the 64-bit attach cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub u64);

impl Cookie {
    /// Packs a probe: its number in the probe table, the kind's number (below 16), the shape, the arguments
    /// that the shape reads (unused ones 0), and the number of 8-byte words between the stack
    /// pointer and the return address at the attach point.
    pub const fn new(
        probe: ProbeNumber,
        kind: u8,
        shape: Shape,
        arguments: [u8; 3],
        words: u8,
    ) -> Self {
        let [a, b, c] = arguments;
        let [low, high] = probe.to_le_bytes();
        let what = shape as u8 | kind << SHAPE_BITS;
        Self(u64::from_le_bytes([low, high, what, words, a, b, c, 0]))
    }

    /// Marks a function whose result is read at its own return instructions; `throws` says whether it may
    /// throw an exception.
    #[must_use]
    pub const fn without_return_probe(self, throws: bool) -> Self {
        let flags = if throws { NO_RETURN_PROBE | THROWS } else { NO_RETURN_PROBE };
        Self(self.0 | u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, flags]))
    }

    /// Marks a tail call to a function that returns its first argument: that argument is the result.
    #[must_use]
    pub const fn returning_first_argument(self) -> Self {
        Self(self.0 | u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, FIRST_ARGUMENT]))
    }

    /// Marks a constructor whose object is the first block that it acquires. It needs no return probe.
    #[must_use]
    pub const fn by_first_block(self) -> Self {
        Self(self.0 | u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, FIRST_BLOCK | NO_RETURN_PROBE]))
    }

    /// Marks a constructor with a return probe whose object is the first block that it acquires, if it acquires one:
    /// neither its result nor an argument leads to the object.
    #[must_use]
    pub const fn maybe_first_block(self) -> Self {
        Self(self.0 | u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, FIRST_BLOCK]))
    }

    /// Marks a function of a C library: what the library's own code maps from files, or adds to the data segment, is
    /// part of how it works.
    #[must_use]
    pub const fn without_own_calls(self) -> Self {
        Self(self.0 | u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, OWN_CALLS]))
    }

    /// Whether calls by the library's own code are left out.
    #[inline(always)]
    pub const fn leaves_out_own_calls(self) -> bool {
        self.byte(7) & OWN_CALLS != 0
    }

    /// Whether the object is the first block acquired, rather than the returned value.
    #[inline(always)]
    pub const fn is_by_first_block(self) -> bool {
        self.byte(7) & FIRST_BLOCK != 0
    }

    /// Whether the result is the first argument at this hit, rather than the returned value.
    #[inline(always)]
    pub const fn returns_first_argument(self) -> bool {
        self.byte(7) & FIRST_ARGUMENT != 0
    }

    /// Whether the function has a return probe, which replaces its return address.
    #[inline(always)]
    pub const fn has_return_probe(self) -> bool {
        self.byte(7) & NO_RETURN_PROBE == 0
    }

    /// Whether the function may throw: a call that ends without a return has failed then.
    #[inline(always)]
    pub const fn throws(self) -> bool {
        self.byte(7) & THROWS != 0
    }

    #[expect(clippy::cast_possible_truncation, reason = "takes the lowest byte")]
    #[inline(always)]
    const fn byte(self, index: u32) -> u8 {
        (self.0 >> (index * 8)) as u8
    }

    /// Number of the probe in this run's probe table.
    #[expect(clippy::cast_possible_truncation, reason = "takes the two lowest bytes")]
    #[inline(always)]
    pub const fn probe(self) -> ProbeNumber {
        self.0 as ProbeNumber
    }

    /// Number of the kind, see [`crate::kind::Kind::from_number`].
    #[inline(always)]
    pub const fn kind(self) -> u8 {
        self.byte(2) >> SHAPE_BITS
    }

    /// Number of the shape, see [`Shape::from_number`].
    #[inline(always)]
    pub const fn shape(self) -> u8 {
        self.byte(2) & ((1 << SHAPE_BITS) - 1)
    }

    /// Whether the function works on a library object.
    #[inline(always)]
    pub const fn is_of_object(self) -> bool {
        let shape = self.shape();
        Shape::Construct as u8 <= shape && shape <= Shape::Note as u8
    }

    /// Words between the stack pointer and the return address at the attach point.
    #[inline(always)]
    pub const fn words(self) -> u8 {
        self.byte(3)
    }

    /// First argument that the shape reads.
    #[inline(always)]
    pub const fn a(self) -> u8 {
        self.byte(4)
    }

    /// Second argument that the shape reads.
    #[inline(always)]
    pub const fn b(self) -> u8 {
        self.byte(5)
    }

    /// Third argument that the shape reads.
    #[inline(always)]
    pub const fn c(self) -> u8 {
        self.byte(6)
    }
}

/// `count` × `size`, or the largest number when the product overflows: such a request fails. Computed in halves,
/// since BPF has no 128-bit product (and LLVM turns a division that checks for overflow into one).
#[inline(always)]
pub const fn product(count: u64, size: u64) -> u64 {
    let (large, small) = if count > size { (count, size) } else { (size, count) };
    if small >> 32 != 0 {
        return u64::MAX;
    }
    let high = (large >> 32) * small;
    let low = (large & 0xffff_ffff) * small;
    if high >> 32 != 0 || (high << 32) > u64::MAX - low {
        return u64::MAX;
    }
    (high << 32) + low
}

#[cfg(test)]
mod tests {
    use super::{Cookie, Shape, product};

    #[test]
    fn an_overflowing_product_is_the_largest_number() {
        assert_eq!(product(0, u64::MAX), 0);
        assert_eq!(product(3, 1000), 3000);
        assert_eq!(product(1 << 32, (1 << 32) - 1), (1 << 32) * ((1 << 32) - 1));
        assert_eq!(product(1 << 32, 1 << 32), u64::MAX);
        assert_eq!(product(u64::MAX, 1), u64::MAX);
        assert_eq!(product(2, 1 << 63), u64::MAX);
        assert_eq!(product(8, 0x1fff_ffff_ffff_ffff), 0xffff_ffff_ffff_fff8);
    }

    #[test]
    fn a_cookie_returns_the_fields_it_was_built_from() {
        let cookie = Cookie::new(0x1234, 5, Shape::Remap, [0, 1, 2], 3);
        assert_eq!((cookie.probe(), cookie.kind(), cookie.words()), (0x1234, 5, 3));
        assert_eq!(Shape::from_number(cookie.shape()), Some(Shape::Remap));
        assert_eq!((cookie.a(), cookie.b(), cookie.c()), (0, 1, 2));
        assert!(cookie.has_return_probe() && !cookie.throws());
        let quiet = cookie.without_return_probe(false);
        assert!(!quiet.has_return_probe() && !quiet.throws());
        let throwing = cookie.without_return_probe(true);
        assert!(!throwing.has_return_probe() && throwing.throws());
        assert_eq!((throwing.probe(), throwing.c()), (0x1234, 2));
        assert!(!throwing.returns_first_argument());
        let first = cookie.by_first_block();
        assert!(first.is_by_first_block() && !first.has_return_probe());
        assert!(!cookie.is_by_first_block() && !throwing.is_by_first_block());
        let maybe = cookie.maybe_first_block();
        assert!(maybe.is_by_first_block() && maybe.has_return_probe());
        let public = cookie.without_own_calls();
        assert!(public.leaves_out_own_calls() && public.has_return_probe());
        assert!(!cookie.leaves_out_own_calls() && !maybe.leaves_out_own_calls());
        let early = throwing.returning_first_argument();
        assert!(early.returns_first_argument() && early.throws() && !early.has_return_probe());
    }

    #[test]
    fn shape_numbers_round_trip() {
        for number in 0..=u8::MAX {
            if let Some(shape) = Shape::from_number(number) {
                assert_eq!(shape as u8, number);
            } else {
                assert!(number > Shape::DetachThread as u8);
            }
        }
    }
}
