//! Fields of library objects: the only code that turns the layouts of packs and target memory into values.
//!
//! Takes objects with their types, passes on plain values. Reads memory in batches of about a thousand integers, through a
//! function that it is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use tracer_common::attach::ProbeNumber;

use super::ledger::{FieldSums, Fields, Objects, Other};
use crate::{
    ledger::Ledger,
    packs::{FieldRole, ObjectType, Use},
    reconcile::caller_allocated::Checked,
    target::{
        Pid,
        memory::{MAX_RANGES, Numbers},
    },
};

/// What the probed functions do to objects, by probe number.
pub type ObjectUses = BTreeMap<ProbeNumber, Arc<Use>>;

/// A larger value is not a byte count: the object was just released and its memory reused.
const MAX_QUEUED: u64 = 1 << 40;
/// The same for references.
const MAX_REFERENCES: u64 = 1 << 24;

/// The type of the objects of a call site, if it creates objects.
pub(crate) fn object_type<'a>(
    ledger: &Ledger,
    uses: &'a ObjectUses,
    site: u32,
) -> Option<&'a Arc<ObjectType>> {
    let (probe, detail) = ledger.constructor_of(site)?;
    uses.get(&probe).map(|used| used.kind(detail))
}

/// Whether reports add up any field of an object of this type and size.
pub(crate) fn is_summed(kind: &ObjectType, size: u64) -> bool {
    kind.layout(size).is_some_and(|layout| layout.fields.iter().any(|one| one.role.is_summed()))
}

/// A field to read.
struct Wanted {
    /// Index of the object among the shown ones.
    shown: Option<usize>,
    site: u32,
    role: FieldRole,
    mask: u64,
    /// Whether it is the object's first field that is added up.
    first: bool,
}

/// Fields to read in one process: addresses and sizes, and what each is.
type Batch = (Vec<(u64, u8)>, Vec<Wanted>);

/// Reads fields of objects, a batch at a time.
struct Reading<'a, Memory> {
    objects: &'a mut Objects,
    memory: Memory,
    batches: BTreeMap<Pid, Batch>,
    /// Processes whose memory cannot be read.
    gone: BTreeSet<Pid>,
}

/// Reads all fields of the shown objects, and of the `others` those that reports add up. `type_of` gives a call site's
/// object type. `memory` reads integers in the memory of a process, about a thousand at a time, see
/// [`numbers`](crate::target::memory::numbers).
pub(crate) fn read<'a>(
    objects: &mut Objects,
    others: &[Other],
    type_of: impl Fn(u32) -> Option<&'a Arc<ObjectType>>,
    memory: impl FnMut(Pid, &[(u64, u8)]) -> io::Result<Numbers>,
) {
    let types: BTreeMap<u32, &ObjectType> =
        objects.sites.keys().filter_map(|site| Some((*site, &**type_of(*site)?))).collect();
    let shown: Vec<Other> = objects
        .shown
        .iter()
        .map(|one| Other {
            pid: one.handle.pid,
            address: one.handle.value,
            size: one.block.size,
            site: one.block.site,
        })
        .collect();
    let mut reading = Reading { objects, memory, batches: BTreeMap::new(), gone: BTreeSet::new() };
    let shown = shown.iter().enumerate().map(|(index, one)| (Some(index), one));
    for (index, one) in shown.chain(others.iter().map(|one| (None, one))) {
        if let Some(kind) = types.get(&one.site) {
            reading.add(index, one, kind);
        }
    }
    for (pid, batch) in std::mem::take(&mut reading.batches) {
        reading.read(pid, batch);
    }
}

impl<Memory: FnMut(Pid, &[(u64, u8)]) -> io::Result<Numbers>> Reading<'_, Memory> {
    /// Adds the fields of an object to its process's batch; reads the batch first, if it is full.
    fn add(&mut self, shown: Option<usize>, one: &Other, kind: &ObjectType) {
        let Some(layout) = kind.layout(one.size) else { return };
        let waiting = self.batches.entry(one.pid).or_default();
        let full =
            (waiting.0.len() + layout.fields.len() > MAX_RANGES).then(|| std::mem::take(waiting));
        let (locations, wanted) = waiting;
        let mut first = true;
        let fields = layout.fields.iter();
        for field in fields.filter(|field| shown.is_some() || field.role.is_summed()) {
            locations.push((one.address.saturating_add(field.offset.into()), field.bytes));
            let (site, role, mask) = (one.site, field.role, field.mask);
            wanted.push(Wanted { shown, site, role, mask, first });
            first &= !role.is_summed();
        }
        if let Some(full) = full {
            self.read(one.pid, full);
        }
    }

    fn read(&mut self, pid: Pid, (locations, wanted): Batch) {
        if self.gone.contains(&pid) {
            return;
        }
        let Ok(numbers) = (self.memory)(pid, &locations) else {
            self.gone.insert(pid);
            return;
        };
        for (wanted, number) in wanted.iter().zip(numbers) {
            let Some(number) = number.map(|number| number & wanted.mask) else { continue };
            if let Some(one) = wanted.shown.and_then(|at| self.objects.shown.get_mut(at)) {
                set(&mut one.fields, wanted.role, number);
            }
            if wanted.role.is_summed()
                && let Some(site) = self.objects.sites.get_mut(&wanted.site)
            {
                add(site.summed.get_or_insert_default(), wanted, number);
            }
        }
    }
}

/// Queued bytes, if the value is plausible.
fn queued(number: u64) -> Option<u64> {
    Some(number).filter(|queued| *queued < MAX_QUEUED)
}

fn set(fields: &mut Fields, role: FieldRole, number: u64) {
    match role {
        // A negative number is no descriptor.
        FieldRole::Fd => {
            fields.fd = u32::try_from(number).ok().filter(|fd| i32::try_from(*fd).is_ok());
        }
        FieldRole::Queued => fields.queued = queued(number),
        FieldRole::References => {
            fields.references = Some(number).filter(|count| (1..MAX_REFERENCES).contains(count));
        }
        FieldRole::Pending => fields.pending = Some(number != 0),
        FieldRole::Owner => fields.owner = Some(number),
        FieldRole::Callback => {}
    }
}

fn add(sums: &mut FieldSums, wanted: &Wanted, number: u64) {
    sums.read += u64::from(wanted.first);
    match wanted.role {
        FieldRole::Queued => {
            if let Some(bytes) = queued(number) {
                *sums.queued.get_or_insert(0) += bytes;
            }
        }
        FieldRole::Pending => *sums.pending.get_or_insert(0) += u64::from(number != 0),
        FieldRole::Fd | FieldRole::References | FieldRole::Owner | FieldRole::Callback => {}
    }
}

/// Whether each of these objects is alive, by its memory; `None` if its process has ended. `memory` is as for [`read`].
pub(crate) fn alive(
    checked: &[Checked<'_>],
    mut memory: impl FnMut(Pid, &[(u64, u8)]) -> io::Result<Numbers>,
) -> Vec<Option<bool>> {
    let mut by_process: BTreeMap<Pid, Vec<usize>> = BTreeMap::new();
    for (index, one) in checked.iter().enumerate() {
        by_process.entry(one.handle.pid).or_default().push(index);
    }
    let mut alive = vec![None; checked.len()];
    for (pid, indices) in by_process {
        let mut locations = Vec::with_capacity(indices.len());
        // For each location: the object, the bits that count, and their value; `None` if any bit has to be set.
        let mut expected = Vec::with_capacity(indices.len());
        for index in indices {
            let Some(Checked { handle, check, known, .. }) = checked.get(index) else { continue };
            let at = |offset: u32| handle.value.saturating_add(offset.into());
            let (offset, bytes) = check.number;
            locations.push((at(offset), bytes));
            expected.push((index, check.mask, None));
            let word = check.word.zip(known.map(|(_, object)| object.word));
            let owner = check.owner.zip(known.map(|(_, object)| object.owner));
            for (offset, value) in [word, owner].into_iter().flatten() {
                locations.push((at(offset), 8));
                expected.push((index, u64::MAX, Some(value)));
            }
        }
        let Ok(numbers) = memory(pid, &locations) else { continue };
        for ((index, mask, value), number) in expected.into_iter().zip(numbers) {
            let number = number.map(|number| number & mask);
            let holds = match value {
                Some(value) => number == Some(value),
                None => number.is_some_and(|number| number != 0),
            };
            if let Some(alive) = alive.get_mut(index) {
                *alive = Some(alive.unwrap_or(true) && holds);
            }
        }
    }
    alive
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
