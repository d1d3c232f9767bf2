//! Which objects own what: what was acquired inside their constructors, as the stacks show, and what their library has
//! acquired by itself, as the targets' memory shows. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::parts::{self, Parts};
use crate::{
    ledger::Sum,
    lib_objects::ledger::{Messages, Owner},
    packs::{ObjectType, Word},
    report::{self, Address, Amount, FindingOwner},
    snapshot::{SiteFigures, Snapshot},
};

/// Objects that are described for each call site: those with most bytes.
const DESCRIBED: usize = 5;

/// Who owns what.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// By number of a call site: the constructor's call site in whose stack it is.
    pub(super) by_stack: HashMap<u32, u32>,
    /// The parts of a constructor's objects by number of its call site.
    pub(super) parts: HashMap<u32, Parts>,
    /// By number of a call site at which a library has acquired blocks by itself: that of the objects to which most of them
    /// belong.
    pub(super) by_memory: HashMap<u32, u32>,
    /// By number of a call site of objects: those with most bytes, and how many there are.
    pub(super) described: HashMap<u32, (Vec<FindingOwner>, u64)>,
}

impl Owners {
    /// Those of a snapshot. `kinds` are the types of the objects of call sites.
    pub(super) fn of(snapshot: &Snapshot, kinds: &HashMap<u32, Arc<ObjectType>>) -> Self {
        let sites = &snapshot.sites;
        let is_object = |site: &SiteFigures| kinds.contains_key(&site.number);
        let by_stack = parts::owners(sites, is_object);
        let parts = parts::of(sites, &by_stack, is_object);
        let mut counts: HashMap<u32, BTreeMap<u32, u64>> = HashMap::new();
        let mut described: HashMap<u32, (Vec<FindingOwner>, u64)> = HashMap::new();
        for owner in snapshot.objects.iter().flat_map(|all| &all.owners) {
            let Some(kind) = kinds.get(&owner.owned.site) else { continue };
            for (site, count, _) in &owner.owned.blocks {
                *counts.entry(*site).or_default().entry(owner.owned.site).or_default() += count;
            }
            let (all, number) = described.entry(owner.owned.site).or_default();
            all.push(description(owner, kind));
            *number += 1;
        }
        for (all, _) in described.values_mut() {
            all.sort_by_key(|one| (Reverse(one.internals.bytes), one.pid, one.address.0));
            all.truncate(DESCRIBED);
        }
        let outstanding: HashMap<u32, u64> =
            sites.iter().map(|site| (site.number, site.outstanding.count)).collect();
        let most = |(part, by_owner): (u32, BTreeMap<u32, u64>)| {
            let (owner, count) = by_owner.into_iter().max_by_key(|(_, count)| *count)?;
            // What another object owns, or none, has another cause.
            (2 * count >= *outstanding.get(&part)?).then_some((part, owner))
        };
        let by_memory = counts.into_iter().filter_map(most).collect();
        Self { by_stack, parts, by_memory, described }
    }
}

/// What belongs to an object.
pub(super) fn internals(owner: &Owner) -> Amount {
    let sum = owner.owned.blocks.iter().fold(Sum::default(), |mut sum, (_, count, bytes)| {
        sum.merge(Sum { count: *count, bytes: *bytes });
        sum
    });
    Amount { count: sum.count, bytes: sum.bytes }
}

/// Its messages.
pub(super) fn messages(owner: &Owner) -> Option<report::Messages> {
    let Messages { waiting, received, unsent } = owner.owned.messages?;
    Some(report::Messages { waiting, received, unsent })
}

fn description(owner: &Owner, kind: &ObjectType) -> FindingOwner {
    let word = match &kind.word {
        Word::Number(words) => words.iter().find(|(number, _)| *number == owner.word),
        Word::Function | Word::None => None,
    };
    FindingOwner {
        kind: kind.name.to_string(),
        object_type: word.map(|(_, name)| name.clone()),
        name: Some(&owner.text).filter(|text| !text.is_empty()).cloned(),
        pid: owner.pid.0,
        address: Address(owner.owned.owner),
        internals: internals(owner),
        messages: messages(owner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lib_objects::ledger::{Belongings, Objects},
        packs::Pack,
        target::Pid,
    };

    /// An object of call site 1 or 2, with blocks of call sites.
    fn owner(address: u64, site: u32, blocks: &[(u32, u64, u64)]) -> Owner {
        let messages = Some(Messages { waiting: 7, received: 2, unsent: 0 });
        let owned = Belongings { owner: address, site, blocks: blocks.to_vec(), messages };
        Owner { pid: Pid(7), word: 3, text: "tcp://*:1".to_owned(), owned }
    }

    #[test]
    fn a_call_site_belongs_to_the_objects_that_own_at_least_half_of_its_blocks() {
        let text = "name = \"q\"\ntitle = \"q\"\nmarks = [\"q_new\"]\n[[kind]]\nname = \"q\"\nsentence = \"s\"\n\
            created_by = [{ function = \"q_new\", type = 0 }]\n[kind.types]\n3 = \"PULL\"\n";
        let kind = &Pack::parse("q.toml", text).unwrap().kinds[0];
        let kinds = HashMap::from([(1, Arc::clone(kind)), (2, Arc::clone(kind))]);
        let site = |number, count| SiteFigures {
            number,
            outstanding: Sum { count, bytes: 10 * count },
            ..SiteFigures::default()
        };
        let owners = vec![
            owner(0x10, 1, &[(5, 4, 40), (6, 1, 10)]),
            owner(0x20, 1, &[(5, 2, 20)]),
            owner(0x30, 2, &[(5, 3, 30), (6, 4, 40)]),
            // Of no pack's type.
            owner(0x40, 3, &[(7, 9, 90)]),
        ];
        let snapshot = Snapshot {
            sites: vec![site(5, 9), site(6, 11), site(7, 9)],
            objects: Some(Objects { owners, ..Objects::default() }),
            ..Snapshot::default()
        };
        let found = Owners::of(&snapshot, &kinds);
        assert_eq!(found.by_memory, HashMap::from([(5, 1)]));
        let (described, count) = &found.described[&1];
        assert_eq!((described.len(), *count), (2, 2));
        assert_eq!(described[0].label(), "the PULL q at tcp://*:1");
        assert_eq!(described[0].internals, Amount { count: 5, bytes: 50 });
        assert_eq!(described[0].messages.map(|messages| messages.waiting), Some(7));
    }
}
