//! Objects of libraries, as the programs know them. Which function of which library does what is data of user space's
//! (`packs/`); what of it the programs need is a [`Function`] per probe.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::state::Key;

/// An argument that a function does not have: what it would say is not known.
pub const NONE: u8 = 0xff;

/// A function that is about objects, by the number of its probe. Arguments are counted from 0; [`NONE`] where there is
/// none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Function {
    /// What it does: [`CONSTRUCT`] and its kin.
    pub does: u8,
    /// The argument that is the object's handle; [`NONE`] when the handle is returned.
    pub handle: u8,
    /// 1 when that argument is where the handle is, or (of a maker) where it will be stored; 2 when a maker stores two,
    /// one behind the other.
    pub through: u8,
    /// [`BLOCK`], or how an object ends that is no heap block.
    pub own: u8,
    /// Descriptor that the object works on.
    pub fd: u8,
    /// A word to be kept: the address of a callback, a type's number.
    pub word: u8,
    /// Handle of the object that owns it.
    pub owner: u8,
    /// Address of a name, ended by a zero.
    pub text: u8,
    /// The argument that tells two kinds made by one function apart …
    pub test: u8,
    /// 1 when what is returned is a number, below 0 for failure, where the handle is not what is returned; 0 when it is
    /// 0 for success.
    pub number: u8,
    /// Bytes from where the handle argument leads to where the handle is.
    pub offset: u16,
    /// … by these bits: any of them set makes it the second kind.
    pub mask: u32,
}

impl Function {
    /// One that says nothing.
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
    /// Whether it makes objects.
    pub const fn makes(&self) -> bool {
        matches!(self.does, CONSTRUCT | CONSTRUCT_FIRST_BLOCK | CONSTRUCT_MAYBE_FIRST_BLOCK)
    }

    /// The arguments that it tells of.
    pub fn uses(self) -> impl Iterator<Item = u8> {
        let all = [self.handle, self.fd, self.word, self.owner, self.text, self.test];
        all.into_iter().filter(|argument| *argument != NONE)
    }
}

/// The object is a heap block, and ends with it.
pub const BLOCK: u8 = 0;
/// It ends by a function of its library's, see [`END`].
pub const BY_FUNCTION: u8 = 1;
/// It ends when its own memory says so, at which the collector looks from time to time. What is placed while another
/// object is made is part of that one.
pub const BY_MEMORY: u8 = 2;

/// Not about objects.
pub const NOTHING: u8 = 0;
/// Makes an object, or places one.
pub const CONSTRUCT: u8 = 1;
/// Is asked to release an object.
pub const REQUEST_RELEASE: u8 = 2;
/// Ends an object that does not end with its heap block.
pub const END: u8 = 3;
/// Tells more of an object: its descriptor, word, owner or name.
pub const UPDATE: u8 = 4;

/// Makes an object, which is the first heap block that is acquired meanwhile. Without a return probe that is enough to
/// know it by.
pub const CONSTRUCT_FIRST_BLOCK: u8 = 5;
/// Makes an object, which is the first heap block that is acquired meanwhile, if one is; what is returned says nothing
/// of it.
pub const CONSTRUCT_MAYBE_FIRST_BLOCK: u8 = 6;

/// Bytes kept of an object's name.
pub const TEXT: usize = 40;

/// What is known of an object that is there, by [`crate::state::Key`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Object {
    /// `CLOCK_MONOTONIC` of its making, nanoseconds.
    pub time_ns: u64,
    /// The word that was to be kept.
    pub word: u64,
    /// Handle of its owner; 0 when none was told.
    pub owner: u64,
    /// Which making it comes from: tells those made meanwhile whose they are.
    pub making: u64,
    /// The making within which it was made; 0 for none.
    pub within: u64,
    /// Number of the call site that made it.
    pub site: u32,
    /// Descriptor that it works on; below 0 when none was told.
    pub fd: i32,
    /// Its name, ended by a zero unless it is longer.
    pub text: [u8; TEXT],
}

/// Which object, for good: its key may be another's later, but not with the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ObjectId {
    /// Where it is.
    pub key: Key,
    /// [`Object::time_ns`].
    pub time_ns: u64,
}

/// In [`crate::state::Young::site`]: the resource is an object.
pub const IS_OBJECT: u32 = 1 << 31;

/// Makers that a thread can be in at once, one within the other: a power of two.
pub const CONSTRUCTOR_CALLS: usize = 8;

/// The digest of one more maker, see [`ConstructorCall::chain`]. Never 0.
#[inline(always)]
pub const fn chain(outer: u64, slot: u64, caller: u64) -> u64 {
    let word = outer.rotate_left(7) ^ slot.rotate_left(32) ^ caller;
    word.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// A maker that a thread is in.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ConstructorCall {
    /// Where its return address lies.
    pub slot: u64,
    /// The return address, before the return probe replaced it.
    pub caller: u64,
    /// Cookie of the function.
    pub cookie: u64,
    /// `CLOCK_MONOTONIC` of its beginning, nanoseconds: which making it is.
    pub id: u64,
    /// As in [`Object`].
    pub word: u64,
    /// As in [`Object`].
    pub owner: u64,
    /// Where the handle will be stored; of a maker that does not tell it the handle, once it is there.
    pub out: u64,
    /// Address of the object's name; 0 without.
    pub text: u64,
    /// Digest of the return addresses of this maker and those that it is within: what a walk over them depends on.
    pub chain: u64,
    /// Number of its call site; 0 while its stack is being taken.
    pub site: u32,
    /// As in [`Object`].
    pub fd: i32,
}

const _: () = assert!(size_of::<Function>() == 16 && size_of::<Object>() == 88);
const _: () = assert!(size_of::<ConstructorCall>() == 80);
