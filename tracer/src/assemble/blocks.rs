//! Heap blocks that a library allocates internally, without a function of its own: recognized by their size and by
//! the library whose code allocates them.

use std::{collections::HashMap, sync::Arc};

use super::{Member, names::Names};
use crate::{
    packs::{ObjectType, Pack},
    probes::Probe,
    snapshot::SiteFigures,
    target::mappings::FileId,
};

/// Block sizes that packs declare.
#[derive(Debug, Default)]
pub struct Blocks {
    by_size: HashMap<u64, Vec<Arc<ObjectType>>>,
}

impl Blocks {
    /// Collects the block sizes of all object types.
    pub fn of(packs: &[Pack]) -> Self {
        let mut by_size = HashMap::<u64, Vec<_>>::new();
        for kind in packs.iter().flat_map(|pack| &pack.kinds) {
            for size in &kind.blocks {
                by_size.entry(*size).or_default().push(Arc::clone(kind));
            }
        }
        Self { by_size }
    }

    /// The object type of a call site's blocks, if all have one size; `has` says whether the allocating code belongs
    /// to a library.
    fn kind(
        &self,
        (count, bytes): (u64, u64),
        has: impl Fn(&str) -> bool,
    ) -> Option<&Arc<ObjectType>> {
        let size = bytes.checked_div(count).filter(|size| size.saturating_mul(count) == bytes)?;
        self.by_size.get(&size)?.iter().find(|kind| has(&kind.library))
    }

    /// The object type that a call site's blocks have by their size.
    pub(super) fn type_of(
        &self,
        site: &SiteFigures,
        names: &Names,
        probes: &[Probe],
    ) -> Option<&Arc<ObjectType>> {
        let (acquired, caller) = (site.acquired, site.frames.first().filter(|_| !site.former)?);
        let file = || names.file(site.pid?, *caller);
        self.kind((acquired.count, acquired.bytes), |library| {
            file().is_some_and(|file| has(probes, file, library))
        })
    }
}

/// Whether a call site with this probe allocates objects inside the library's own structures: the library's code is the
/// caller. (Unknown if the library is linked into the executable.)
pub(super) fn is_library_internal(
    site: &SiteFigures,
    probe: Option<&Probe>,
    names: &Names,
    probes: &[Probe],
    targets: &[Member],
) -> bool {
    let Some(of) = probe.and_then(|probe| probe.function.object.as_ref()) else {
        return false;
    };
    let caller = || names.file(site.pid?, *site.frames.first()?);
    of.is_by_memory()
        && !site.former
        && caller().is_some_and(|file| {
            has(probes, file, &of.kind.library) && !is_executable(file, site, probes, targets)
        })
}

fn is_executable(file: FileId, site: &SiteFigures, probes: &[Probe], targets: &[Member]) -> bool {
    let paths = probes.iter().filter_map(|probe| probe.object.as_ref());
    let path = paths.filter(|(of, _)| *of == file).map(|(_, path)| path).next();
    let member = targets.iter().find(|member| Some(member.identity.pid) == site.pid);
    path.and_then(|path| path.to_str()) == member.and_then(|one| one.identity.exe.as_deref())
}

/// Whether any probe is on a function of this library in a file.
fn has(probes: &[Probe], file: FileId, library: &str) -> bool {
    probes.iter().any(|probe| {
        probe.object.as_ref().is_some_and(|(of, _)| *of == file)
            && probe.function.object.as_ref().is_some_and(|of| *of.kind.library == *library)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_recognized_by_size_and_library() {
        let text = "name = \"q\"\ntitle = \"q\"\nmarks = [\"q_new\"]\n[[kind]]\nname = \"q_chunk\"\nsentence = \"s\"\nblocks = [64, 96]\n";
        let blocks = Blocks::of(&[Pack::parse("q.toml", text).unwrap()]);
        let found = |amount, library: &str| {
            blocks.kind(amount, |one| one == library).map(|kind| kind.name.to_string())
        };
        assert_eq!(found((3, 192), "q").as_deref(), Some("q_chunk"));
        assert_eq!(found((1, 96), "q").as_deref(), Some("q_chunk"));
        for (amount, library) in [((3, 192), "r"), ((2, 160), "q"), ((3, 193), "q"), ((0, 0), "q")]
        {
            assert_eq!(found(amount, library), None, "{amount:?}");
        }
    }
}
