//! Library objects, as the programs see them. User space's packs (`packs/`) describe each library's functions; the
//! programs get a [`Function`] per probe from them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::state::Key;

/// Marks an argument that a function lacks: the value is unknown.
pub const NONE: u8 = 0xff;

/// A function that works on objects, by its probe number. Arguments are counted from 0; [`NONE`] marks a missing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Function {
    /// Its effect: [`CONSTRUCT`] and the other constants below.
    pub does: u8,
    /// The argument with the object's handle; [`NONE`] when the function returns the handle.
    pub handle: u8,
    /// 1 when that argument points to the handle, or (of a constructor) to where it will store the handle; 2 when a
    /// constructor stores two, one behind the other.
    pub through: u8,
    /// [`BLOCK`], or how an object that is no heap block ends.
    pub own: u8,
    /// Descriptor that the object uses.
    pub fd: u8,
    /// A word to keep: the address of a callback, a type's number.
    pub word: u8,
    /// Handle of the owning object.
    pub owner: u8,
    /// Address of a zero-terminated name.
    pub text: u8,
    /// The argument that distinguishes two kinds constructed by one function …
    pub test: u8,
    /// Meaning of the returned value where it is not the handle. 1: a number below 0 reports failure. 0: the value 0
    /// reports success.
    pub number: u8,
    /// Bytes from the address in the handle argument to the handle.
    pub offset: u16,
    /// … by these bits: any of them set selects the second kind.
    pub mask: u32,
}

impl Function {
    /// A function without an effect on objects.
    pub const NOTHING: Self = Self {
        does: NOTHING,
        handle: NONE,
        through: 0,
        own: BLOCK,
        fd: NONE,
        word: NONE,
        owner: NONE,
        text: NONE,
        test: NONE,
        number: 0,
        offset: 0,
        mask: 0,
    };
}

impl Function {
    /// Whether it constructs objects.
    pub const fn makes(&self) -> bool {
        matches!(self.does, CONSTRUCT | CONSTRUCT_FIRST_BLOCK | CONSTRUCT_MAYBE_FIRST_BLOCK)
    }

    /// The arguments that the programs read.
    pub fn uses(self) -> impl Iterator<Item = u8> {
        let all = [self.handle, self.fd, self.word, self.owner, self.text, self.test];
        all.into_iter().filter(|argument| *argument != NONE)
    }
}

/// The object is a heap block, and ends with the block.
pub const BLOCK: u8 = 0;
/// A function of its library ends it, see [`END`].
pub const BY_FUNCTION: u8 = 1;
/// It ends when a field in its memory says so; the collector reads the field from time to time. An object constructed
/// in place during another constructor call is part of that object.
pub const BY_MEMORY: u8 = 2;

/// No effect on objects.
pub const NOTHING: u8 = 0;
/// Constructs an object, in memory of its own or in place.
pub const CONSTRUCT: u8 = 1;
/// Requests the release of an object.
pub const REQUEST_RELEASE: u8 = 2;
/// Ends an object that does not end with its heap block.
pub const END: u8 = 3;
/// Updates an object: its descriptor, word, owner or name.
pub const UPDATE: u8 = 4;

/// Constructs an object, which is the first heap block acquired during the call. This identifies the object without a
/// return probe.
pub const CONSTRUCT_FIRST_BLOCK: u8 = 5;
/// Constructs an object, which is the first heap block acquired during the call, if any; the returned value does not
/// lead to it.
pub const CONSTRUCT_MAYBE_FIRST_BLOCK: u8 = 6;

/// Bytes kept of an object's name.
pub const TEXT: usize = 40;

/// Details of a live object, by [`crate::state::Key`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Object {
    /// `CLOCK_MONOTONIC` of its construction, nanoseconds.
    pub time_ns: u64,
    /// The word to keep, see [`Function::word`].
    pub word: u64,
    /// Handle of its owner; 0 when unknown.
    pub owner: u64,
    /// Id of the constructor call that built it: objects built during that call refer to it.
    pub making: u64,
    /// Id of the enclosing constructor call; 0 for none.
    pub within: u64,
    /// Number of the call site that constructed it.
    pub site: u32,
    /// Descriptor that it uses; below 0 when unknown.
    pub fd: i32,
    /// Its name, zero-terminated unless it fills the field.
    pub text: [u8; TEXT],
}

/// Permanent identity of an object: another object may get the same key later, but not the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ObjectId {
    /// Its key.
    pub key: Key,
    /// [`Object::time_ns`].
    pub time_ns: u64,
}

/// Flag in [`crate::state::Young::site`]: the resource is an object.
pub const IS_OBJECT: u32 = 1 << 31;

/// Nested constructor calls tracked per thread: a power of two.
pub const CONSTRUCTOR_CALLS: usize = 8;

/// The digest after one more constructor call, see [`ConstructorCall::chain`]. Never 0.
#[inline(always)]
pub const fn chain(outer: u64, slot: u64, caller: u64) -> u64 {
    let word = outer.rotate_left(7) ^ slot.rotate_left(32) ^ caller;
    word.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// A constructor call in progress on a thread.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ConstructorCall {
    /// Address of its return address on the stack.
    pub slot: u64,
    /// The return address, before the return probe replaced it.
    pub caller: u64,
    /// Cookie of the function.
    pub cookie: u64,
    /// `CLOCK_MONOTONIC` of its beginning, nanoseconds: identifies the call.
    pub id: u64,
    /// As in [`Object`].
    pub word: u64,
    /// As in [`Object`].
    pub owner: u64,
    /// Where the constructor will store the handle; for [`CONSTRUCT_MAYBE_FIRST_BLOCK`] the handle itself, once known.
    pub out: u64,
    /// Address of the object's name; 0 without.
    pub text: u64,
    /// Digest of the return addresses of this call and the enclosing ones, on which a walk over them depends.
    pub chain: u64,
    /// Number of its call site; 0 while its stack is being unwound.
    pub site: u32,
    /// As in [`Object`].
    pub fd: i32,
}

const _: () = assert!(size_of::<Function>() == 16 && size_of::<Object>() == 88);
const _: () = assert!(size_of::<ConstructorCall>() == 80);
