//! Details of library objects, kept beside the ledger: descriptors, names, owners, release requests, and the values of
//! their fields, which `fields` reads.
//!
//! Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use tracer_common::{
    kind::Kind,
    object::{Object, ObjectId, TEXT},
    state::Key,
};

pub use super::walk::Messages;
use crate::{
    ledger::{
        Ledger, Sum,
        events::{Block, Handle},
    },
    tape::redact::plain,
    target::Pid,
};

/// Objects listed one by one for each call site: the oldest.
const SHOWN: usize = 100;
/// Maximum number of objects that are not listed but whose fields are read for sums.
const OTHERS: usize = 100_000;

/// The objects of all call sites at one moment.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// By number of the call site.
    pub sites: BTreeMap<u32, SiteObjects>,
    /// The oldest objects of each call site.
    pub shown: Vec<Shown>,
    /// The objects for which their library has acquired blocks by itself, those of most bytes first in each process.
    pub owners: Vec<Owner>,
}

/// An object for which its library has acquired blocks by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its target.
    pub pid: Pid,
    /// The word that the pack has the programs keep; 0 for none.
    pub word: u64,
    /// Its name; empty if it has none.
    pub text: String,
    /// The blocks, and its messages.
    pub owned: Belongings,
}

/// What a library has acquired by itself for one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Belongings {
    /// Address of the object.
    pub owner: u64,
    /// Number of the object's call site.
    pub site: u32,
    /// Number and bytes of its blocks, by number of their call site.
    pub blocks: Vec<(u32, u64, u64)>,
    /// Its messages; `None` where it has no queues, or their layout is not known.
    pub messages: Option<Messages>,
}

/// The objects that own something, by process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Internals(pub BTreeMap<Pid, Vec<Belongings>>);

plain!(Internals);

/// An object that is not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    /// Its target.
    pub(crate) pid: Pid,
    /// Its address.
    pub(crate) address: u64,
    /// Bytes of its block.
    pub(crate) size: u64,
    /// Number of its call site.
    pub(crate) site: u32,
}

/// Values of an object's fields. `None` where they are not read: its type has no such field, its layout is unknown, its
/// memory is gone, or no report shows this snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// The file descriptor that it uses.
    pub fd: Option<u32>,
    /// Bytes queued in it.
    pub queued: Option<u64>,
    /// Its reference count.
    pub references: Option<u64>,
    /// Whether it waits for an event.
    pub pending: Option<bool>,
    /// Its owner's handle; 0 for none.
    pub owner: Option<u64>,
}

/// Sums of field values over all objects of a call site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSums {
    /// Objects that were read.
    pub read: u64,
    /// Bytes queued in them, if their type has such a field.
    pub queued: Option<u64>,
    /// Objects that wait for an event, if their type has such a field.
    pub pending: Option<u64>,
}

/// Totals of one call site's objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteObjects {
    /// Objects that the BPF programs have details of.
    pub known: u64,
    /// Objects with a release request.
    pub asked: u64,
    /// Objects that they own, directly or indirectly.
    pub owned: Sum,
    /// When the oldest was created, `CLOCK_MONOTONIC`, nanoseconds.
    pub oldest_ns: u64,
    /// Sums of their fields' values, if any was read.
    pub summed: Option<FieldSums>,
}

impl SiteObjects {
    /// Adds the objects of a call site with the same stack in another process.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.known += other.known;
        self.asked += other.asked;
        self.owned.merge(other.owned);
        self.oldest_ns = self.oldest_ns.min(other.oldest_ns);
        self.summed = match (self.summed, other.summed) {
            (Some(one), Some(other)) => Some(one.merged(other)),
            (one, other) => one.or(other),
        };
    }
}

impl FieldSums {
    fn merged(self, other: Self) -> Self {
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        Self {
            read: self.read + other.read,
            queued: sum(self.queued, other.queued),
            pending: sum(self.pending, other.pending),
        }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its handle.
    pub handle: Handle,
    /// Its block, or a substitute for it.
    pub block: Block,
    /// When its release was requested, `CLOCK_MONOTONIC`, nanoseconds.
    pub release_requested_ns: Option<u64>,
    /// The word that the pack has the programs keep; 0 for none.
    pub word: u64,
    /// Its owner's handle.
    pub owner: Option<u64>,
    /// The descriptor that it uses.
    pub fd: Option<u32>,
    /// Its name; empty if it has none.
    pub text: String,
    /// Objects that it owns, directly or indirectly.
    pub owned: Sum,
    /// The values of its fields.
    pub fields: Fields,
}

/// The details of the live objects, without the values of their fields, and the objects to sum that are not shown.
/// `seen` holds the programs' entries, `requests` when releases were requested. `is_summed` says, by call site and
/// block size, whether the fields of an object are added up. `gone` is called with each entry that the ledger does not
/// have as an object (any more).
pub(crate) fn objects(
    ledger: &Ledger,
    seen: &[(Key, Object)],
    requests: &ReleaseRequests,
    is_summed: impl Fn(u32, u64) -> bool,
    mut gone: impl FnMut(&Key, &Object),
) -> (Objects, Vec<Other>) {
    let mut live: Vec<Live<'_>> = Vec::with_capacity(seen.len());
    for (key, object) in seen {
        let [kind, ..] = key.kind.to_le_bytes();
        let Some(kind) = Kind::from_number(kind) else { continue };
        let handle = Handle { pid: Pid(key.pid), kind, value: key.handle };
        match ledger.block(&handle).filter(|block| block.site == object.site) {
            Some(block) => {
                let id = ObjectId { key: *key, time_ns: object.time_ns };
                let release_requested_ns = requests.get(&id).copied();
                live.push(Live { handle, block, object, release_requested_ns });
            }
            None => gone(key, object),
        }
    }
    let owned = owned(&live);
    let (mut all, mut others) = (Objects::default(), Vec::new());
    live.sort_unstable_by_key(|one| (one.object.site, one.object.time_ns, one.handle));
    let mut shown = 0;
    let mut site = 0;
    for Live { handle, block, object, release_requested_ns } in &live {
        let sums = all
            .sites
            .entry(object.site)
            .or_insert_with(|| SiteObjects { oldest_ns: object.time_ns, ..SiteObjects::default() });
        let owner_of = owned.sums.get(handle).copied().unwrap_or_default();
        sums.known += 1;
        sums.asked += u64::from(release_requested_ns.is_some());
        sums.owned.merge(owner_of);
        if object.site != site {
            (site, shown) = (object.site, 0);
        }
        shown += 1;
        if shown <= SHOWN {
            all.shown.push(Shown {
                handle: *handle,
                block: *block,
                release_requested_ns: *release_requested_ns,
                word: object.word,
                owner: owned.owners.get(handle).copied(),
                fd: u32::try_from(object.fd).ok(),
                text: text(&object.text),
                owned: owner_of,
                fields: Fields::default(),
            });
        } else if others.len() < OTHERS && is_summed(object.site, block.size) {
            let (pid, address) = (handle.pid, handle.value);
            others.push(Other { pid, address, size: block.size, site: object.site });
        }
    }
    (all, others)
}

/// The objects of a look that are still there.
pub(crate) fn owners(ledger: &Ledger, seen: &[(Key, Object)], internals: &Internals) -> Vec<Owner> {
    if internals.0.is_empty() {
        return Vec::new();
    }
    let objects: HashMap<(u32, u64), &Object> = seen
        .iter()
        .filter(|(key, _)| key.kind == Kind::Heap as u32)
        .map(|(key, object)| ((key.pid, key.handle), object))
        .collect();
    let all = internals.0.iter().flat_map(|(pid, all)| all.iter().map(|one| (*pid, one)));
    all.filter_map(|(pid, owned)| {
        let object = objects.get(&(pid.0, owned.owner))?;
        let handle = Handle { pid, kind: Kind::Heap, value: owned.owner };
        ledger.block(&handle).filter(|block| block.site == owned.site)?;
        let (word, text) = (object.word, text(&object.text));
        Some(Owner { pid, word, text, owned: owned.clone() })
    })
    .collect()
}

/// When the release of objects was requested, `CLOCK_MONOTONIC`, nanoseconds.
pub type ReleaseRequests = HashMap<ObjectId, u64>;

/// An object that both the programs and the ledger know.
struct Live<'seen> {
    handle: Handle,
    block: Block,
    object: &'seen Object,
    release_requested_ns: Option<u64>,
}

/// Ownership among live objects.
struct Owned {
    /// The owner's handle.
    owners: HashMap<Handle, u64>,
    /// What each owner owns, directly or indirectly.
    sums: HashMap<Handle, Sum>,
}

/// Maximum number of owners in a chain: deeper than any library goes.
const OWNER_DEPTH: usize = 8;

fn owned(live: &[Live<'_>]) -> Owned {
    let constructor_calls: HashMap<(Pid, u64), Handle> = live
        .iter()
        .filter(|one| one.object.making != 0)
        .map(|one| ((one.handle.pid, one.object.making), one.handle))
        .collect();
    let there: HashSet<Handle> = live.iter().map(|one| one.handle).collect();
    let owner = |handle: &Handle, object: &Object| {
        let at = |kind| Handle { pid: handle.pid, kind, value: object.owner };
        let mut direct = [Kind::Heap, Kind::CallerAllocated].into_iter().map(at);
        let direct = direct.find(|direct| object.owner != 0 && there.contains(direct));
        let within = || constructor_calls.get(&(handle.pid, object.within)).copied();
        direct.or_else(within).filter(|one| one != handle)
    };
    let owners: HashMap<Handle, Handle> =
        live.iter().filter_map(|one| Some((one.handle, owner(&one.handle, one.object)?))).collect();
    let mut sums: HashMap<Handle, Sum> = HashMap::new();
    for Live { handle, block, .. } in live {
        let mut one = *handle;
        for _ in 0..OWNER_DEPTH {
            let Some(above) = owners.get(&one).copied().filter(|above| above != handle) else {
                break;
            };
            sums.entry(above).or_default().add(block.size);
            one = above;
        }
    }
    let owners = owners.into_iter().map(|(handle, owner)| (handle, owner.value)).collect();
    Owned { owners, sums }
}

/// The bytes before the first zero.
fn text(bytes: &[u8; TEXT]) -> String {
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(TEXT);
    String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::events::Event;

    const PID: Pid = Pid(7);

    fn heap(value: u64) -> Handle {
        Handle { pid: PID, kind: Kind::Heap, value }
    }

    fn acquired(value: u64, site: u32, size: u64) -> Event {
        let block = Block { size, time_ns: 0, position: 1, site, connection: 0 };
        Event::Acquired { handle: heap(value), block }
    }

    fn object(value: u64, site: u32) -> (Key, Object) {
        let key = Key { pid: PID.0, kind: Kind::Heap as u32, handle: value };
        let blank = Object {
            time_ns: value,
            word: 0,
            owner: 0,
            making: 0,
            within: 0,
            site,
            fd: -1,
            text: [0; TEXT],
        };
        (key, blank)
    }

    #[test]
    fn objects_that_the_ledger_does_not_have_are_left_out_and_passed_to_gone() {
        let mut ledger = Ledger::default();
        ledger.apply(acquired(8, 2, 100));
        ledger.apply(acquired(16, 1, 100));
        let mut gone = Vec::new();
        let seen = [object(8, 2), object(16, 2), object(24, 2)];
        let none = ReleaseRequests::new();
        let (all, _) = objects(&ledger, &seen, &none, |_, _| true, |key, _| gone.push(key.handle));
        assert_eq!((gone, all.shown.len()), (vec![16, 24], 1));
        assert_eq!(all.sites[&2].known, 1);
    }

    #[test]
    fn objects_created_during_a_constructor_call_belong_to_the_object_it_creates() {
        let mut ledger = Ledger::default();
        for (value, site, size) in [(8, 2, 600), (16, 3, 136), (24, 3, 136), (32, 4, 10)] {
            ledger.apply(acquired(value, site, size));
        }
        let mut seen = [object(8, 2), object(16, 3), object(24, 3), object(32, 4)];
        seen[0].1.making = 50;
        (seen[1].1.within, seen[2].1.within) = (50, 50);
        // Its owner is known directly.
        seen[3].1.owner = 24;
        let (key, asked) = seen[1];
        let requests = ReleaseRequests::from([(ObjectId { key, time_ns: asked.time_ns }, 99)]);
        seen[3].1.text[..2].copy_from_slice(b"in");
        let (all, _) = objects(&ledger, &seen, &requests, |_, _| true, |key, _| panic!("{key:?}"));
        assert_eq!(all.sites[&2].owned, Sum { count: 3, bytes: 282 });
        assert_eq!((all.sites[&3].owned.bytes, all.sites[&3].asked), (10, 1));
        let owners: Vec<Option<u64>> = all.shown.iter().map(|one| one.owner).collect();
        assert_eq!(owners, [None, Some(8), Some(8), Some(24)]);
        assert_eq!(
            (all.shown[3].text.as_str(), all.shown[1].release_requested_ns),
            ("in", Some(99))
        );
    }

    #[test]
    fn a_release_request_for_an_earlier_object_at_the_address_does_not_apply_to_the_present_one() {
        let mut ledger = Ledger::default();
        ledger.apply(acquired(8, 2, 100));
        let seen = [object(8, 2)];
        let (key, present) = seen[0];
        let earlier = ReleaseRequests::from([(ObjectId { key, time_ns: present.time_ns - 1 }, 99)]);
        let (all, _) = objects(&ledger, &seen, &earlier, |_, _| true, |_, _| {});
        assert_eq!((all.sites[&2].asked, all.shown[0].release_requested_ns), (0, None));
    }

    #[test]
    fn objects_that_own_each_other_do_not_loop_forever() {
        let mut ledger = Ledger::default();
        ledger.apply(acquired(8, 2, 1));
        ledger.apply(acquired(16, 2, 2));
        let mut seen = [object(8, 2), object(16, 2)];
        (seen[0].1.owner, seen[1].1.owner) = (16, 8);
        let (all, _) = objects(&ledger, &seen, &ReleaseRequests::new(), |_, _| true, |_, _| {});
        assert_eq!(all.sites[&2].owned.count, 2);
    }

    #[test]
    fn what_an_object_owned_is_forgotten_with_the_object() {
        let mut ledger = Ledger::default();
        ledger.apply(acquired(8, 2, 100));
        ledger.apply(acquired(16, 3, 100));
        let of = |owner, site| Belongings { owner, site, blocks: vec![(9, 1, 10)], messages: None };
        // The second one's address has become another call site's, and the third one is gone.
        let internals = Internals([(PID, vec![of(8, 2), of(16, 2), of(24, 2)])].into());
        let seen = [object(8, 2), object(16, 3)];
        let found = owners(&ledger, &seen, &internals);
        assert_eq!(found.iter().map(|one| one.owned.owner).collect::<Vec<_>>(), [8]);
    }

    #[test]
    fn the_oldest_of_each_call_site_are_shown() {
        let mut ledger = Ledger::default();
        let many = SHOWN as u64 + 50;
        let seen: Vec<(Key, Object)> = (1..=many).map(|value| object(value * 8, 2)).rev().collect();
        (1..=many).for_each(|value| ledger.apply(acquired(value * 8, 2, 1)));
        let of_size = |wanted: u64| {
            let is_summed = move |site, size| (site, size) == (2, wanted);
            objects(&ledger, &seen, &ReleaseRequests::new(), is_summed, |_, _| {})
        };
        let (all, others) = of_size(1);
        assert_eq!((all.shown.len(), all.shown[0].handle.value), (SHOWN, 8));
        assert_eq!((others.len(), others[0].address), (50, (SHOWN as u64 + 1) * 8));
        assert!(of_size(2).1.is_empty());
        assert_eq!((all.sites[&2].known, all.sites[&2].oldest_ns), (many, 8));
    }
}
