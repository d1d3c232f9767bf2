//! Lists of the programs' plain values, as bytes on a tape.
//!
//! Values keep the layout that they have in the kernel, which `tracer-common` defines; a tape's version covers it.

use std::marker::PhantomData;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Pairs of plain values.
#[derive(Clone, Debug)]
pub struct Pairs<A, B>(pub Vec<(A, B)>);

impl<A, B> Default for Pairs<A, B> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<A: IntoBytes + Immutable, B: IntoBytes + Immutable> Serialize for Pairs<A, B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.len() * (size_of::<A>() + size_of::<B>()));
        for (one, other) in &self.0 {
            bytes.extend_from_slice(one.as_bytes());
            bytes.extend_from_slice(other.as_bytes());
        }
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de, A: FromBytes, B: FromBytes> Deserialize<'de> for Pairs<A, B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_bytes(Bytes(PhantomData))?;
        let mut pairs = Vec::with_capacity(bytes.len() / (size_of::<A>() + size_of::<B>()).max(1));
        let mut rest = bytes;
        while !rest.is_empty() {
            let short = |_| D::Error::custom("a value is cut");
            let (one, tail) = A::read_from_prefix(rest).map_err(short)?;
            let short = |_| D::Error::custom("a value is cut");
            let (other, tail) = B::read_from_prefix(tail).map_err(short)?;
            pairs.push((one, other));
            rest = tail;
        }
        Ok(Self(pairs))
    }
}

/// Pieces of bytes of different lengths.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// Each with its length before it, 4 bytes.
    bytes: Vec<u8>,
}

impl List {
    /// Appends a piece.
    pub fn push(&mut self, piece: &[u8]) {
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(piece);
    }

    /// Bytes of all, with their lengths.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no piece.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The pieces in order. Their starts are aligned as records are.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (piece, tail) = tail.split_at_checked(length)?;
            rest = tail;
            Some(piece)
        })
    }

    /// The pieces, to be changed in place.
    pub fn for_each_mut(&mut self, mut change: impl FnMut(&mut [u8])) {
        let mut rest = self.bytes.as_mut_slice();
        while let Some((length, tail)) = rest.split_first_chunk_mut() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let Some((piece, tail)) = tail.split_at_mut_checked(length) else { return };
            change(piece);
            rest = tail;
        }
    }
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_bytes(Bytes(PhantomData))?;
        Ok(Self { bytes: bytes.to_vec() })
    }
}

/// Takes bytes as they are on the tape.
struct Bytes<'a>(PhantomData<&'a ()>);

impl<'a> Visitor<'a> for Bytes<'a> {
    type Value = &'a [u8];

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'a [u8]) -> Result<Self::Value, E> {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::state::{Died, Key};

    use super::*;

    #[test]
    fn pairs_keep_their_bytes_and_a_cut_one_is_refused() {
        let key = |handle| Key { pid: 7, kind: 1, handle };
        let all = Pairs(vec![(key(1), 5_u64), (key(u64::MAX), 6)]);
        let mut bytes = postcard::to_stdvec(&all).unwrap();
        let read: Pairs<Key, u64> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(read.0, all.0);
        bytes.pop();
        bytes[0] -= 1;
        assert!(postcard::from_bytes::<Pairs<Key, u64>>(&bytes).is_err());
        assert!(postcard::from_bytes::<Pairs<Key, Died>>(&bytes).is_err());
    }

    #[test]
    fn pieces_keep_their_order_and_lengths() {
        let mut list = List::default();
        for piece in [&b"one"[..], b"", b"three"] {
            list.push(piece);
        }
        list.for_each_mut(<[u8]>::make_ascii_uppercase);
        let bytes = postcard::to_stdvec(&list).unwrap();
        let read: List = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), [&b"ONE"[..], b"", b"THREE"]);
        assert!(List { bytes: vec![9, 0, 0, 0, 1] }.iter().next().is_none());
    }
}
