//! Sums of field values over all objects of a type: queued bytes, and the number of pending objects.
//!
//! Reads the targets' memory in as few system calls as possible. Objects that are not read are not counted; the
//! report says how many were read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::objects::queued;
use crate::{
    lib_objects::ledger::Objects,
    packs::{FieldRole, ObjectType},
    target::{Pid, memory},
};

/// The sums for one object type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Objects that were read.
    pub(super) read: u64,
    /// Queued bytes, if the type has such a field.
    pub(super) queued: Option<u64>,
    /// Pending objects, if the type has such a field.
    pub(super) pending: Option<u64>,
}

/// A field to read.
struct Wanted {
    kind: Arc<str>,
    role: FieldRole,
    mask: u64,
    /// Whether it is the object's first field.
    first: bool,
}

/// The fields of one target: addresses and lengths, and which field each is.
type Fields = (Vec<(u64, u8)>, Vec<Wanted>);

/// The sums by type; `kinds` are the types of the call sites.
pub(super) fn of(
    seen: &Objects,
    kinds: &HashMap<u32, Arc<ObjectType>>,
) -> BTreeMap<Arc<str>, Sums> {
    let mut places: BTreeMap<Pid, Fields> = BTreeMap::new();
    let shown = seen
        .shown
        .iter()
        .map(|one| (one.handle.pid, one.handle.value, one.block.size, one.block.site));
    let others = seen.others.iter().map(|one| (one.pid, one.address, one.size, one.site));
    for (pid, address, size, site) in shown.chain(others) {
        let Some(kind) = kinds.get(&site) else { continue };
        let Some(layout) = kind.layout(size) else { continue };
        let (addresses, wanted) = places.entry(pid).or_default();
        let mut first = true;
        for field in layout.fields.iter().filter(|field| field.role.is_summed()) {
            addresses.push((address.saturating_add(field.offset.into()), field.bytes));
            wanted.push(Wanted {
                kind: Arc::clone(&kind.name),
                role: field.role,
                mask: field.mask,
                first,
            });
            first = false;
        }
    }
    let mut sums: BTreeMap<Arc<str>, Sums> = BTreeMap::new();
    for (pid, (addresses, wanted)) in places {
        for (wanted, number) in wanted.iter().zip(memory::numbers(pid, &addresses)) {
            let Some(number) = number.map(|number| number & wanted.mask) else { continue };
            let sums = sums.entry(Arc::clone(&wanted.kind)).or_default();
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
    }
    sums
}

#[cfg(test)]
mod tests {
    use std::{hint::black_box, time::Instant};

    use super::*;
    use crate::{
        lib_objects::ledger::Other,
        packs::{Condition, Field, Layout, Pack},
    };

    fn kind(fields: Vec<Field>) -> Arc<ObjectType> {
        let text = "name = \"x\"\ntitle = \"x\"\nmarks = [\"f\"]\n[[kind]]\nname = \"k\"\nsentence = \"s\"\ncreated_by = [\"f\"]\n";
        let kind = Pack::parse("x.toml", text).unwrap().kinds.remove(0);
        Arc::new(ObjectType {
            layouts: vec![Layout { size: 136, fields, only_if: Condition::default() }],
            ..(*kind).clone()
        })
    }

    const fn field(role: FieldRole, offset: u32) -> Field {
        Field { role, offset, bytes: 8, mask: u64::MAX }
    }

    #[test]
    fn sums_skip_objects_that_are_unreadable_or_of_another_size() {
        let kind = kind(vec![
            field(FieldRole::References, 0),
            field(FieldRole::Queued, 24),
            field(FieldRole::Pending, 32),
        ]);
        // As many evbuffers as a busy server has.
        let memory: Vec<[u64; 17]> = (0..30_000_u64)
            .map(|at| {
                let mut one = [0; 17];
                one[3] = at;
                one[4] = at % 2;
                one
            })
            .collect();
        let other = |address, size| Other { pid: Pid::own(), address, size, site: 7 };
        let mut others: Vec<Other> =
            black_box(&memory).iter().map(|one| other(one.as_ptr() as u64, 136)).collect();
        others.insert(20_000, other(8, 136));
        others.insert(5, other(memory.as_ptr() as u64, 128));
        let seen = Objects { others, ..Objects::default() };
        let begun = Instant::now();
        let sums = of(&seen, &HashMap::from([(7, kind)]));
        println!("{} objects summed in {:?}", memory.len(), begun.elapsed());
        let all = Sums { read: 30_000, queued: Some(29_999 * 15_000), pending: Some(15_000) };
        assert_eq!(sums, BTreeMap::from([("k".into(), all)]));
    }
}
