//! The history of each call site: how its outstanding resources change.
//!
//! Takes snapshots in order, returns growth and trend. Pure: time comes with the snapshots. Knows no names and does
//! not judge.

pub mod estimate;
pub mod limit;
pub mod quiet;
pub mod time_series;

use std::collections::{HashMap, VecDeque};

use crate::{ledger::Sum, snapshot::Snapshot};

/// Snapshots kept per call site: one minute at the default interval.
pub const HISTORY: usize = 60;
/// Shortest time over which growth is reported, seconds: below it, a single burst would look like a slope.
const LEAST_SPAN_S: f64 = 2.0;

#[derive(Clone, Copy, Debug)]
struct Point {
    at_s: f64,
    outstanding: Sum,
}

/// The recent history of every call site.
#[derive(Debug, Default)]
pub struct History {
    sites: HashMap<u32, VecDeque<Point>>,
}

/// Change per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Of bytes.
    pub bytes_per_s: f64,
    /// Of resources.
    pub count_per_s: f64,
}

impl History {
    /// Adds a snapshot.
    pub fn push(&mut self, snapshot: &Snapshot) {
        let at_s = snapshot.at_ns as f64 / 1e9;
        for site in &snapshot.sites {
            let points = self.sites.entry(site.number).or_default();
            if points.len() == HISTORY {
                points.pop_front();
            }
            points.push_back(Point { at_s, outstanding: site.outstanding });
        }
    }

    /// Recent growth of a call site; `None` with too little history.
    pub fn growth(&self, site: u32) -> Option<Growth> {
        let points = self.sites.get(&site)?.iter();
        let bytes = points.clone().map(|one| (one.at_s, one.outstanding.bytes as f64));
        let count = points.map(|one| (one.at_s, one.outstanding.count as f64));
        Some(Growth { bytes_per_s: slope(bytes)?, count_per_s: slope(count)? })
    }

    /// Outstanding bytes at the last snapshots, oldest first.
    pub fn trend(&self, site: u32) -> Vec<u64> {
        let points = self.sites.get(&site);
        points.map_or_else(Vec::new, |points| {
            points.iter().map(|point| point.outstanding.bytes).collect()
        })
    }
}

/// The slope of the least-squares line through points: ascending times in seconds, values. `None` when they are too
/// few, or span too little time.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let (first_s, _) = points.clone().next()?;
    let (last_s, _) = points.clone().last()?;
    let number = points.clone().count();
    if number < 3 || last_s - first_s < LEAST_SPAN_S {
        return None;
    }
    let count = number as f64;
    let mean_time = points.clone().map(|(at_s, _)| at_s).sum::<f64>() / count;
    let mean_value = points.clone().map(|(_, value)| value).sum::<f64>() / count;
    let (mut shared, mut spread) = (0.0, 0.0);
    for (at_s, value) in points {
        let time = at_s - mean_time;
        shared += time * (value - mean_value);
        spread += time * time;
    }
    Some(if spread > 0.0 { shared / spread } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracer_common::{descriptor::FdType, stack::StackEnd};

    use super::*;
    use crate::snapshot::SiteFigures;

    fn snapshot(second: u64, count: u64) -> Snapshot {
        let outstanding = Sum { count, bytes: count * 100 };
        let site = SiteFigures {
            number: 1,
            pid: None,
            probe: None,
            fd_type: FdType::Unknown,
            detail: 0,
            frames: Arc::from([]),
            end: StackEnd::Bottom,
            former: false,
            origin: None,
            acquired: outstanding,
            inherited: Sum::default(),
            released: Sum::default(),
            outstanding,
            aged: outstanding,
            ages: None,
            orphans: crate::ledger::connections::LeftBehind::default(),
            batches: None,
        };
        Snapshot { at_ns: second * 1_000_000_000, sites: vec![site], ..Snapshot::default() }
    }

    #[test]
    fn a_steady_rise_has_its_slope() {
        let mut history = History::default();
        (0..10).for_each(|second| history.push(&snapshot(second, second * 5)));
        let growth = history.growth(1).unwrap();
        assert!((growth.count_per_s - 5.0).abs() < 1e-9, "{growth:?}");
        assert!((growth.bytes_per_s - 500.0).abs() < 1e-6, "{growth:?}");
    }

    #[test]
    fn too_short_a_history_has_no_growth() {
        let mut history = History::default();
        history.push(&snapshot(0, 1));
        history.push(&snapshot(1, 2));
        assert_eq!(history.growth(1), None);
        assert_eq!(history.growth(2), None);
    }

    #[test]
    fn only_recent_points_are_kept() {
        let mut history = History::default();
        (0..200).for_each(|second| history.push(&snapshot(second, second)));
        let trend = history.trend(1);
        assert_eq!(
            (trend.len(), trend.first(), trend.last()),
            (HISTORY, Some(&14000), Some(&19900))
        );
    }
}
