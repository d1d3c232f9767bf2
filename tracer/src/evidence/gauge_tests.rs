//! Rises of made-up amounts: steady ones, those of chance, and those of servers on which nothing rises.

use super::*;
use crate::evidence::random::Random;

fn pushed(amounts: impl IntoIterator<Item = u64>) -> Gauge {
    let mut gauge = Gauge::default();
    amounts.into_iter().zip(0..).for_each(|(amount, at)| gauge.push(at * 1000, amount));
    gauge
}

/// Connections that come by chance, stay for a while, and go.
struct Visitors {
    random: Random,
    until: Vec<f64>,
    mean: f64,
    stay_s: f64,
}

impl Visitors {
    fn new(seed: u64, mean: f64, stay_s: f64) -> Self {
        let mut random = Random::new(seed);
        // The usual number from the beginning.
        let until = std::iter::repeat_with(|| random.exponential(stay_s)).take(mean as usize);
        let until = until.collect();
        Self { random, until, mean, stay_s }
    }

    /// How many there are after so many seconds from this time on.
    fn open(&mut self, from_s: f64, seconds: f64) -> usize {
        let mut at_s = from_s + self.random.exponential(self.stay_s / self.mean);
        while at_s < from_s + seconds {
            self.until.push(at_s + self.random.exponential(self.stay_s));
            at_s += self.random.exponential(self.stay_s / self.mean);
        }
        self.until.retain(|until| *until > from_s + seconds);
        self.until.len()
    }
}

/// How often an amount seems to rise, of so many looks, at every third second.
fn rises(seconds: u32, mut amount: impl FnMut(u32) -> f64) -> (u32, u32) {
    let mut gauge = Gauge::default();
    let (mut rises, mut looks) = (0, 0);
    for at in 0..seconds {
        gauge.push(at * 1000, amount(at).max(0.0).round() as u64);
        if at % 3 == 0 {
            rises += u32::from(gauge.rise().is_some());
            looks += 1;
        }
    }
    (rises, looks)
}

#[test]
fn a_steady_rise_is_exact() {
    let rise = pushed((0..40).map(|at| 100 + 3 * at)).rise().unwrap();
    let Slope { per_s, low, high } = rise.slope;
    assert!((per_s - 3.0).abs() < 1e-9 && (low - 3.0).abs() < 1e-6 && (high - 3.0).abs() < 1e-6);
    assert!((rise.over_s - 39.0).abs() < 1e-9);
    // Over minutes, too: one descriptor every seven seconds.
    let rise = pushed((0..900).map(|at| 12 + at / 7)).rise().unwrap();
    assert!((rise.slope.low..=rise.slope.high).contains(&(1.0 / 7.0)), "{rise:?}");
    assert!(rise.slope.high - rise.slope.low < 0.03 && rise.over_s > 500.0, "{rise:?}");
}

#[test]
fn what_stands_still_falls_or_is_new_does_not_rise() {
    assert_eq!(pushed([7; 100]).rise(), None);
    assert_eq!(pushed((0..100).map(|at| 1000 - at)).rise(), None);
    assert_eq!(pushed((0..9).map(|at| at * 5)).rise(), None);
    assert!(pushed((0..10).map(|at| at * 5)).rise().is_some());
}

#[test]
fn a_cache_that_is_full_stops_rising() {
    let fills = |seconds: u64| pushed((0..seconds).map(|at| 50 + 2 * at.min(90)));
    assert!(fills(60).rise().is_some());
    for seconds in [110, 130, 200, 400, 1000] {
        assert_eq!(fills(seconds).rise(), None, "{seconds}");
    }
}

#[test]
fn a_rise_in_steps_goes_on_between_them() {
    for every in [3, 10, 25] {
        let gauge = |seconds: u64| pushed((0..seconds).map(|at| 12 + at / every));
        for seconds in 580..610 {
            let rise = gauge(seconds).rise().unwrap();
            let truth = 1.0 / every as f64;
            let covered = (rise.slope.low..=rise.slope.high).contains(&truth);
            assert!(covered, "{every} {seconds}: {rise:?}");
        }
    }
}

#[test]
fn what_begins_to_rise_has_the_slope_since_then() {
    let gauge = pushed((0..630_u64).map(|at| 300 + at.saturating_sub(600) * 4));
    let rise = gauge.rise().unwrap();
    assert!((rise.slope.per_s - 4.0).abs() < 0.1 && rise.over_s < 35.0, "{rise:?}");
}

/// Of the looks at servers on which nothing rises, fewer than one in a thousand may find a rise.
#[test]
fn idle_servers_do_not_seem_to_rise() {
    let (mut wrong, mut all) = (0, 0);
    let mut count = |(rises, looks)| {
        wrong += rises;
        all += looks;
    };
    for seed in 0..3 {
        for (mean, stay_s) in
            [(50.0, 2.0), (50.0, 30.0), (50.0, 120.0), (10.0, 60.0), (300.0, 20.0)]
        {
            let mut visitors = Visitors::new(seed, mean, stay_s);
            count(rises(600, |at| visitors.open(at.into(), 1.0) as f64));
        }
        let mut random = Random::new(seed);
        count(rises(600, |_| 100.0 + 3.0 * random.normal()));
        count(rises(600, |_| if random.chance(0.05) { 13.0 } else { 12.0 }));
        let mut open = 100.0;
        count(rises(600, |_| {
            open +=
                f64::from(u8::from(random.chance(0.01))) - f64::from(u8::from(random.chance(0.01)));
            open
        }));
        let mut bytes = 1e9;
        count(rises(600, |_| {
            bytes += 40_960.0 * random.normal();
            bytes
        }));
    }
    assert!(wrong * 1000 < all, "{wrong} of {all}");
}

#[test]
fn a_sawtooth_rises_in_its_first_tooth_only() {
    for period in [7, 20, 45, 90, 240] {
        let mut random = Random::new(period.into());
        let mut amount = |at: u32| 100.0 + f64::from(at % period) + 0.05 * random.normal();
        let mut gauge = Gauge::default();
        for at in 0..4 * period {
            gauge.push(at * 1000, amount(at).round() as u64);
            let rises = at > period && gauge.rise().is_some();
            assert!(!rises, "{period}: after {at} s");
        }
    }
}

/// Resources that leak by chance, among others that come and go: the interval has the true rate in about 95 of 100 cases.
#[test]
fn the_interval_covers_the_true_rate() {
    for (rate, visitors, noise) in
        [(1.0, None, 0.0), (5.0, None, 0.0), (3.0, Some((20.0, 5.0)), 0.0), (3.0, None, 5.0)]
    {
        let (mut shown, mut covered) = (0_u32, 0_u32);
        for seed in 0..100 {
            let mut visitors = visitors.map(|(mean, stay_s)| Visitors::new(seed, mean, stay_s));
            let mut random = Random::new(seed + 1000);
            let (mut leaked, mut next_s) = (0.0, random.exponential(1.0 / rate));
            let seconds = 45 + u32::try_from(seed % 5).unwrap() * 30;
            let gauge = pushed((0..seconds).map(|at| {
                while next_s < f64::from(at) {
                    leaked += 1.0;
                    next_s += random.exponential(1.0 / rate);
                }
                let others = visitors.as_mut().map_or(0, |all| all.open(at.into(), 1.0)) as f64;
                (50.0 + leaked + others + noise * random.normal()).max(0.0).round() as u64
            }));
            if let Some(rise) = gauge.rise() {
                shown += 1;
                covered += u32::from((rise.slope.low..=rise.slope.high).contains(&rate));
            }
        }
        assert!(shown >= 95, "{rate} {noise}: {shown} of 100");
        // 95 percent, less what 100 cases may deviate by chance.
        assert!(covered * 100 >= shown * 89, "{rate} {noise}: {covered} of {shown}");
    }
}

#[test]
fn another_amount_is_compared_over_the_same_time() {
    let rise = pushed((0..80).map(|at| 1000 + 10 * at)).rise().unwrap();
    let half = pushed((0..80).map(|at| 4000 + 5 * at)).slope_over(&rise).unwrap();
    assert!((half / rise.slope.per_s - 0.5).abs() < 1e-9);
}
