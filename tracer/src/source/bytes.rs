//! Lists of the programs' plain values, as bytes on a tape.
//!
//! Values keep the layout that they have in the kernel, which `tracer-common` defines; a tape's version covers it.

use std::{marker::PhantomData, net::IpAddr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use tracer_common::{
    connection::{INET, INET6, PATH},
    object::{Object, ObjectId, TEXT},
    record::{CONNECTED, Connected},
    state::{Key, Young},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::tape::{Redact, Redactor};

/// Pairs of plain values.
#[derive(Clone, Debug)]
pub struct Pairs<A, B>(pub Vec<(A, B)>);

impl<A, B> Default for Pairs<A, B> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Pairs without names.
macro_rules! plain_pairs {
    ($($first:ty, $second:ty;)+) => {
        $(impl Redact for Pairs<$first, $second> {
            fn redacted(&self, _: &mut Redactor) -> Self {
                self.clone()
            }
        })+
    };
}

plain_pairs! {
    Key, Young;
    ObjectId, u64;
}

/// What a tape has instead of a text.
const REDACTED: &[u8] = b"(redacted)";

impl Redact for Pairs<Key, Object> {
    /// The texts of objects are left out: they are names of hosts, for example. That an object has one stays: without, its
    /// label would be another field, whose name was never asked for and is not on the tape.
    fn redacted(&self, _: &mut Redactor) -> Self {
        let mut text = [0; TEXT];
        for (byte, letter) in text.iter_mut().zip(REDACTED) {
            *byte = *letter;
        }
        let without = |object: &Object| match object.text {
            [0, ..] => *object,
            _ => Object { text, ..*object },
        };
        Self(self.0.iter().map(|(key, object)| (*key, without(object))).collect())
    }
}

impl Redact for List {
    /// Records of connections have addresses.
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        let mut records = self.clone();
        records.for_each_mut(|record| {
            let is_one = u32::read_from_prefix(record).is_ok_and(|(kind, _)| kind == CONNECTED);
            if is_one && let Ok(connected) = Connected::read_from_bytes(record) {
                // A record of the same type has the same size.
                drop(without_addresses(connected, redactor).write_to(record));
            }
        });
        records
    }
}

fn without_addresses(record: Connected, redactor: &mut Redactor) -> Connected {
    let mut address = |bytes: [u8; 16]| {
        let [a, b, c, d, rest @ ..] = bytes;
        let ip = match record.family {
            INET => IpAddr::from([a, b, c, d]),
            INET6 => IpAddr::from(bytes),
            // What other families have in the first bytes is not known.
            _ => return [0; 16],
        };
        match redactor.ip(ip) {
            IpAddr::V6(six) => six.octets(),
            IpAddr::V4(four) => {
                let mut bytes = [0; 16];
                bytes
                    .iter_mut()
                    .zip(four.octets().into_iter().chain(rest))
                    .for_each(|(to, byte)| *to = byte);
                bytes
            }
        }
    };
    let (local, peer) = (address(record.local), address(record.peer));
    let length = usize::try_from(record.path_length).unwrap_or(0).min(PATH);
    let mut path = [0; PATH];
    let mut path_length = 0;
    // As in reports: an abstract name begins with `@`, and another one ends at the first zero.
    if let Some((first, rest)) = record.path.get(..length).and_then(<[u8]>::split_first) {
        let (mark, bytes) = if *first == 0 { ("@", rest) } else { ("", record.path.as_slice()) };
        let bytes = if mark.is_empty() {
            bytes.split(|byte| *byte == 0).next().unwrap_or_default()
        } else {
            bytes
        };
        let name = format!("{mark}{}", String::from_utf8_lossy(bytes));
        let name = redactor.socket_name(&name);
        path.iter_mut()
            .zip(name.bytes())
            .for_each(|(to, byte)| *to = if byte == b'@' { 0 } else { byte });
        path_length = u32::try_from(name.len()).unwrap_or(0);
    }
    Connected { local, peer, path, path_length, ..record }
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
    use tracer_common::state::Died;

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
    fn connected(family: u16, local: [u8; 16], peer: [u8; 16], name: &[u8]) -> Connected {
        let mut path = [0; PATH];
        path[..name.len()].copy_from_slice(name);
        Connected {
            record: CONNECTED,
            number: 1,
            pid: 2,
            fd: 3,
            position: 4,
            time_ns: 5,
            socket: 6,
            inode: 7,
            site: 8,
            peer_pid: 9,
            family,
            local_port: 80,
            peer_port: 4711,
            protocol: 6,
            role: 1,
            local,
            peer,
            path_length: u32::try_from(name.len()).unwrap(),
            path,
        }
    }

    fn address(bytes: &[u8]) -> [u8; 16] {
        let mut address = [0; 16];
        address[..bytes.len()].copy_from_slice(bytes);
        address
    }

    #[test]
    fn records_of_connections_lose_their_addresses_and_nothing_else() {
        let own = address(&[127, 0, 0, 1]);
        let four = connected(INET, own, address(&[10, 1, 2, 3]), b"");
        let unix = connected(1, [0; 16], [0; 16], b"/run/acme");
        let other = [&[9_u8, 9, 9, 9][..], &[7; 60]].concat();
        let mut list = List::default();
        for record in [four.as_bytes(), unix.as_bytes(), &other, four.as_bytes()] {
            list.push(record);
        }
        let redacted = list.redacted(&mut Redactor::default());
        let records: Vec<&[u8]> = redacted.iter().collect();
        let first = Connected::read_from_bytes(records[0]).unwrap();
        assert_eq!(first, Connected { peer: address(&[192, 0, 2, 1]), ..four });
        assert_eq!(records[3], records[0]);
        assert_eq!(records[2], other);
        let name = b"/redacted/socket-1";
        let second = Connected::read_from_bytes(records[1]).unwrap();
        assert_eq!(second, connected(1, [0; 16], [0; 16], name));
    }

    #[test]
    fn texts_of_objects_are_left_out() {
        let object = Object {
            time_ns: 1,
            word: 2,
            owner: 3,
            making: 4,
            within: 5,
            site: 6,
            fd: 7,
            text: [b'x'; TEXT],
        };
        let key = Key { pid: 7, kind: 1, handle: 8 };
        let without = Object { text: [0; TEXT], ..object };
        let both = Pairs(vec![(key, object), (key, without)]);
        let Pairs(all) = both.redacted(&mut Redactor::default());
        assert!(all[0].1.text.starts_with(b"(redacted)\0"));
        assert_eq!((all[0].0, all[0].1.fd), (key, 7));
        assert_eq!(all[1].1.as_bytes(), without.as_bytes());
    }
}
