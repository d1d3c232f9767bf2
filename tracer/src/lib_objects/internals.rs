//! What libraries acquire by themselves, often in threads of their own: which object it belongs to.
//!
//! Takes the ledger and the targets' mappings, and passes on [`Territories`]: the blocks that a library's code has
//! acquired, by process. Looking at them takes a while and is done by another thread; it passes on [`Internals`], sums by
//! object, which a tape has. Of a process with too many blocks nothing is known.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    time::Instant,
};

use tracer_common::kind::Kind;

use super::{
    fields::{ObjectUses, object_type},
    ledger::{Belongings, Internals},
    walk::{self, Part, Role},
};
use crate::{
    heap::ProcessMemory,
    ledger::{
        Ledger, Sum,
        events::{Handle, Site},
    },
    packs::{ObjectType, Pack},
    target::{
        Pid,
        mappings::{FileId, Mappings},
    },
};

/// The packs whose objects own what their library acquires, by the library's files.
pub type OwningPacks = BTreeMap<FileId, Arc<Pack>>;

/// Outstanding blocks of all targets that are looked through for those of a library: the collector does that, and must go on
/// draining; it takes about 0.1 s.
const MOST_BLOCKS: u64 = 1 << 20;

/// Frames in which a block's acquisition may be seen to be a library's: its own function calls the allocator, or an operator
/// of the language's runtime that does.
const FRAMES: usize = 3;

/// Objects whose belongings are passed on at most for each process: those with most bytes.
const MOST_OWNERS: usize = 1 << 10;

/// The blocks of one library in one process.
#[derive(Debug)]
pub(crate) struct Territory {
    pid: Pid,
    pack: Arc<Pack>,
    parts: Vec<Part>,
}

/// Those of all targets.
pub(crate) type Territories = Vec<Territory>;

/// The blocks to look at; none where no object is there that could own them. `mappings` gives those of each target.
pub(crate) fn territories(
    ledger: &Ledger,
    uses: &ObjectUses,
    packs: &OwningPacks,
    mappings: &BTreeMap<Pid, Arc<Mappings>>,
) -> Territories {
    if packs.is_empty() {
        return Vec::new();
    }
    let mut roles: HashMap<u32, (&Arc<Pack>, Option<Role>)> = HashMap::new();
    let mut outstanding = 0;
    let mut owners = false;
    for (number, site, tally) in ledger.sites() {
        outstanding += tally.outstanding().count;
        let Some(site) = site.filter(|site| !site.former && tally.outstanding().count > 0) else {
            continue;
        };
        let kind = object_type(ledger, uses, number);
        let Some(pack) = library(&site, kind, packs, mappings) else { continue };
        let role = kind.map(|kind| kind.owns_within.map_or(Role::Opaque, Role::Owner));
        owners |= matches!(role, Some(Role::Owner(_)));
        roles.insert(number, (pack, role));
    }
    if !owners || outstanding > MOST_BLOCKS {
        return Vec::new();
    }
    let mut all: BTreeMap<(Pid, &str), Territory> = BTreeMap::new();
    for (Handle { pid, value: address, .. }, block) in ledger.blocks(Kind::Heap) {
        let Some((pack, role)) = roles.get(&block.site) else { continue };
        let role = role.unwrap_or_else(|| role_of_size(pack, block.size));
        let territory = all.entry((pid, &pack.name)).or_insert_with(|| {
            let (pack, parts) = (Arc::clone(pack), Vec::new());
            Territory { pid, pack, parts }
        });
        territory.parts.push(Part { address, size: block.size, site: block.site, role });
    }
    let is_owned =
        |one: &Territory| one.parts.iter().any(|part| matches!(part.role, Role::Owner(_)));
    all.into_values().filter(is_owned).collect()
}

/// The library that a call site's blocks belong to.
fn library<'a>(
    site: &Site,
    kind: Option<&Arc<ObjectType>>,
    packs: &'a OwningPacks,
    mappings: &BTreeMap<Pid, Arc<Mappings>>,
) -> Option<&'a Arc<Pack>> {
    if let Some(kind) = kind {
        return packs.values().find(|pack| pack.name == kind.library);
    }
    let mappings = mappings.get(&site.pid)?;
    site.unwound.iter().take(FRAMES).find_map(|frame| {
        packs.get(&mappings.find(*frame).and_then(crate::target::mappings::Mapping::file)?)
    })
}

/// What a block is that no constructor has made.
fn role_of_size(pack: &Pack, size: u64) -> Role {
    match pack.kinds.iter().find(|kind| kind.blocks.contains(&size)) {
        Some(kind) if kind.queue.is_some() => Role::Piece,
        Some(_) => Role::Opaque,
        None => Role::Structure,
    }
}

/// Looks at them, within a share of one processor's time.
pub(crate) fn look(territories: Territories, share: f64, deadline: Instant) -> Internals {
    let mut all = Internals::default();
    for territory in territories {
        let pid = territory.pid;
        // Of a process that has ended, or whose memory may not be read, nothing is known.
        let Ok(Some(owned)) = look_at(territory, share, deadline) else { continue };
        all.0.entry(pid).or_default().extend(owned);
    }
    all
}

fn look_at(
    territory: Territory,
    share: f64,
    deadline: Instant,
) -> io::Result<Option<Vec<Belongings>>> {
    let Territory { pid, pack, parts } = territory;
    let memory = ProcessMemory::open(pid, share)?.until(deadline);
    let queue = pack.kinds.iter().find_map(|kind| kind.queue);
    let mut owned = walk::belongings(&memory, parts, queue);
    // What was not read in time looks like nobody's.
    if memory.is_over() {
        return Ok(None);
    }
    owned.truncate(MOST_OWNERS);
    Ok(Some(owned.into_iter().map(summed).collect()))
}

fn summed(found: walk::Belongings) -> Belongings {
    let walk::Belongings { owner, site, blocks, messages } = found;
    let one = |(site, Sum { count, bytes }): (u32, Sum)| (site, count, bytes);
    Belongings { owner, site, blocks: blocks.into_iter().map(one).collect(), messages }
}
