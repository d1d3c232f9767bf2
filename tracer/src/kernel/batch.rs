//! Batch operations of `bpf(2)`: one system call for thousands of entries.

use std::{io, os::fd::BorrowedFd};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::syscall::{bpf, number};

/// `BPF_MAP_DELETE_ELEM`.
const DELETE: libc::c_long = 3;
/// `BPF_MAP_LOOKUP_ELEM`.
const LOOKUP_ONE: libc::c_long = 1;
/// `BPF_MAP_UPDATE_ELEM`.
const UPDATE: libc::c_long = 2;
/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;
/// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`.
const TAKE_ONE: libc::c_long = 21;
/// `BPF_MAP_LOOKUP_BATCH`, for arrays and hash maps since 5.6.
const LOOKUP: libc::c_long = 24;
/// `BPF_MAP_LOOKUP_AND_DELETE_BATCH`, for hash maps since 5.6. Copies and deletes a bucket's entries
/// under the bucket's lock: either this call or a program's deletion gets an entry, never both.
const LOOKUP_AND_DELETE: libc::c_long = 25;
/// `BPF_MAP_UPDATE_BATCH`, for arrays since 5.6.
const UPDATE_MANY: libc::c_long = 26;
/// Entries read or drained per system call: more than one bucket of a map can hold.
const BATCH: usize = 1 << 14;
/// Entries zeroed per system call, to keep the buffer of zeros small.
const CLEARED_AT_ONCE: usize = 1 << 12;

/// The `batch` member of `union bpf_attr`.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The member for `BPF_MAP_LOOKUP_ELEM`.
#[repr(C)]
struct ElementAttributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Takes all entries out of a hash map, unless programs insert faster than the passes remove. Appends them to `taken`.
pub(super) fn take_all<K, V>(
    map: BorrowedFd<'_>,
    buffer: &mut Buffer<K, V>,
    taken: &mut Vec<(K, V)>,
) -> io::Result<()>
where
    K: FromBytes + IntoBytes + Copy,
    V: FromBytes + IntoBytes + Copy,
{
    pass(map, LOOKUP_AND_DELETE, buffer, taken)
}

/// Reads all entries of a hash map that exist throughout the call. Appends them to `seen`.
pub(super) fn read_all<K, V>(
    map: BorrowedFd<'_>,
    buffer: &mut Buffer<K, V>,
    seen: &mut Vec<(K, V)>,
) -> io::Result<()>
where
    K: FromBytes + IntoBytes + Copy,
    V: FromBytes + IntoBytes + Copy,
{
    pass(map, LOOKUP, buffer, seen)
}

fn pass<K, V>(
    map: BorrowedFd<'_>,
    command: libc::c_long,
    buffer: &mut Buffer<K, V>,
    taken: &mut Vec<(K, V)>,
) -> io::Result<()>
where
    K: FromBytes + IntoBytes + Copy,
    V: FromBytes + IntoBytes + Copy,
{
    let mut cursor = 0_u32;
    let mut first = true;
    loop {
        let (count, done) =
            step(map, command, &mut cursor, first, &mut buffer.keys, &mut buffer.values)?;
        first = false;
        taken.extend(buffer.keys.iter().copied().zip(buffer.values.iter().copied()).take(count));
        if done {
            return Ok(());
        }
    }
}

/// Reads the first `entries` of an array.
pub(super) fn read_first<V>(
    map: BorrowedFd<'_>,
    entries: usize,
    values: &mut Vec<V>,
) -> io::Result<()>
where
    V: FromBytes + IntoBytes + Clone,
{
    values.clear();
    values.resize(entries, V::new_zeroed());
    let mut keys = vec![0_u32; entries];
    let mut cursor = 0_u32;
    let mut at = 0;
    while at < entries {
        let (Some(keys), Some(rest)) = (keys.get_mut(at..), values.get_mut(at..)) else {
            break;
        };
        let (count, done) = step(map, LOOKUP, &mut cursor, at == 0, keys, rest)?;
        at += count;
        if done || count == 0 {
            break;
        }
    }
    Ok(())
}

/// Writes zeros over the first `entries` of an array of `V`.
pub(super) fn clear<V>(map: BorrowedFd<'_>, entries: u32) -> io::Result<()>
where
    V: FromBytes + IntoBytes + Clone,
{
    clear_some::<V>(map, &mut (0..entries).collect::<Vec<u32>>())
}

/// The same for the entries at these indexes.
pub(super) fn clear_some<V>(map: BorrowedFd<'_>, keys: &mut [u32]) -> io::Result<()>
where
    V: FromBytes + IntoBytes + Clone,
{
    let mut zeros = vec![V::new_zeroed(); keys.len().min(CLEARED_AT_ONCE)];
    for keys in keys.chunks_mut(CLEARED_AT_ONCE) {
        // There is no cursor: the keys say which.
        step(map, UPDATE_MANY, &mut 0, true, keys, &mut zeros)?;
    }
    Ok(())
}

/// Deletes one entry of a hash map if `matches` accepts its value: a program may have replaced it. Returns whether it
/// was deleted.
pub(super) fn remove_if<K, V>(
    map: BorrowedFd<'_>,
    key: &K,
    matches: impl Fn(&V) -> bool,
) -> io::Result<bool>
where
    K: IntoBytes,
    V: FromBytes + IntoBytes,
{
    let mut value = V::new_zeroed();
    let mut attributes = ElementAttributes {
        map: number(map),
        padding: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(&mut value) as u64,
        flags: 0,
    };
    // A key and a buffer for a value, of the sizes of the map. The same holds for all calls below.
    match bpf(TAKE_ONE, &mut attributes) {
        Ok(_) if matches(&value) => return Ok(true),
        Ok(_) => {
            attributes.flags = NO_EXIST;
            // Puts the other entry back, unless a program has inserted a third one by now.
            drop(bpf(UPDATE, &mut attributes));
            return Ok(false);
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(false),
        // Hash maps have this command since 5.14.
        Err(_) => {}
    }
    match bpf(LOOKUP_ONE, &mut attributes) {
        Ok(_) if !matches(&value) => return Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(false),
        outcome => outcome?,
    };
    // For this command, the fields after the key must be 0.
    attributes.value = 0;
    bpf(DELETE, &mut attributes).map(|_| true)
}

/// A buffer for one batch, reused between drains.
pub(super) struct Buffer<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: FromZeros + Clone, V: FromZeros + Clone> Buffer<K, V> {
    /// A buffer for the entries of one system call.
    pub(super) fn new() -> Self {
        Self { keys: vec![K::new_zeroed(); BATCH], values: vec![V::new_zeroed(); BATCH] }
    }
}

/// One batch operation: how many entries it returned, and whether it was the last.
fn step<K, V>(
    map: BorrowedFd<'_>,
    command: libc::c_long,
    cursor: &mut u32,
    first: bool,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, bool)>
where
    K: FromBytes + IntoBytes,
    V: FromBytes + IntoBytes,
{
    let mut attributes = BatchAttributes {
        in_batch: if first { 0 } else { std::ptr::from_mut(cursor) as u64 },
        out_batch: std::ptr::from_mut(cursor) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
        map_fd: number(map),
        elem_flags: 0,
        flags: 0,
    };
    // Keys and values are plain bytes, with space for `count` entries of the map's sizes.
    let outcome = bpf(command, &mut attributes);
    let count = attributes.count as usize;
    let Err(error) = outcome else { return Ok((count, false)) };
    match error.raw_os_error() {
        // The end of the map; `count` entries were still returned.
        Some(libc::ENOENT) => Ok((count, true)),
        _ => Err(error),
    }
}
