//! The bytes of a tape: a header, then blocks.
//!
//! A tape has several streams: for each pipeline the collector's and the reporter's, which grow at the same time. A
//! block continues one stream. It is compressed together with the earlier blocks of its stream, and can be unpacked as
//! soon as it is there: the tape of a process that was killed is readable up to its last block. Pure; what a stream
//! contains is not defined here.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The first bytes of every tape.
const MAGIC: [u8; 8] = *b"LEAKTAPE";
/// The version of the format, and of what streams contain. A change of a question or of an answer's type is a new
/// version; a question that is asked with `ask_since` is none.
pub(super) const VERSION: u32 = 1;
/// Bytes of the header: the first bytes, and the version.
pub(super) const HEADER: usize = 12;
/// Bytes of a block's head: its stream, its length unpacked and packed, the checksum of its content, and that of the
/// head: a reader of another stream skips the content.
pub(super) const HEAD: usize = 20;
/// Number of the stream of the block that ends a complete tape.
pub(super) const END: u32 = u32::MAX;
/// Maximum number of unpacked bytes of a block; more would not be a block of ours.
pub(super) const MAX_BLOCK: usize = 1 << 20;

/// Why a file is no tape that this program can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotATape {
    /// It begins with other bytes.
    Other,
    /// Its version, which is newer than ours.
    Newer(u32),
    /// Its version, which this program no longer reads.
    Older(u32),
}

/// The header of a new tape.
pub(super) fn header() -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let (magic, version) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    version.copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// Checks a header.
pub(super) fn check_header(header: &[u8]) -> Result<(), NotATape> {
    let version = header.strip_prefix(&MAGIC).and_then(|rest| rest.first_chunk());
    match version.map(|version| u32::from_le_bytes(*version)) {
        None => Err(NotATape::Other),
        Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => Err(NotATape::Newer(newer)),
        Some(older) => Err(NotATape::Older(older)),
    }
}

/// The head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of its stream, or [`END`].
    pub(super) stream: u32,
    /// Its length unpacked, in bytes.
    pub(super) unpacked: usize,
    /// Its length, in bytes, without its head.
    pub(super) packed: usize,
    checksum: u32,
}

impl Head {
    /// Reads a head; `None` if a head of ours never looks like this.
    pub(super) fn parse(bytes: &[u8; HEAD]) -> Option<Self> {
        let mut words = bytes.chunks_exact(4).filter_map(|word| word.first_chunk());
        let mut next = || words.next().map(|word| u32::from_le_bytes(*word));
        let (stream, unpacked, packed, checksum) = (next()?, next()?, next()?, next()?);
        let sound = next()? == crc32fast::hash(bytes.get(..HEAD - 4)?);
        let (unpacked, packed) = (usize::try_from(unpacked).ok()?, usize::try_from(packed).ok()?);
        // Incompressible bytes grow a little.
        let possible = sound && unpacked <= MAX_BLOCK && packed <= 2 * MAX_BLOCK;
        possible.then_some(Self { stream, unpacked, packed, checksum })
    }

    /// Whether the block's content is what was written.
    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        crc32fast::hash(payload) == self.checksum
    }
}

/// The head of a block with this content.
fn head(stream: u32, unpacked: usize, payload: &[u8]) -> [u8; HEAD] {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    let mut head = [0; HEAD];
    let checksum = crc32fast::hash(payload).to_le_bytes();
    let words = [stream.to_le_bytes(), length(unpacked), length(payload.len()), checksum];
    head.chunks_exact_mut(4).zip(words).for_each(|(to, word)| to.copy_from_slice(&word));
    if let Some((words, own)) = head.split_last_chunk_mut() {
        *own = crc32fast::hash(words).to_le_bytes();
    }
    head
}

/// The block that ends a complete tape.
pub(super) fn end() -> [u8; HEAD] {
    head(END, 0, &[])
}

/// Packs the blocks of one stream.
pub(super) struct Packer {
    stream: u32,
    compress: Compress,
}

impl Packer {
    /// For a stream without blocks.
    pub(super) fn new(stream: u32) -> Self {
        // A collector's records arrive by the million; a reporter's names are few, and alike.
        let level =
            if stream.is_multiple_of(2) { Compression::fast() } else { Compression::default() };
        Self { stream, compress: Compress::new(level, false) }
    }

    /// The next block, with its head. `bytes` has at most [`MAX_BLOCK`] bytes.
    pub(super) fn pack(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut payload = Vec::with_capacity(bytes.len() / 2 + 64);
        let mut rest = bytes;
        loop {
            let before = self.compress.total_in();
            let outcome = self.compress.compress_vec(rest, &mut payload, FlushCompress::Sync);
            let taken = usize::try_from(self.compress.total_in() - before).unwrap_or(rest.len());
            rest = rest.get(taken..).unwrap_or_default();
            // With room left everything has been written; an error cannot happen in memory.
            if rest.is_empty() && payload.len() < payload.capacity() || outcome.is_err() {
                break;
            }
            payload.reserve(payload.capacity().max(64));
        }
        let mut block = head(self.stream, bytes.len(), &payload).to_vec();
        block.append(&mut payload);
        block
    }
}

/// Unpacks the blocks of one stream.
pub(super) struct Unpacker {
    decompress: Decompress,
}

impl Unpacker {
    /// For the first block.
    pub(super) fn new() -> Self {
        Self { decompress: Decompress::new(false) }
    }

    /// Appends the content of the next block to `bytes`; `None` if it is malformed.
    pub(super) fn unpack(
        &mut self,
        head: &Head,
        payload: &[u8],
        bytes: &mut Vec<u8>,
    ) -> Option<()> {
        let mut unpacked = Vec::with_capacity(head.unpacked);
        let mut rest = payload;
        while !rest.is_empty() {
            let (taken, made) = (self.decompress.total_in(), unpacked.len());
            // One byte of room beyond the end: the decoder then also reads the end of the block.
            unpacked.reserve((head.unpacked + 1).saturating_sub(unpacked.len()).max(1));
            let outcome =
                self.decompress.decompress_vec(rest, &mut unpacked, FlushDecompress::Sync).ok()?;
            let taken = usize::try_from(self.decompress.total_in() - taken).ok()?;
            let idle = taken == 0 && unpacked.len() == made;
            if unpacked.len() > head.unpacked || outcome == Status::StreamEnd || idle {
                return None;
            }
            rest = rest.get(taken..)?;
        }
        (unpacked.len() == head.unpacked).then(|| bytes.append(&mut unpacked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(block: &[u8]) -> (Head, &[u8]) {
        let (head, payload) = block.split_first_chunk().unwrap();
        (Head::parse(head).unwrap(), payload)
    }

    #[test]
    fn blocks_of_two_streams_are_unpacked_in_their_order() {
        let mut state = 1_u32;
        let mut byte = |at: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Some blocks are hard to compress, others easy.
            state.to_le_bytes()[3] >> (at % 9).min(7)
        };
        let texts: Vec<Vec<u8>> = (0..40_usize)
            .map(|at| {
                let length = if at == 7 { MAX_BLOCK } else { at * 97 };
                (0..length).map(|_| byte(at)).collect()
            })
            .collect();
        let (mut packers, mut unpackers) =
            ([Packer::new(0), Packer::new(1)], [Unpacker::new(), Unpacker::new()]);
        for (at, text) in texts.iter().enumerate() {
            let block = packers[at % 2].pack(text);
            let (head, payload) = parts(&block);
            assert_eq!((head.stream as usize, head.unpacked), (at % 2, text.len()));
            assert!(head.fits(payload) && head.packed == payload.len());
            let mut bytes = Vec::new();
            unpackers[at % 2].unpack(&head, payload, &mut bytes).unwrap();
            assert!(bytes == *text, "{at}");
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let block = Packer::new(3).pack(b"some bytes, some bytes");
        for at in 0..block.len() {
            let mut wrong = block.clone();
            wrong[at] ^= 1;
            let Some(head) = Head::parse(wrong.first_chunk().unwrap()) else { continue };
            assert!(!head.fits(&wrong[HEAD..]), "{at}");
        }
    }

    #[test]
    fn a_block_that_unpacks_to_another_length_is_refused() {
        let block = Packer::new(0).pack(&[7; 4096]);
        let (head, payload) = parts(&block);
        for unpacked in [0, 1, 4095, 4097, MAX_BLOCK] {
            let head = Head { unpacked, ..head };
            assert!(
                Unpacker::new().unpack(&head, payload, &mut Vec::new()).is_none(),
                "{unpacked}"
            );
        }
    }

    #[test]
    fn headers_of_other_files_and_versions_are_refused() {
        assert_eq!(check_header(&header()), Ok(()));
        assert_eq!(check_header(b"\x7fELF\x02\x01\x01\0\0\0\0\0"), Err(NotATape::Other));
        assert_eq!(check_header(&header()[..11]), Err(NotATape::Other));
        assert_eq!(check_header(b"LEAKTAPE\x02\0\0\0"), Err(NotATape::Newer(2)));
        assert_eq!(check_header(b"LEAKTAPE\0\0\0\0"), Err(NotATape::Older(0)));
    }
}
