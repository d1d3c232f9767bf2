//! Random numbers for tests, the same for the same seed on every machine, and lives of simulated resources.

use std::sync::Arc;

use tracer_common::kind::Kind;

use crate::{
    ledger::{
        Ledger, Lives,
        events::{Block, Event, Handle},
    },
    target::Pid,
};

/// A small generator (xorshift, seeded by splitmix).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((mixed ^ (mixed >> 31)).max(1))
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform between two numbers.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Whether an event of this probability happens.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Normal with mean 0 and variance 1.
    pub(crate) fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// Exponential with this mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.uniform()).ln()
    }
}

/// The lives of resources that were acquired at a time and released after another, both in seconds; and the time now on
/// their clock.
pub(crate) fn lives(resources: impl Iterator<Item = (f64, f64)>, now_s: f64) -> (Arc<Lives>, u32) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small, not negative"
    )]
    let ns = |seconds: f64| ((seconds + 100.0) * 1e9) as u64;
    let mut events = Vec::new();
    for (value, (at_s, lives_s)) in (1_u64..).zip(resources) {
        let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
        let (time_ns, ended_ns) = (ns(at_s), ns(at_s + lives_s));
        let block = Block { size: 10, time_ns, position: 0, site: 1, connection: 0 };
        events.push((time_ns, Event::Acquired { handle, block }));
        let released = Event::Released {
            handle,
            size: 0,
            position: 0,
            time_ns: ended_ns,
            caller: 0,
            resizing: None,
        };
        events.push((ended_ns, released));
    }
    events.sort_by_key(|(time_ns, _)| *time_ns);
    let mut ledger = Ledger::default();
    for (time_ns, event) in events {
        if time_ns <= ns(now_s) {
            ledger.apply(event);
        }
    }
    let now_ms = (ns(now_s) - ledger.lives_origin_ns()) / 1_000_000;
    (ledger.lives(1).unwrap(), u32::try_from(now_ms).unwrap())
}
