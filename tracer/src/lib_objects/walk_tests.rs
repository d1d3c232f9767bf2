//! Tests of the walk: whose blocks are whose, in memory made by hand.

use std::collections::BTreeMap;

use super::*;
use crate::packs::Ends;

const LAYOUT: Queue = Queue {
    slots: 4,
    slot_bytes: 32,
    next: 128,
    begin: 8,
    storage: 24,
    inline: 1,
    content: 8,
    ends: Ends { queues: 8, read: 24, written: 32, peer: 40, reader: 48 },
};

const STRUCTURE: u32 = 1;
const PIECE: u32 = 2;
const CONTENT: u32 = 3;
const SOCKET: u32 = 9;
const CONTEXT: u32 = 8;

/// An owner, how many blocks it has of each call site, and its messages.
type Sums = (u64, Vec<(u32, u64)>, Option<Messages>);

/// Memory made by hand: words by address. Every address below the highest has memory.
#[derive(Default)]
struct Words {
    words: BTreeMap<u64, u64>,
    parts: Vec<Part>,
}

impl Memory for Words {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        for (at, bytes) in buffer.chunks_mut(8).enumerate() {
            let word = self.words.get(&(address + at as u64 * 8)).copied().unwrap_or(0);
            bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        }
        buffer.len()
    }
}

impl Words {
    fn part(&mut self, address: u64, size: u64, site: u32, role: Role) -> &mut Self {
        self.parts.push(Part { address, size, site, role });
        self
    }

    fn structure(&mut self, address: u64, pointers: &[u64]) -> &mut Self {
        for (at, pointer) in pointers.iter().enumerate() {
            self.words.insert(address + at as u64 * 8, *pointer);
        }
        self.part(address, 64, STRUCTURE, Role::Structure)
    }

    fn socket(&mut self, address: u64, pointers: &[u64]) -> &mut Self {
        self.structure(address, pointers).parts.pop();
        self.part(address, 64, SOCKET, Role::Owner(20))
    }

    /// A queue with one piece: messages from one slot up to another, each with a block for its content.
    fn queue(&mut self, address: u64, piece: u64, slots: std::ops::Range<u64>) -> &mut Self {
        self.structure(address, &[0, piece, slots.start, piece, slots.end, piece, 0, 0]);
        self.part(piece, 136, PIECE, Role::Piece);
        for slot in 0..4 {
            let content = piece + 0x1000 + slot * 0x100;
            self.part(content, 48, CONTENT, Role::Structure);
            // What was taken out leaves its pointers behind.
            self.words.insert(piece + slot * 32 + 8, content);
            self.words.insert(piece + slot * 32 + 24, 2);
        }
        self
    }

    fn sums(&self) -> Vec<Sums> {
        let all = belongings(self, self.parts.clone(), Some(LAYOUT));
        let counts = |one: &Belongings| {
            one.blocks.iter().map(|(site, sum)| (*site, sum.count)).collect::<Vec<_>>()
        };
        let mut all: Vec<_> =
            all.iter().map(|one| (one.owner, counts(one), one.messages)).collect();
        all.sort_by_key(|one| one.0);
        all
    }
}

/// A socket at 0x100000 and the library's end of its connection: three messages wait to be received, of four.
fn receiver() -> Words {
    let mut memory = Words::default();
    memory
        .socket(0x10_0000, &[0x10_1000])
        .structure(0x10_1000, &[0, 0x10_2000, 0x10_3000, 1, 0, 0x10_4000, 0x10_0020])
        .structure(0x10_4000, &[0, 0x10_3000, 0x10_2000, 0, 4, 0x10_1000, 0x10_5000])
        .structure(0x10_5000, &[])
        .queue(0x10_2000, 0x20_0000, 0..3)
        .queue(0x10_3000, 0x30_0000, 2..2);
    memory
}

#[test]
fn what_waits_in_a_queue_belongs_to_the_object_that_reads_it() {
    let messages = Messages { waiting: 3, received: 1, unsent: 0 };
    // Two ends, their session and two queues; a piece for each; the contents of three messages.
    let blocks = vec![(STRUCTURE, 5), (PIECE, 2), (CONTENT, 3)];
    assert_eq!(receiver().sums(), [(0x10_0000, blocks, Some(messages))]);
}

#[test]
fn an_end_that_its_object_has_not_taken_yet_is_found_through_other_blocks() {
    let mut memory = receiver();
    memory.words.insert(0x10_1000 + 48, 0);
    let messages = Messages { waiting: 3, received: 1, unsent: 0 };
    assert_eq!(memory.sums()[0].2, Some(messages));
}

#[test]
fn messages_that_the_library_has_not_taken_wait_to_be_sent() {
    let mut memory = receiver();
    // The socket has written 7, of which the library has taken 2.
    memory.words.insert(0x10_1000 + 32, 7);
    memory.words.insert(0x10_4000 + 24, 2);
    let messages = Messages { waiting: 3, received: 1, unsent: 5 };
    assert_eq!(memory.sums()[0].2, Some(messages));
}

#[test]
fn ends_that_disagree_are_none() {
    let mut memory = receiver();
    memory.words.insert(0x10_4000 + 40, 0x10_5000);
    assert_eq!(memory.sums()[0].2, None);
}

#[test]
fn a_queue_whose_pieces_are_not_linked_is_none() {
    let mut memory = receiver();
    memory.words.insert(0x10_2000 + 24, 0x50_0000);
    memory.part(0x50_0000, 136, PIECE, Role::Piece);
    let (_, blocks, _) = &memory.sums()[0];
    // Only the other queue's piece.
    assert_eq!(blocks, &[(STRUCTURE, 5), (PIECE, 1)]);
}

#[test]
fn the_nearest_owner_has_a_block_and_what_two_share_is_nobodys() {
    let mut memory = Words::default();
    memory
        .socket(0x1000, &[0x3000, 0x4000])
        .socket(0x2000, &[0x4000, 0x5000])
        // Two pointers away from the first, three from the second.
        .structure(0x3000, &[0x6000])
        .structure(0x4000, &[0x7000])
        .structure(0x5000, &[0x8000])
        .structure(0x8000, &[0x6010])
        .structure(0x6000, &[])
        .structure(0x7000, &[]);
    let one = |owner, count| (owner, vec![(STRUCTURE, count)], None);
    assert_eq!(memory.sums(), [one(0x1000, 2), one(0x2000, 2)]);
}

#[test]
fn what_is_near_to_an_object_with_a_short_reach_is_no_way_to_others() {
    let mut memory = Words::default();
    memory
        .socket(0x1000, &[0x3000])
        // As near to the context.
        .structure(0x3000, &[0x4000])
        .structure(0x4000, &[])
        .structure(0x2000, &[0x3000]);
    memory.parts.pop();
    memory.part(0x2000, 64, CONTEXT, Role::Owner(1));
    let found = memory.sums();
    assert_eq!(found, [(0x1000, vec![], None), (0x2000, vec![(STRUCTURE, 1)], None)]);
}

#[test]
fn objects_and_data_lead_nowhere() {
    let mut memory = Words::default();
    memory.socket(0x1000, &[0x2000, 0x3000]).structure(0x2000, &[0x4000]).structure(0x4000, &[]);
    memory.parts[1].role = Role::Opaque;
    memory.socket(0x3000, &[]);
    let found = memory.sums();
    assert_eq!(found, [(0x1000, vec![(STRUCTURE, 1)], None), (0x3000, vec![], None)]);
}
