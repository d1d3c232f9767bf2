//! Which library object owns each block that the library has acquired by itself: the one from which the fewest pointers lead
//! to it. Also how many messages wait in an object's queues.
//!
//! Takes the blocks of one library in one process, and the process's memory; passes on sums by owner. It reads memory and
//! changes nothing: the process runs meanwhile, so what does not agree with itself is left out. Knows no ledger and no clock.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{heap::Memory, ledger::Sum, packs::Queue};

/// Bytes of a block that are searched for pointers: the structures of libraries are smaller, and what is larger is data.
const SEARCHED_BYTES: usize = 1 << 16;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// An object that owns what it leads to, up to this many pointers away.
    Owner(u8),
    /// A structure of the library's.
    Structure,
    /// A piece of a queue.
    Piece,
    /// Data, or an object of its own: no pointer in it is followed.
    Opaque,
}

/// A block of the library's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) address: u64,
    pub(crate) size: u64,
    /// Number of its call site.
    pub(crate) site: u32,
    pub(crate) role: Role,
}

/// Messages in the queues of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// Messages that wait to be received by the program.
    pub waiting: u64,
    /// Messages that were taken out to be received so far, over the connections that are there.
    pub received: u64,
    /// Messages of the program that the library has not begun to send.
    pub unsent: u64,
}

/// What belongs to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Belongings {
    /// The object's address.
    pub(crate) owner: u64,
    /// Number of the object's call site.
    pub(crate) site: u32,
    /// The blocks by number of their call site.
    pub(crate) blocks: BTreeMap<u32, Sum>,
    /// Its messages; `None` without queues whose layout is known.
    pub(crate) messages: Option<Messages>,
}

/// To whom a block belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// To the owner at this index.
    Of(usize),
    /// As many pointers lead to it from several owners.
    Shared,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
struct End {
    queues: [u64; 2],
    read: u64,
    written: u64,
    peer: u64,
    reader: u64,
}

struct Walk<'a, M> {
    memory: &'a M,
    /// By address.
    parts: &'a [Part],
    queue: Option<Queue>,
    /// By index of the part: the owner, and the number of pointers.
    found: Vec<Option<(Found, u8)>>,
    /// By address.
    ends: BTreeMap<u64, End>,
}

/// What belongs to each owner among the parts of a library, most bytes first.
pub(crate) fn belongings(
    memory: &impl Memory,
    mut parts: Vec<Part>,
    queue: Option<Queue>,
) -> Vec<Belongings> {
    parts.sort_unstable_by_key(|part| part.address);
    parts.dedup_by_key(|part| part.address);
    let found = vec![None; parts.len()];
    let mut walk = Walk { memory, parts: &parts, queue, found, ends: BTreeMap::new() };
    walk.run();
    let mut all = walk.sums();
    all.sort_by_key(|one| std::cmp::Reverse(one.blocks.values().map(|sum| sum.bytes).sum::<u64>()));
    all
}

impl<M: Memory> Walk<'_, M> {
    fn part(&self, at: usize) -> Option<&Part> {
        self.parts.get(at)
    }

    /// The part that contains an address.
    fn containing(&self, address: u64) -> Option<usize> {
        let at = self.parts.partition_point(|part| part.address <= address).checked_sub(1)?;
        let part = self.part(at)?;
        (address - part.address < part.size.max(1)).then_some(at)
    }

    fn is_piece(&self, address: u64) -> Option<usize> {
        let at = self.containing(address)?;
        let part = self.part(at)?;
        (part.address == address && part.role == Role::Piece).then_some(at)
    }

    /// How far an owner reaches.
    fn reach(&self, found: Found) -> u8 {
        let Found::Of(owner) = found else { return u8::MAX };
        match self.part(owner).map(|part| part.role) {
            Some(Role::Owner(within)) => within,
            _ => 0,
        }
    }

    /// All parts that are one pointer further away, until there are none.
    fn run(&mut self) {
        let mut frontier: Vec<usize> = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            if matches!(part.role, Role::Owner(_)) {
                frontier.push(at);
                if let Some(found) = self.found.get_mut(at) {
                    *found = Some((Found::Of(at), 0));
                }
            }
        }
        while !frontier.is_empty() {
            let mut next = BTreeSet::new();
            for at in frontier {
                let Some((owner, far)) = self.found.get(at).copied().flatten() else { continue };
                if far >= self.reach(owner) || far == u8::MAX {
                    continue;
                }
                let (structures, data) = self.targets(at);
                next.extend(structures.into_iter().filter(|to| self.reached(*to, owner, far + 1)));
                for to in data {
                    self.reached(to, owner, far + 1);
                }
            }
            frontier = next.into_iter().collect();
        }
    }

    /// Notes that so many pointers lead from an owner to a part. Returns whether that is where the part is found first.
    fn reached(&mut self, at: usize, owner: Found, far: u8) -> bool {
        let known = self.found.get(at).copied().flatten();
        let found = match known {
            None => owner,
            Some((_, before)) if before < far => return false,
            Some((other, _)) if other == owner => return false,
            // What is in the neighborhood of one that reaches less far is that one's.
            Some((other, _)) if self.reach(other) < self.reach(owner) => other,
            Some((other, _)) if self.reach(owner) < self.reach(other) && other != Found::Shared => {
                owner
            }
            Some(_) => Found::Shared,
        };
        if let Some(place) = self.found.get_mut(at) {
            *place = Some((found, far));
        }
        known.is_none()
    }

    /// The parts that a part leads to: those whose pointers are to be followed, and others.
    fn targets(&mut self, at: usize) -> (Vec<usize>, Vec<usize>) {
        let Some(part) = self.part(at).copied() else { return Default::default() };
        if !matches!(part.role, Role::Owner(_) | Role::Structure) {
            return Default::default();
        }
        let bytes = self.bytes(&part);
        if let Some(layout) = self.queue
            && let Some(pieces) = self.pieces(&layout, &bytes)
        {
            let contents = self.contents(&layout, &pieces, &bytes);
            let all = words(&bytes).filter_map(|word| self.is_piece(word));
            let chain = pieces.iter().filter_map(|piece| self.is_piece(*piece));
            return (Vec::new(), all.chain(chain).chain(contents).collect());
        }
        let end = self.queue.and_then(|layout| self.end(&layout, &part, &bytes));
        if let Some(end) = end {
            self.ends.insert(part.address, end);
        }
        let mut structures = Vec::new();
        let mut data = Vec::new();
        for word in words(&bytes) {
            // What waits in a queue belongs to whom reads it.
            if end.is_some_and(|end| end.queues[1] == word) {
                continue;
            }
            let Some(to) = self.containing(word).filter(|to| *to != at) else { continue };
            match self.part(to).map(|part| part.role) {
                Some(Role::Structure) => structures.push(to),
                Some(Role::Opaque) => data.push(to),
                // A piece belongs to its queue, and an object to nobody here.
                Some(Role::Piece | Role::Owner(_)) | None => {}
            }
        }
        (structures, data)
    }

    fn bytes(&self, part: &Part) -> Vec<u8> {
        let length = usize::try_from(part.size).unwrap_or(usize::MAX).min(SEARCHED_BYTES);
        let mut bytes = vec![0; length];
        let read = self.memory.read(part.address, &mut bytes);
        bytes.truncate(read);
        bytes
    }

    /// The pieces of a queue, first to last; `None` if the bytes are no queue's.
    fn pieces(&self, layout: &Queue, bytes: &[u8]) -> Option<Vec<u64>> {
        let ([first, from], [last, to]) = places(layout, bytes)?;
        if from >= layout.slots.into() || to >= layout.slots.into() {
            return None;
        }
        self.is_piece(first)?;
        self.is_piece(last)?;
        let mut pieces = vec![first];
        let mut piece = first;
        while piece != last {
            piece = self.memory.word(piece.checked_add(layout.next.into())?)?;
            self.is_piece(piece)?;
            if pieces.len() >= self.parts.len() {
                return None;
            }
            pieces.push(piece);
        }
        Some(pieces)
    }

    /// The contents of the messages in a queue.
    fn contents(&self, layout: &Queue, pieces: &[u64], bytes: &[u8]) -> Vec<usize> {
        let Some(([_, from], [_, to])) = places(layout, bytes) else { return Vec::new() };
        let mut contents = Vec::new();
        let mut buffer = vec![0; (layout.slots * layout.slot_bytes) as usize];
        let last = pieces.len().saturating_sub(1);
        for (index, piece) in pieces.iter().enumerate() {
            let read = self.memory.read(*piece, &mut buffer);
            let from = if index == 0 { from } else { 0 };
            let to = if index == last { to } else { layout.slots.into() };
            let slots = buffer.get(..read).unwrap_or_default();
            let slots = slots.chunks_exact(layout.slot_bytes as usize).enumerate();
            for (_, slot) in slots.filter(|(at, _)| (from..to).contains(&(*at as u64))) {
                if slot.get(layout.storage as usize).is_none_or(|byte| *byte == layout.inline) {
                    continue;
                }
                let content = word(slot, layout.content).and_then(|word| self.containing(word));
                contents.extend(content.filter(|at| {
                    self.part(*at)
                        .is_some_and(|part| matches!(part.role, Role::Structure | Role::Opaque))
                }));
            }
        }
        contents
    }

    /// The end of a connection that a block is, if the other end says the same.
    fn end(&self, layout: &Queue, part: &Part, bytes: &[u8]) -> Option<End> {
        let end = parse_end(layout, bytes)?;
        self.containing(end.queues[0])?;
        self.containing(end.queues[1])?;
        let peer = self.part(self.containing(end.peer)?)?;
        if peer.address != end.peer || peer.address == part.address {
            return None;
        }
        let other = parse_end(layout, &self.bytes(peer))?;
        let [read, written] = end.queues;
        (other.peer == part.address && other.queues == [written, read] && read != written)
            .then_some(end)
    }

    /// The owner whose block contains what reads from this end.
    fn reader(&self, end: &End) -> Option<usize> {
        let at = self.containing(end.reader)?;
        self.part(at).filter(|part| matches!(part.role, Role::Owner(_))).map(|_| at)
    }

    fn sums(&self) -> Vec<Belongings> {
        let mut all: BTreeMap<usize, Belongings> = BTreeMap::new();
        let of = |at: usize, part: &Part| {
            let (owner, site) = (part.address, part.site);
            (at, Belongings { owner, site, blocks: BTreeMap::new(), messages: None })
        };
        for (part, found) in self.parts.iter().zip(&self.found) {
            let Some((Found::Of(owner), _)) = *found else { continue };
            let Some(object) = self.part(owner) else { continue };
            let (at, blank) = of(owner, object);
            let belongings = all.entry(at).or_insert(blank);
            if part.address != object.address {
                belongings.blocks.entry(part.site).or_default().add(part.size);
            }
        }
        for (address, end) in &self.ends {
            let Some(peer) = self.ends.get(&end.peer) else { continue };
            let owner = match self.reader(end) {
                Some(owner) => owner,
                None if end.reader == 0 => {
                    let at = self.containing(*address);
                    match at.and_then(|at| self.found.get(at).copied().flatten()) {
                        Some((Found::Of(owner), _)) => owner,
                        _ => continue,
                    }
                }
                // The library's own end.
                None => continue,
            };
            let Some(belongings) = all.get_mut(&owner) else { continue };
            let messages = belongings.messages.get_or_insert_default();
            messages.waiting += peer.written.saturating_sub(end.read);
            messages.received += end.read;
            if self.reader(peer).is_none() && peer.reader != 0 {
                messages.unsent += end.written.saturating_sub(peer.read);
            }
        }
        all.into_values().collect()
    }
}

/// The piece and the number of a queue's first message, and the same for the place after the last one.
fn places(layout: &Queue, bytes: &[u8]) -> Option<([u64; 2], [u64; 2])> {
    let place =
        |offset: u32| Some([word(bytes, offset)?, word(bytes, offset + 8)? & u64::from(u32::MAX)]);
    Some((place(layout.begin)?, place(layout.begin + 16)?))
}

fn parse_end(layout: &Queue, bytes: &[u8]) -> Option<End> {
    let ends = &layout.ends;
    Some(End {
        queues: [word(bytes, ends.queues)?, word(bytes, ends.queues + 8)?],
        read: word(bytes, ends.read)?,
        written: word(bytes, ends.written)?,
        peer: word(bytes, ends.peer)?,
        reader: word(bytes, ends.reader)?,
    })
}

fn word(bytes: &[u8], offset: u32) -> Option<u64> {
    let from = bytes.get(offset as usize..)?;
    from.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (all, _) = bytes.as_chunks::<8>();
    all.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
