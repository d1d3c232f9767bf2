//! A Rust program: boxes, vectors, strings and reference counts, half of each leaked. Its work does not depend on the
//! allocator; printing its truth allocates nothing.

use std::{
    cell::Cell,
    fmt::Write as _,
    fs::File,
    hint::black_box,
    io::{Cursor, Read, Write as _},
    mem::{ManuallyDrop, forget},
    os::fd::FromRawFd,
    sync::Arc,
};

/// Blocks that one function acquired and released.
struct Tally {
    site: &'static str,
    acquired: Cell<[u64; 2]>,
    released: Cell<[u64; 2]>,
}

impl Tally {
    const fn new(site: &'static str) -> Self {
        Self { site, acquired: Cell::new([0; 2]), released: Cell::new([0; 2]) }
    }

    fn took(&self, bytes: usize) {
        let [count, sum] = self.acquired.get();
        self.acquired.set([count + 1, sum + bytes as u64]);
    }

    fn gave(&self, bytes: usize) {
        let [count, sum] = self.released.get();
        self.released.set([count + 1, sum + bytes as u64]);
    }
}

#[repr(align(128))]
struct Line {
    _bytes: [u8; 256],
}

/// Two counts precede the counted value.
const ARC_HEADER: usize = 2 * size_of::<usize>();

#[inline(never)]
fn boxed(number: u64) -> Box<[u64; 8]> {
    black_box(Box::new([number; 8]))
}

#[inline(never)]
fn with_room(bytes: usize) -> Vec<u8> {
    black_box(Vec::with_capacity(bytes))
}

#[inline(never)]
fn zeroed(bytes: usize) -> Vec<u8> {
    black_box(vec![0; black_box(bytes)])
}

#[inline(never)]
fn aligned(number: u8) -> Box<Line> {
    black_box(Box::new(Line { _bytes: [number; 256] }))
}

#[inline(never)]
fn counted(number: u64) -> Arc<[u64; 5]> {
    black_box(Arc::new([number; 5]))
}

#[inline(never)]
fn text(tally: &Tally, number: u64) -> String {
    let mut text = String::with_capacity(10);
    tally.took(10);
    for _ in 0..number {
        let before = text.capacity();
        write!(text, "{number} ").unwrap();
        grew(tally, before, text.capacity());
    }
    black_box(text)
}

#[inline(never)]
fn grown(tally: &Tally, length: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    for number in 0..length {
        let before = numbers.capacity();
        numbers.push(number);
        grew(tally, before * 8, numbers.capacity() * 8);
    }
    black_box(numbers)
}

fn grew(tally: &Tally, before: usize, after: usize) {
    if before == after {
        return;
    }
    if before != 0 {
        tally.gave(before);
    }
    tally.took(after);
}

/// Leaks every other one, releases the rest.
fn hold<T>(tally: &Tally, number: u64, bytes: usize, one: T) {
    if number.is_multiple_of(2) {
        forget(one);
    } else {
        drop(one);
        tally.gave(bytes);
    }
}

fn stream(number: i32) -> ManuallyDrop<File> {
    // SAFETY: the descriptor is open for as long as the program runs, and is never closed.
    ManuallyDrop::new(unsafe { File::from_raw_fd(number) })
}

fn await_word(word: &[u8]) {
    let mut line = [0_u8; 16];
    let mut length = 0;
    while length < line.len() && stream(0).read_exact(&mut line[length..=length]).is_ok() {
        if line[length] == b'\n' {
            if &line[..length] == word {
                return;
            }
            length = 0;
        } else {
            length += 1;
        }
    }
    std::process::exit(3);
}

fn say(into: &mut Cursor<&mut [u8]>, tally: &Tally) {
    let [taken, taken_bytes] = tally.acquired.get();
    let [given, given_bytes] = tally.released.get();
    write!(
        into,
        "\"{}\":{{\"kind\":\"heap\",\"outstanding_count\":{},\"outstanding_bytes\":{},\
         \"acquired_count\":{taken},\"acquired_bytes\":{taken_bytes},\
         \"released_count\":{given},\"released_bytes\":{given_bytes}}}",
        tally.site,
        taken - given,
        taken_bytes - given_bytes,
    )
    .unwrap();
}

/// The whole program.
pub fn main() {
    let tallies =
        ["boxed", "with_room", "zeroed", "aligned", "counted", "text", "grown"].map(Tally::new);
    let [boxes, rooms, zeros, lines, counts, texts, growing] = &tallies;
    stream(1).write_all(b"ready\n").unwrap();
    await_word(b"go");
    for number in 1..=200_u64 {
        let bytes = usize::try_from(number).unwrap();
        boxes.took(64);
        hold(boxes, number, 64, boxed(number));
        rooms.took(1000);
        hold(rooms, number, 1000, with_room(1000));
        zeros.took(3 * bytes);
        hold(zeros, number, 3 * bytes, zeroed(3 * bytes));
        lines.took(256);
        hold(lines, number, 256, aligned(1));
        counts.took(ARC_HEADER + 40);
        hold(counts, number, ARC_HEADER + 40, counted(number));
        let one = text(texts, number);
        hold(texts, number, one.capacity(), one);
        let one = grown(growing, number);
        hold(growing, number, one.capacity() * 8, one);
    }
    let mut room = [0; 4096];
    let mut truth = Cursor::new(&mut room[..]);
    for (tally, start) in tallies.iter().zip(["{\"sites\":{", ",", ",", ",", ",", ",", ","]) {
        truth.write_all(start.as_bytes()).unwrap();
        say(&mut truth, tally);
    }
    // Prints sums, so that the test compares the report's sums: these tallies cover all allocations.
    truth.write_all(b"},\"totals\":{},\"failed_acquires\":0,\"unknown_frees\":0}\n").unwrap();
    let length = usize::try_from(truth.position()).unwrap();
    stream(1).write_all(&room[..length]).unwrap();
    await_word(b"exit");
}
