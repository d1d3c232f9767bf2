//! Estimates against the true figures.

use super::*;
use crate::snapshot::windows::{OverheadReading, PaceError};

/// A small deterministic random number generator (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn scale(recorded_ns: [u64; BATCHES], elapsed_ns: u64, pace: f64) -> Scale {
    Scale::new(&Sampling {
        recorded_ns,
        counted_ns: recorded_ns,
        elapsed_ns,
        windows: 16,
        estimated: true,
        overhead: OverheadReading { budget: 0.05, pace: Some(pace), ..OverheadReading::default() },
    })
}

/// By batch: the first window, and the same value for all others.
fn first_and<T: Copy>(first: T, others: T) -> [T; BATCHES] {
    let mut all = [others; BATCHES];
    all[0] = first;
    all
}

#[test]
fn exact_when_everything_is_recorded() {
    let scale = scale(first_and(200, 50), 1000, 1.0);
    let mut values = first_and(7, 0);
    values[3] = 90;
    values[9] = 3;
    assert_eq!(scale.ratio(values, &scale.recorded.clone()), (100, Some(0)));
}

#[test]
fn the_first_window_stands_for_itself() {
    // 16 in the first 100, none in the sample of the other 900.
    let scale = scale(first_and(100, 1), 1000, 1.0);
    assert_eq!(scale.ratio(first_and(16, 0), &scale.recorded.clone()), (16, Some(0)));
}

#[test]
fn too_few_windows_have_no_error() {
    let mut recorded = first_and(100, 0);
    let first = scale(recorded, 1000, 1.0);
    assert_eq!(first.ratio(first_and(7, 0), &first.recorded.clone()), (70, None));
    recorded[1] = 100;
    let second = scale(recorded, 1000, 1.0);
    let mut values = first_and(7, 0);
    values[1] = 5;
    assert_eq!(second.ratio(values, &second.recorded.clone()), (7 + 45, None));
}

#[test]
fn half_the_pace_counts_half_the_time() {
    // 17 windows of 10 at half the pace: 5 of work in the first, 80 of 910 in the others.
    let scale = scale([10; BATCHES], 1000, 0.5);
    let (value, error) = scale.ratio([4; BATCHES], &scale.recorded.clone());
    assert_eq!((value, error), (732, Some(0)));
}

#[test]
fn intervals_cover_the_true_value_95_percent_of_the_time() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd15);
    let (mut held, mut sum_of_estimates, mut sum_of_truths) = (0_u32, 0.0, 0.0);
    let rounds = 400;
    for _ in 0..rounds {
        // Ten thousand time slices with bursts; 160 are sampled, one from each part.
        let burst = |numbers: &mut Numbers| {
            let most = if numbers.below(10) == 0 { 50 } else { 5 };
            numbers.below(most)
        };
        let slices: Vec<u64> = (0..10_080).map(|_| burst(&mut numbers)).collect();
        let truth: u64 = slices.iter().sum();
        let mut seen = [0; BATCHES];
        for (at, part) in slices.chunks(63).enumerate() {
            seen[1 + at % (BATCHES - 1)] += part[usize::try_from(numbers.below(63)).unwrap()];
        }
        let scale = scale(first_and(0, 10), 10_080, 1.0);
        let (value, error) = scale.ratio(seen, &scale.recorded.clone());
        held += u32::from(value.abs_diff(truth) <= error.unwrap());
        sum_of_estimates += value as f64;
        sum_of_truths += truth as f64;
    }
    // 95 %, within what 400 rounds may deviate by chance.
    assert!((rounds * 91 / 100..=rounds * 99 / 100).contains(&held), "{held} of {rounds}");
    let bias = sum_of_estimates / sum_of_truths;
    assert!((0.98..1.02).contains(&bias), "estimates are {bias} of the truth on average");
}

#[test]
fn released_never_exceeds_acquired() {
    let mut batches = Batches::default();
    batches.acquired[0] = Sum { count: 5, bytes: 50 };
    batches.outstanding[0] = Sum { count: 5, bytes: 50 };
    let sampling = Sampling {
        recorded_ns: first_and(100, 0),
        counted_ns: first_and(100, 0),
        elapsed_ns: 1000,
        windows: 1,
        estimated: true,
        overhead: OverheadReading::default(),
    };
    let site = crate::snapshot::SiteFigures {
        number: 1,
        acquired: Sum { count: 5, bytes: 50 },
        outstanding: Sum { count: 5, bytes: 50 },
        aged: Sum { count: 5, bytes: 50 },
        batches: Some(Box::new(batches)),
        ..crate::snapshot::SiteFigures::default()
    };
    let snapshot = Snapshot { sites: vec![site], sampling: Some(sampling), ..Snapshot::default() };
    let estimated = estimate(&snapshot).unwrap();
    let site = &estimated.snapshot.sites[0];
    assert_eq!((site.outstanding.count, site.acquired.count, site.released.count), (50, 50, 0));
    assert_eq!(site.aged, site.outstanding);
    assert_eq!(estimated.errors(1).outstanding, None);
    let exact = Snapshot { sampling: Some(Sampling { estimated: false, ..sampling }), ..snapshot };
    assert!(estimate(&exact).is_none());
}

#[test]
fn an_uncertain_pace_widens_the_error() {
    let recorded = first_and(0, 10);
    let reading =
        |pace_error| OverheadReading { pace: Some(0.5), pace_error, ..OverheadReading::default() };
    let error = |pace_error| {
        let scale = Scale::new(&Sampling {
            recorded_ns: recorded,
            counted_ns: recorded,
            elapsed_ns: 1_600,
            windows: 17,
            estimated: true,
            overhead: reading(pace_error),
        });
        // The windows are alike: only the pace can be wrong. 160 of 1,600 are recorded, at half the pace.
        scale.ratio(first_and(0, 100), &scale.recorded.clone())
    };
    assert_eq!(error(None), (30_400, Some(0)));
    let off = |stretches| Some(PaceError { relative: 0.1, stretches });
    // Student's quantile for two batches is 12.706, for sixteen and more 2.131; 28,800 were not recorded.
    assert_eq!(error(off(2)), (30_400, Some(36_593)));
    assert_eq!(error(off(16)), (30_400, Some(6_137)));
    assert_eq!(error(off(1_000)), (30_400, Some(6_137)));
}
