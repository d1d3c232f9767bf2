//! Parts of objects: resources acquired inside an object's constructor. Recognized by their stacks: the frames of the
//! constructor's caller, and of everything above it, follow the constructor's own frames.

use std::collections::HashMap;

use crate::snapshot::SiteFigures;

/// Outstanding bytes of parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Of blocks that are not objects themselves.
    pub(super) blocks: u64,
    /// Of objects.
    pub(super) objects: u64,
}

impl Parts {
    /// Of both.
    pub(super) const fn bytes(self) -> u64 {
        self.blocks + self.objects
    }
}

/// The parts by the number of the constructor's call site; takes the [`owners`].
pub(super) fn of(
    sites: &[SiteFigures],
    owners: &HashMap<u32, u32>,
    is_object: impl Fn(&SiteFigures) -> bool,
) -> HashMap<u32, Parts> {
    let mut parts = HashMap::<u32, Parts>::new();
    for site in sites.iter().filter(|site| site.aged.bytes > 0) {
        if let Some(constructor) = owners.get(&site.number) {
            let parts = parts.entry(*constructor).or_default();
            let sum = if is_object(site) { &mut parts.objects } else { &mut parts.blocks };
            *sum += site.aged.bytes;
        }
    }
    parts
}

/// The constructor's call site of each call site whose resources are parts of objects, by number. `is_object` says which
/// call sites create objects. A resource acquired in nested constructors is part of the innermost one's object.
pub(super) fn owners(
    sites: &[SiteFigures],
    is_object: impl Fn(&SiteFigures) -> bool,
) -> HashMap<u32, u32> {
    let constructors: HashMap<(u32, u64), u32> = sites
        .iter()
        .filter(|site| is_object(site) && !site.frames.is_empty())
        .map(|site| ((site.image, site.frames.iter().rev().copied().fold(0, digest)), site.number))
        .collect();
    let mut owners = HashMap::new();
    if constructors.is_empty() {
        return owners;
    }
    for site in sites.iter().filter(|site| site.aged.count > 0) {
        let mut innermost = None;
        let mut so_far = 0;
        for frame in site.frames.iter().skip(1).rev().copied() {
            so_far = digest(so_far, frame);
            innermost = constructors.get(&(site.image, so_far)).or(innermost);
        }
        if let Some(constructor) = innermost {
            owners.insert(site.number, *constructor);
        }
    }
    owners
}

/// Extends the hash of a stack by one frame, from the outermost inward.
fn digest(so_far: u64, frame: u64) -> u64 {
    (so_far.rotate_left(9) ^ frame).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracer_common::stack::StackEnd;

    use super::*;
    use crate::{ledger::Sum, target::Pid};

    fn site(number: u32, detail: u8, frames: &[u64]) -> SiteFigures {
        SiteFigures {
            number,
            pid: Some(Pid(1)),
            probe: Some(0),
            detail,
            frames: Arc::from(frames),
            end: StackEnd::Bottom,
            aged: Sum { count: 1, bytes: 1 << number },
            ..SiteFigures::default()
        }
    }

    #[test]
    fn a_block_belongs_to_the_innermost_constructor_call() {
        let sites = [
            // Constructed by handler (30), called by main (40), and one inside that constructor.
            site(0, 1, &[30, 40]),
            site(1, 1, &[20, 30, 40]),
            site(2, 0, &[25, 30, 40]),
            site(3, 0, &[10, 20, 30, 40]),
            // The handler's own, another caller's, and another program's.
            site(4, 0, &[30, 40]),
            site(5, 0, &[25, 31, 40]),
            SiteFigures { image: 2, ..site(6, 0, &[25, 30, 40]) },
        ];
        let is_object = |site: &SiteFigures| site.detail == 1;
        let parts = of(&sites, &owners(&sites, is_object), is_object);
        let of_first = Parts { blocks: 1 << 2, objects: 1 << 1 };
        let of_second = Parts { blocks: 1 << 3, objects: 0 };
        assert_eq!(parts, HashMap::from([(0, of_first), (1, of_second)]));
    }
}
