//! A compact encoding: a block and its handle in 28 bytes. Pure.

use super::events::Block;

/// Bits of a handle: user-space addresses have 47, unless a program opts into more.
const HANDLE_BITS: u32 = 48;
/// Bits of a position: enough for 256 TiB of records through the ring buffer.
const POSITION_BITS: u32 = 48;
/// Bits of a size: up to 64 GiB.
const SIZE_BITS: u32 = 36;
/// Bits of a time in [ticks](TICK_BITS): 52 days.
const TIME_BITS: u32 = 36;
/// Bits of a call site's number.
const SITE_BITS: u32 = 24;
/// Nanosecond bits that are dropped: times are kept to 65.5 µs. Reports show ages in tenths of a second,
/// and the minimum age is given in milliseconds.
pub(crate) const TICK_BITS: u32 = 16;

/// The low bits of size and time share words with the handle and the position.
const LOW_BITS: u32 = 16;
const LOW: u64 = (1 << LOW_BITS) - 1;
const HIGH_BITS: u32 = SIZE_BITS - LOW_BITS;
const HIGH: u64 = (1 << HIGH_BITS) - 1;

// Three words: `handle, low bits of the size`, `position, low bits of the time`, `site, the high bits`.
const _: () = assert!(HANDLE_BITS + LOW_BITS == 64 && POSITION_BITS + LOW_BITS == 64);
const _: () = assert!(SITE_BITS + 2 * HIGH_BITS == 64 && TIME_BITS == SIZE_BITS);

/// A block that fits the encoding, with its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
pub(super) struct Packed {
    words: [u64; 3],
    connection: u32,
}

impl Packed {
    /// `None` if a field does not fit. The time is rounded down to a tick after `origin_ns`.
    pub(super) fn new(handle: u64, block: &Block, origin_ns: u64) -> Option<Self> {
        let ticks = block.time_ns.checked_sub(origin_ns)? >> TICK_BITS;
        let site = u64::from(block.site);
        let fits = handle >> HANDLE_BITS == 0
            && block.position >> POSITION_BITS == 0
            && block.size >> SIZE_BITS == 0
            && ticks >> TIME_BITS == 0
            && site >> SITE_BITS == 0;
        let words = [
            handle << LOW_BITS | block.size & LOW,
            block.position << LOW_BITS | ticks & LOW,
            site << (2 * HIGH_BITS) | (block.size >> LOW_BITS) << HIGH_BITS | ticks >> LOW_BITS,
        ];
        fits.then_some(Self { words, connection: block.connection })
    }

    /// The handle.
    pub(super) const fn handle(&self) -> u64 {
        let [first, ..] = self.words;
        first >> LOW_BITS
    }

    /// The block, with its time rounded down to a tick.
    pub(super) const fn block(&self, origin_ns: u64) -> Block {
        let [first, second, third] = self.words;
        let ticks = (third & HIGH) << LOW_BITS | second & LOW;
        let site = (third >> (2 * HIGH_BITS)) as u32;
        Block {
            size: (third >> HIGH_BITS & HIGH) << LOW_BITS | first & LOW,
            time_ns: origin_ns + (ticks << TICK_BITS),
            position: second >> LOW_BITS,
            site,
            connection: self.connection,
        }
    }
}

const _: () = assert!(size_of::<Packed>() == 28);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_that_is_one_bit_too_wide_is_rejected() {
        let most = Block {
            size: (1 << 36) - 1,
            time_ns: 7 + (((1 << 36) - 1) << 16),
            position: (1 << 48) - 1,
            site: (1 << 24) - 1,
            connection: u32::MAX,
        };
        let handle = (1 << 48) - 1;
        let packed = Packed::new(handle, &most, 7).unwrap();
        assert_eq!((packed.handle(), packed.block(7)), (handle, most));
        assert_eq!(Packed::new(handle + 1, &most, 7), None);
        assert_eq!(Packed::new(handle, &Block { size: 1 << 36, ..most }, 7), None);
        assert_eq!(Packed::new(handle, &Block { position: 1 << 48, ..most }, 7), None);
        assert_eq!(Packed::new(handle, &Block { site: 1 << 24, ..most }, 7), None);
        assert_eq!(Packed::new(handle, &Block { time_ns: 7 + (1 << 52), ..most }, 7), None);
        assert_eq!(Packed::new(handle, &Block { time_ns: 6, ..most }, 7), None);
    }

    proptest! {
        /// Every field round-trips; the time is at most one tick early.
        #[test]
        fn blocks_that_fit_round_trip(
            handle in 0_u64..1 << 48, size in 0_u64..1 << 36, position in 0_u64..1 << 48,
            time in 0_u64..1 << 52, site in 0_u32..1 << 24, connection in any::<u32>(),
            origin_ns in 0_u64..1 << 60,
        ) {
            let block = Block { size, time_ns: origin_ns + time, position, site, connection };
            let packed = Packed::new(handle, &block, origin_ns).unwrap();
            let back = packed.block(origin_ns);
            prop_assert_eq!(packed.handle(), handle);
            prop_assert!((0..1 << TICK_BITS).contains(&(block.time_ns - back.time_ns)));
            prop_assert_eq!(Block { time_ns: block.time_ns, ..back }, block);
        }
    }
}
