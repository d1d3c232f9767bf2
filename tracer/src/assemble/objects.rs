//! Library objects as the report shows them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tracer_common::stack::INTERRUPTED;

use super::{
    names::Names,
    owners::{internals, messages},
    parts::Parts,
};
use crate::{
    analyze::time_series::TimeSeries,
    ledger::connections::Connection,
    lib_objects::ledger::{FieldSums, Objects, Owner, Shown},
    packs::{ObjectType, Pack, Word},
    probes::Probe,
    reconcile::fds::FdDetails,
    report::{self, Address, ObjectState},
    snapshot::Snapshot,
    tape::Answers,
    target::Pid,
};

/// The history of objects, and the names of their callbacks.
#[derive(Debug, Default)]
pub(super) struct History {
    made: BTreeMap<Arc<str>, TimeSeries>,
    callbacks: HashMap<(Pid, u64), Option<Arc<str>>>,
}

/// Indexes for looking up single objects.
struct Index<'a> {
    /// By process and fd number.
    descriptors: HashMap<(Pid, u32), &'a FdDetails>,
    /// By connection id, which is never 0.
    connections: HashMap<u32, &'a Connection>,
}

impl<'a> Index<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let descriptors =
            snapshot.descriptors.iter().map(|one| ((one.open.pid, one.open.fd), one)).collect();
        let shown = snapshot.connections.iter().flat_map(|all| all.table.iter().chain(&all.recent));
        let numbered = shown.filter_map(|shown| {
            let number = shown.connection.number.filter(|number| *number != 0)?;
            Some((number, &shown.connection))
        });
        Self { descriptors, connections: numbered.collect() }
    }
}

impl History {
    /// These objects of a snapshot. `kinds` are their types and `parts` their parts, both by constructor call site.
    pub(super) fn report(
        &mut self,
        (seen, snapshot): (&Objects, &Snapshot),
        kinds: &HashMap<u32, Arc<ObjectType>>,
        parts: &HashMap<u32, Parts>,
        names: &mut Names,
        answers: &mut Answers,
    ) -> report::LibraryObjects {
        let index = Index::of(snapshot);
        let owners: HashMap<(Pid, u64), &Owner> =
            seen.owners.iter().map(|one| ((one.pid, one.owned.owner), one)).collect();
        let table: Vec<report::LibraryObject> = seen
            .shown
            .iter()
            .filter_map(|one| {
                let kind = kinds.get(&one.block.site)?;
                let label = self.label(one, kind, names, answers);
                let owner = owners.get(&(one.handle.pid, one.handle.value));
                Some(report::LibraryObject {
                    internals: owner.map(|owner| internals(owner)),
                    messages: owner.and_then(|owner| messages(owner)),
                    ..object(one, kind, label, snapshot.at_ns, &index)
                })
            })
            .collect();
        let sums = sums(seen, kinds);
        let mut rows = self.types(snapshot, kinds);
        for row in &mut rows {
            if let Some(sums) = sums.get(row.name.as_str()) {
                (row.queued_bytes, row.pending) = (sums.queued, sums.pending);
                row.summed = Some(sums.read);
            }
        }
        for (site, of_site) in parts {
            let kind = kinds.get(site);
            let row = rows.iter_mut().find(|row| kind.is_some_and(|kind| *kind.name == *row.name));
            if let Some(row) = row {
                row.owned_bytes += of_site.blocks;
            }
        }
        rows.sort_by_key(|row| Reverse((row.bytes + row.owned_bytes, row.live)));
        report::LibraryObjects { types: rows, table }
    }

    fn types(
        &mut self,
        snapshot: &Snapshot,
        kinds: &HashMap<u32, Arc<ObjectType>>,
    ) -> Vec<report::ObjectType> {
        let at_s = snapshot.at_ns as f64 / 1e9;
        let mut rows: BTreeMap<Arc<str>, (report::ObjectType, u64)> = BTreeMap::new();
        for site in &snapshot.sites {
            let Some(kind) = kinds.get(&site.number) else { continue };
            let (row, most) =
                rows.entry(Arc::clone(&kind.name)).or_insert_with(|| (empty_type(kind), 0));
            row.live += site.outstanding.count;
            row.bytes += site.outstanding.bytes;
            row.created += site.acquired.count;
            row.destroyed += site.released.count;
            if site.outstanding.count > *most {
                *most = site.outstanding.count;
                row.site = Some(site.number);
            }
            let known = snapshot.objects.as_ref().and_then(|all| all.sites.get(&site.number));
            let Some(known) = known else { continue };
            row.release_asked = row.release_asked.map(|asked| asked + known.asked);
            row.owned_bytes += known.owned.bytes;
            let age_s = snapshot.at_ns.saturating_sub(known.oldest_ns) as f64 / 1e9;
            row.oldest_s = Some(row.oldest_s.map_or(age_s, |oldest| oldest.max(age_s)));
        }
        rows.into_iter()
            .map(|(name, (mut row, _))| {
                let series = self.made.entry(name).or_default();
                series.push(at_s, row.created as f64);
                row.created_per_s = series.slope();
                row
            })
            .collect()
    }

    /// The most telling name of an object.
    fn label(
        &mut self,
        one: &Shown,
        kind: &ObjectType,
        names: &mut Names,
        answers: &mut Answers,
    ) -> Option<String> {
        if !one.text.is_empty() {
            return Some(one.text.clone());
        }
        match &kind.word {
            Word::Number(words) => {
                let name = words.iter().find(|(number, _)| *number == one.word);
                Some(name.map_or_else(|| one.word.to_string(), |(_, name)| name.clone()))
            }
            Word::Function if one.word != 0 => {
                let pid = one.handle.pid;
                // The address is a function's start, not a return address.
                let named = || names.function(answers, pid, one.word | INTERRUPTED);
                self.callbacks
                    .entry((pid, one.word))
                    .or_insert_with(named)
                    .as_deref()
                    .map(str::to_owned)
            }
            Word::Function | Word::None => None,
        }
    }
}

fn object(
    one: &Shown,
    kind: &ObjectType,
    label: Option<String>,
    at_ns: u64,
    index: &Index<'_>,
) -> report::LibraryObject {
    let pid = one.handle.pid;
    let since = |ns: u64| at_ns.saturating_sub(ns) as f64 / 1e9;
    let fields = one.fields;
    let fd = fields.fd.or(one.fd);
    let socket = fd.and_then(|fd| index.descriptors.get(&(pid, fd)));
    let connection = index.connections.get(&one.block.connection);
    let peer = socket.and_then(|open| open.socket.as_ref()?.socket.peer.clone());
    report::LibraryObject {
        pid: pid.0,
        type_name: kind.name.to_string(),
        address: Address(one.handle.value),
        site: one.block.site,
        age_s: since(one.block.time_ns),
        state: match one.release_requested_ns {
            Some(_) => ObjectState::ReleaseAsked,
            None => ObjectState::Live,
        },
        release_asked_s: one.release_requested_ns.map(since),
        bytes: one.block.size,
        owned_bytes: one.owned.bytes,
        label,
        fd,
        peer: peer.or_else(|| Some(connection?.peer.as_ref()?.to_string())),
        connection: connection.map(|connection| connection.id),
        owner: fields.owner.filter(|owner| *owner != 0).or(one.owner).map(Address),
        references: fields.references,
        queued_bytes: fields.queued,
        pending: fields.pending,
        internals: None,
        messages: None,
    }
}

/// Functions that users' packs name and no target has, a line each.
pub fn unmatched_packs(packs: &[Pack], probes: &[Probe]) -> Vec<String> {
    let missing = |pack: &Pack| {
        let of_it = |probe: &&Probe| {
            let used = probe.function.object.as_ref();
            used.is_some_and(|used| used.kind.library == pack.name)
        };
        let probes: Vec<&Probe> = probes.iter().filter(of_it).collect();
        pack.unmatched(&|name| {
            probes.iter().any(|probe| {
                probe.function.name == name || probe.aliases.iter().any(|alias| alias == name)
            })
        })
    };
    packs.iter().flat_map(missing).collect()
}

/// The sums of field values by object type; `kinds` are the types of the call sites.
fn sums(seen: &Objects, kinds: &HashMap<u32, Arc<ObjectType>>) -> BTreeMap<Arc<str>, FieldSums> {
    let mut sums: BTreeMap<Arc<str>, FieldSums> = BTreeMap::new();
    for (site, of_site) in &seen.sites {
        let (Some(kind), Some(summed)) = (kinds.get(site), of_site.summed) else { continue };
        let sums = sums.entry(Arc::clone(&kind.name)).or_default();
        let add = |sum: Option<u64>, more: Option<u64>| match (sum, more) {
            (Some(sum), Some(more)) => Some(sum + more),
            (sum, more) => sum.or(more),
        };
        sums.read += summed.read;
        sums.queued = add(sums.queued, summed.queued);
        sums.pending = add(sums.pending, summed.pending);
    }
    sums
}

fn empty_type(kind: &ObjectType) -> report::ObjectType {
    report::ObjectType {
        name: kind.name.to_string(),
        library: kind.library.to_string(),
        sentence: kind.sentence.clone(),
        live: 0,
        release_asked: kind.is_asked.then_some(0),
        created: 0,
        destroyed: 0,
        created_per_s: None,
        bytes: 0,
        owned_bytes: 0,
        oldest_s: None,
        queued_bytes: None,
        pending: None,
        summed: None,
        site: None,
    }
}
