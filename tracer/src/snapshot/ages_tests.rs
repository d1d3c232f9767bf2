//! Bins compared with the ages in them, and both age encodings compared with sorted ages.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tracer_common::kind::Kind;

use super::*;
use crate::{
    ledger::events::{Block, Event, Handle},
    snapshot::site_figures,
    target::Pid,
};

/// The error bound in the documentation, in percent.
const WITHIN: f64 = 1.6;

fn is_near(shown_ms: u32, true_ms: u32) -> bool {
    f64::from(shown_ms.abs_diff(true_ms)) <= f64::from(true_ms) * WITHIN / 100.0
}

#[test]
fn bins_begin_where_others_end() {
    let mut last = 0;
    for age_ms in 1..1_u32 << 20 {
        let bin = <u16 as AgeEncoding>::of(age_ms);
        assert!(bin == last || bin == last + 1, "{age_ms}");
        last = bin;
    }
    assert_eq!(<u16 as AgeEncoding>::of(u32::MAX).age_ms() >> 26, 63);
}

/// A ledger of blocks with the given sites and ages, and the ages by site.
fn ledger(blocks: &[(u32, u32)]) -> (Ledger, u64, BTreeMap<u32, Vec<u32>>) {
    let now_ns = 10_000_000_000_000;
    let mut ledger = Ledger::default();
    let mut ages: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (value, (site, age_ms)) in (0x1000_u64..).step_by(16).zip(blocks) {
        let time_ns = now_ns - u64::from(*age_ms) * 1_000_000;
        let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
        let block = Block { size: 10, time_ns, position: 0, site: *site, connection: 0 };
        ledger.apply(Event::Acquired { handle, block });
        ages.entry(*site).or_default().push(*age_ms);
    }
    ages.values_mut().for_each(|ages| ages.sort_unstable());
    (ledger, now_ns, ages)
}

proptest! {
    #[test]
    fn the_middle_of_a_bin_is_near_every_age_in_it(age_ms in any::<u32>()) {
        prop_assert!(is_near(<u16 as AgeEncoding>::of(age_ms).age_ms(), age_ms));
    }

    /// Both encodings, with sites of few ages and of many.
    #[test]
    fn everything_is_exact_but_the_median_of_bins(
        blocks in proptest::collection::vec((1_u32..4, 0_u32..100_000), 1..300),
        heavy in proptest::collection::vec(0_u32..3000, 0..2000),
        least_ms in prop_oneof![Just(0_u32), 1..5000_u32],
    ) {
        let heavy = heavy.into_iter().map(|age_ms| (9, age_ms));
        let blocks: Vec<_> = blocks.into_iter().chain(heavy).collect();
        let (ledger, now_ns, ages) = ledger(&blocks);
        let min_age_ns = u64::from(least_ms) * 1_000_000;
        let exact = site_figures(&ledger, now_ns, min_age_ns, || {});
        let mut coarse = exact.clone();
        add::<u16>(&ledger, &mut coarse, now_ns, min_age_ns, || {});
        for (exact, coarse) in exact.iter().zip(&coarse) {
            let ages = &ages[&exact.number];
            let old = &ages[ages.partition_point(|age| *age < least_ms)..];
            prop_assert_eq!(exact.aged.count, old.len() as u64);
            prop_assert_eq!(exact.aged, coarse.aged);
            let (Some(sure), Some(near)) = (exact.ages, coarse.ages) else {
                prop_assert!(old.is_empty() && exact.ages.is_none() && coarse.ages.is_none());
                continue;
            };
            prop_assert_eq!(sure.median_ms, old[old.len() / 2]);
            prop_assert_eq!((sure.min_ms, sure.max_ms), (old[0], old[old.len() - 1]));
            prop_assert_eq!((near.min_ms, near.max_ms), (sure.min_ms, sure.max_ms));
            prop_assert!(is_near(near.median_ms, sure.median_ms), "{near:?} for {sure:?}");
        }
    }
}
