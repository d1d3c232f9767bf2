//! Sums over all call sites of a report, made once when it comes: the header reads them on each draw.
//!
//! Pure: takes a report, hands on a [`Digest`].

use std::collections::BTreeMap;

use tracer_common::kind::Kind;

use crate::report::{Report, VerdictClass};

/// What the screen needs to know about a report as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Digest {
    /// Growth by kind, bytes per second; without call sites too young to tell.
    pub growth: BTreeMap<Kind, f64>,
    /// Outstanding bytes of all call sites at the last refreshes, oldest first.
    pub trend: Vec<u64>,
    /// Call sites whose leak is proven.
    pub leaks: usize,
    /// Call sites that are suspects.
    pub suspects: usize,
    /// Whether any rule has spoken on any call site.
    pub judged: bool,
    /// Whether there is more than one target.
    pub many_targets: bool,
}

impl Digest {
    /// One pass over the call sites.
    pub fn of(report: &Report) -> Self {
        let mut digest = Self { many_targets: report.targets.len() > 1, ..Self::default() };
        let longest = report.sites.iter().map(|site| site.trend_bytes.len()).max().unwrap_or(0);
        digest.trend = vec![0; longest];
        for site in &report.sites {
            if let Some(rate) = site.growth_bytes_per_s {
                *digest.growth.entry(site.kind).or_default() += rate;
            }
            // A shorter past began later: before that the call site held nothing.
            let newest_first = digest.trend.iter_mut().rev().zip(site.trend_bytes.iter().rev());
            for (sum, bytes) in newest_first {
                *sum = sum.saturating_add(*bytes);
            }
            match site.verdict.class {
                VerdictClass::Leak => digest.leaks += 1,
                VerdictClass::Suspect => digest.suspects += 1,
                VerdictClass::Growing
                | VerdictClass::Steady
                | VerdictClass::Settling
                | VerdictClass::Unknown => {}
            }
            digest.judged |= site.verdict.class != VerdictClass::Unknown;
        }
        digest
    }
}
