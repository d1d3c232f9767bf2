//! Tests of object fields: values, sums and liveness from target memory.

use std::{
    collections::HashMap,
    hint::black_box,
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use tracer_common::{
    attach::Shape,
    descriptor::FdType,
    kind::Kind,
    object::{Object, TEXT},
    stack::StackEnd,
    state::Key,
};

use super::*;
use crate::{
    ledger::{
        Sum,
        events::{Block, Event, Handle, Site},
    },
    lib_objects::ledger::{Shown, SiteObjects},
    packs::{Condition, Field, Layout, ObjectFile, Pack, Sources},
    reconcile::caller_allocated::LivenessCheck,
    target::memory::numbers,
};

/// Memory made by hand: integers by process and address. Counts the calls.
#[derive(Default)]
struct FakeMemory {
    numbers: HashMap<(Pid, u64), u64>,
    ended: Vec<Pid>,
    calls: usize,
}

impl FakeMemory {
    fn numbers(&mut self, pid: Pid, locations: &[(u64, u8)]) -> io::Result<Numbers> {
        self.calls += 1;
        if self.ended.contains(&pid) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let number = |(address, _): &(u64, u8)| self.numbers.get(&(pid, *address)).copied();
        Ok(locations.iter().map(number).collect())
    }
}

fn kind(name: &str, size: u64, fields: Vec<Field>) -> Arc<ObjectType> {
    let text = "name = \"x\"\ntitle = \"x\"\nmarks = [\"f\"]\n[[kind]]\nname = \"k\"\nsentence = \"s\"\ncreated_by = [\"f\"]\n";
    let kind = Pack::parse("x.toml", text).unwrap().kinds.remove(0);
    let layouts = vec![Layout { size, fields, only_if: Condition::default() }];
    Arc::new(ObjectType { name: name.into(), layouts, ..(*kind).clone() })
}

const fn field(role: FieldRole, offset: u32) -> Field {
    Field { role, offset, bytes: 8, mask: u64::MAX }
}

fn every_field() -> Vec<Field> {
    vec![
        field(FieldRole::Fd, 0),
        field(FieldRole::References, 8),
        field(FieldRole::Callback, 16),
        field(FieldRole::Queued, 24),
        Field { mask: 6, ..field(FieldRole::Pending, 32) },
        field(FieldRole::Owner, 40),
    ]
}

fn shown(pid: Pid, value: u64, site: u32, size: u64) -> Shown {
    Shown {
        handle: Handle { pid, kind: Kind::Heap, value },
        block: Block { size, time_ns: 0, position: 0, site, connection: 0 },
        release_requested_ns: None,
        word: 0,
        owner: None,
        fd: None,
        text: String::new(),
        owned: Sum::default(),
        fields: Fields::default(),
    }
}

fn objects(shown: Vec<Shown>, sites: &[u32]) -> Objects {
    Objects {
        sites: sites.iter().map(|site| (*site, SiteObjects::default())).collect(),
        shown,
        owners: Vec::new(),
    }
}

/// The values of an object whose fields contain these numbers, in the order of [`every_field`].
fn values(numbers: [u64; 6]) -> (Fields, Option<FieldSums>) {
    let kind = kind("k", 48, every_field());
    let mut all = objects(vec![shown(Pid(1), 4096, 7, 48)], &[7]);
    let places = numbers.iter().zip((4096..).step_by(8));
    let numbers = places.map(|(number, address)| ((Pid(1), address), *number)).collect();
    let mut memory = FakeMemory { numbers, ..FakeMemory::default() };
    read(&mut all, &[], |site| (site == 7).then_some(&kind), |pid, at| memory.numbers(pid, at));
    (all.shown[0].fields, all.sites[&7].summed)
}

#[test]
fn fields_of_shown_objects_are_read_and_implausible_values_are_left_out() {
    let (fields, sums) = values([9, 2, 3, 500, 4, 0]);
    let expected = Fields {
        fd: Some(9),
        references: Some(2),
        queued: Some(500),
        pending: Some(true),
        owner: Some(0),
    };
    assert_eq!(fields, expected);
    assert_eq!(sums, Some(FieldSums { read: 1, queued: Some(500), pending: Some(1) }));
    // A negative descriptor, no reference, too many bytes, and no bit of the mask.
    let (fields, sums) = values([u64::from(u32::MAX), 0, 3, MAX_QUEUED, 1, 8]);
    let expected = Fields { pending: Some(false), owner: Some(8), ..Fields::default() };
    assert_eq!(fields, expected);
    assert_eq!(sums, Some(FieldSums { read: 1, queued: None, pending: Some(0) }));
    assert_eq!(values([0, MAX_REFERENCES, 0, 0, 0, 0]).0.references, None);
}

#[test]
fn objects_without_a_type_or_of_an_unknown_size_are_not_read() {
    let kind = kind("k", 48, every_field());
    let mut all = objects(vec![shown(Pid(1), 8, 7, 47), shown(Pid(1), 8, 8, 48)], &[7, 8]);
    let mut memory = FakeMemory::default();
    read(&mut all, &[], |site| (site == 7).then_some(&kind), |pid, at| memory.numbers(pid, at));
    assert_eq!(memory.calls, 0);
    assert!(all.sites.values().all(|site| site.summed.is_none()));
}

#[test]
fn a_process_that_has_ended_is_asked_once() {
    let kind = kind("k", 48, every_field());
    let many = |pid| (0..400).map(move |at| shown(pid, 4096 + at * 48, 7, 48));
    let mut all = objects(many(Pid(1)).chain(many(Pid(2))).collect(), &[7]);
    let mut memory = FakeMemory { ended: vec![Pid(1)], ..FakeMemory::default() };
    memory.numbers.insert((Pid(2), 4096), 9);
    read(&mut all, &[], |_| Some(&kind), |pid, at| memory.numbers(pid, at));
    // 2,400 fields are three batches.
    assert_eq!(memory.calls, 1 + 3);
    assert_eq!((all.shown[0].fields.fd, all.shown[400].fields.fd), (None, Some(9)));
}

#[test]
fn sums_skip_objects_that_are_unreadable_or_of_another_size() {
    let kind = kind(
        "k",
        136,
        vec![
            field(FieldRole::References, 0),
            field(FieldRole::Queued, 24),
            field(FieldRole::Pending, 32),
        ],
    );
    // As many evbuffers as a busy server has.
    let memory: Vec<[u64; 17]> = (0..30_000_u64)
        .map(|at| {
            let mut one = [0; 17];
            one[3] = at;
            one[4] = at % 2;
            one
        })
        .collect();
    let own = Pid::own();
    let other = |address, size| Other { pid: own, address, size, site: 7 };
    let mut others: Vec<Other> =
        black_box(&memory).iter().map(|one| other(one.as_ptr() as u64, 136)).collect();
    others.insert(20_000, other(8, 136));
    others.insert(5, other(memory.as_ptr() as u64, 128));
    // Shown objects count, too.
    let first = others.remove(0);
    let mut all = objects(vec![shown(own, first.address, 7, 136)], &[7]);
    let begun = Instant::now();
    read(&mut all, &others, |_| Some(&kind), numbers);
    println!("{} objects summed in {:?}", memory.len(), begun.elapsed());
    let sums = FieldSums { read: 30_000, queued: Some(29_999 * 15_000), pending: Some(15_000) };
    assert_eq!(all.sites[&7].summed, Some(sums));
}

#[test]
fn fields_of_blocks_and_of_caller_allocated_objects_are_summed() {
    let packs = Sources { usual: true, ..Sources::default() }.load().packs;
    let libevent = packs.iter().find(|pack| &*pack.name == "libevent").unwrap();
    let file = ObjectFile { defines: &|_| true, build_id: None };
    let functions = libevent.functions(&file);
    let mut summed: Vec<(&str, u64)> = Vec::new();
    for (_, shape, _, used) in functions.iter().filter(|(.., used)| used.function.makes()) {
        let sizes = if *shape == Shape::ConstructInPlace { vec![0] } else { (1..=4096).collect() };
        for detail in [0, 1] {
            let kind = used.kind(detail);
            let found = sizes.iter().filter(|size| is_summed(kind, **size));
            summed.extend(found.map(|size| (&*kind.name, *size)));
        }
    }
    summed.sort_unstable();
    summed.dedup();
    let expected =
        [("evbuffer", 136), ("event", 128), ("event_assigned", 0), ("event_signal", 128)];
    assert_eq!(summed, expected);
}

#[test]
fn the_type_of_a_call_sites_objects_follows_from_its_probe_and_detail() {
    let used = |second| {
        let text = "name = \"x\"\ntitle = \"x\"\nmarks = [\"f\"]\n[[kind]]\nname = \"k\"\nsentence = \"s\"\ncreated_by = [\"f\"]\n";
        let rule = Pack::parse("x.toml", text).unwrap().rules.remove(0);
        let first = kind("first", 8, Vec::new());
        Arc::new(Use { function: rule.function, kind: first, second })
    };
    let uses = ObjectUses::from([(3, used(Some(kind("second", 8, Vec::new())))), (4, used(None))]);
    let mut ledger = Ledger::default();
    for (number, probe, detail) in [(1, 3, 0), (2, 3, 1), (3, 4, 0), (4, 5, 0)] {
        ledger.apply(Event::Site(Site {
            number,
            pid: Pid(1),
            probe,
            fd_type: FdType::Unknown,
            detail,
            frames: Arc::from([1]),
            unwound: Arc::from([1]),
            end: StackEnd::Bottom,
            former: false,
            origin: None,
            image: 0,
        }));
    }
    let name = |site| object_type(&ledger, &uses, site).map(|kind| kind.name.to_string());
    let names = [1, 2, 3, 4, 5].map(name);
    assert_eq!(
        names.each_ref().map(Option::as_deref),
        [Some("first"), Some("second"), Some("first"), None, None]
    );
}

#[test]
fn an_object_is_alive_while_it_is_pending_and_is_the_same() {
    let event = [0x80_u64, 7, 11].map(AtomicU64::new);
    let handle =
        Handle { pid: Pid::own(), kind: Kind::CallerAllocated, value: event.as_ptr() as u64 };
    let check = LivenessCheck { number: (0, 2), mask: 0x2b, word: Some(8), owner: Some(16) };
    let object = Object {
        time_ns: 0,
        word: 7,
        owner: 11,
        making: 0,
        within: 0,
        site: 1,
        fd: -1,
        text: [0; TEXT],
    };
    let of = |handle: Handle, check, known: Option<Object>| {
        let key =
            Key { pid: handle.pid.0, kind: Kind::CallerAllocated as u32, handle: handle.value };
        let known = known.map(|object| (key, object));
        let one = Checked { handle, check, known: known.as_ref(), position: 0 };
        // Others before and after it make no difference.
        let other = Checked { handle: Handle { value: 8, ..handle }, ..one };
        match alive(&[other, one, other], numbers).as_slice() {
            [Some(false), Some(alive), Some(false)] => *alive,
            unexpected => panic!("{unexpected:?}"),
        }
    };
    // Assigned, but not added.
    assert!(!of(handle, check, Some(object)));
    event[0].fetch_or(2, Relaxed);
    assert!(of(handle, check, Some(object)));
    for other in [Object { word: 8, ..object }, Object { owner: 12, ..object }] {
        assert!(!of(handle, check, Some(other)));
    }
    let without = LivenessCheck { word: None, ..check };
    assert!(of(handle, without, Some(Object { word: 8, ..object })));
    // Nothing is mapped there.
    assert!(!of(Handle { value: 8, ..handle }, check, Some(object)));
    // The programs have no entry for it.
    assert!(of(handle, check, None));
    // Its process has ended.
    let gone = Handle { pid: Pid(u32::MAX >> 1), ..handle };
    let gone = Checked { handle: gone, check, known: None, position: 0 };
    let here = Checked { handle, check, known: None, position: 0 };
    assert_eq!(alive(&[gone, here], numbers), [None, Some(true)]);
}
