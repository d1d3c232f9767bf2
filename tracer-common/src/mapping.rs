//! What the memory of a mapping is, by the arguments of `mmap(2)`: it says in which part of resident memory its pages
//! count.

/// `MAP_TYPE`: the bits of the flags that say who sees what is written.
const TYPE: u64 = 0x0f;
/// `MAP_PRIVATE`, a type.
const PRIVATE: u64 = 0x02;
/// `MAP_ANONYMOUS`.
const ANONYMOUS: u64 = 0x20;

/// What is behind a mapping. Part of its call site, in records, as its detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Backing {
    /// Private memory without a file; also what `sbrk` adds, and what `mremap` has moved, whatever it was.
    Anonymous = 0,
    /// Shared memory without a file.
    SharedAnonymous = 1,
    /// A private copy of a file: pages are the file's until they are written.
    PrivateFile = 2,
    /// A file. Also a `memfd`, or one of a memory file system: the arguments do not tell.
    SharedFile = 3,
}

impl Backing {
    /// Every backing, in the order of its number.
    pub const ALL: [Self; 4] =
        [Self::Anonymous, Self::SharedAnonymous, Self::PrivateFile, Self::SharedFile];

    /// The backing of a mapping with these flags.
    #[inline(always)]
    pub const fn of_flags(flags: u64) -> Self {
        match (flags & ANONYMOUS != 0, flags & TYPE == PRIVATE) {
            (true, true) => Self::Anonymous,
            (true, false) => Self::SharedAnonymous,
            (false, true) => Self::PrivateFile,
            (false, false) => Self::SharedFile,
        }
    }

    /// The backing with this number; `None` for an unknown number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Anonymous),
            1 => Some(Self::SharedAnonymous),
            2 => Some(Self::PrivateFile),
            3 => Some(Self::SharedFile),
            _ => None,
        }
    }

    /// Whether there is a file behind it.
    #[inline(always)]
    pub const fn is_file(self) -> bool {
        matches!(self, Self::PrivateFile | Self::SharedFile)
    }
}

#[cfg(test)]
mod tests {
    use super::Backing;

    #[test]
    fn flags_say_what_is_behind_a_mapping() {
        // With MAP_NORESERVE, MAP_FIXED, MAP_STACK, and as MAP_SHARED_VALIDATE.
        for (flags, backing) in [
            (0x22, Backing::Anonymous),
            (0x4032, Backing::Anonymous),
            (0x21, Backing::SharedAnonymous),
            (0x02, Backing::PrivateFile),
            (0x12, Backing::PrivateFile),
            (0x01, Backing::SharedFile),
            (0x03, Backing::SharedFile),
        ] {
            assert_eq!(Backing::of_flags(flags), backing, "{flags:#x}");
        }
    }

    #[test]
    fn backing_numbers_round_trip() {
        for number in 0..=u8::MAX {
            let known = Backing::ALL.into_iter().find(|one| *one as u8 == number);
            assert_eq!(Backing::from_number(number), known);
        }
    }
}
