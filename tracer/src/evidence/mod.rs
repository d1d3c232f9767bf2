//! Evidence on each call site: how its resources live, how they change, and what they follow.
//!
//! Takes snapshots in order, hands on figures with their intervals. Pure and bounded: time comes with the snapshots,
//! and each call site has at most 3 KiB here. It knows no names, and does not judge.

mod activity;
mod change;
mod follows;
mod gauge;
mod history;
#[cfg(test)]
mod random;
mod rate;
mod retained;
mod run;
mod series;
mod share;
mod slope;
mod survival;
mod together;
mod trend;

#[cfg(test)]
pub(crate) use self::together::tests::lives;
pub use self::{
    activity::Activity,
    follows::Follows,
    gauge::{Gauge, Rise},
    history::History,
    rate::Rate,
    retained::{LEAST_MATURE_S, Retained},
    run::Pace,
    share::Share,
    slope::Slope,
    survival::Survival,
    together::acquired_together,
    trend::{Trend, Trends},
};
use crate::ledger::Sum;

/// Probability outside of an interval.
const OUTSIDE_95: f64 = 0.05;
/// Two-sided 95 percent quantile of the normal distribution, in standard deviations.
const NORMAL_95: f64 = 1.96;

/// What is known of one call site. `None` stands for what is not known (yet).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Since the first snapshot, seconds.
    pub observed_s: f64,
    /// Time of this snapshot on the clock of [`Retained::since_ms`] and of [`Trend::since_s`], seconds, and when
    /// the first snapshot was.
    pub now_s: f64,
    /// Resources acquired.
    pub acquired: Sum,
    /// Resources released.
    pub released: Sum,
    /// Outstanding resources.
    pub outstanding: Sum,
    /// Whether they are descriptors of sockets: each open connection has one.
    pub sockets: bool,
    /// The share that never dies.
    pub survival: Option<Survival>,
    /// What outlives all usual lifetimes.
    pub retained: Option<Retained>,
    /// Whether they are released in the order of their acquisition.
    pub in_order: bool,
    /// How much more is outstanding than at the beginning of the history, ten minutes ago at most: a factor.
    pub risen: f64,
    /// How the outstanding resources change.
    pub trends: Trends,
    /// Their ages.
    pub ages: Option<Ages>,
    /// Resources older than this are no longer only in use, seconds: twice the longest usual lifetime.
    pub mature_s: f64,
    /// How they follow the number of open connections.
    pub connections: Option<Follows>,
    /// How they follow the rate at which the call site acquires.
    pub requests: Option<Follows>,
    /// Releases of blocks from before the attach, whatever call site they are from, per second over the last minute.
    pub older_released_per_s: f64,
    /// What closed connections left behind.
    pub orphans: Option<Orphans>,
    /// Objects whose release was requested and that stay.
    pub unreleased: Option<Unreleased>,
    /// Sockets whose peer has closed and that stay open.
    pub peer_gone: Option<PeerGone>,
}

impl Evidence {
    /// How fast the call site leaks, or grows.
    pub fn rate(&self) -> Option<Rate> {
        rate::rate(self)
    }
}

/// Ages of outstanding resources.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ages {
    /// The oldest, seconds.
    pub oldest_s: f64,
    /// The median, seconds.
    pub median_s: f64,
    /// The time that the changes were observed over, seconds.
    pub over_s: f64,
    /// How the oldest one's age changes, seconds per second: 1 while nothing of it is released.
    pub oldest: Option<Slope>,
    /// How the median changes.
    pub median: Option<Slope>,
    /// How the oldest one's age has changed lately, in the last half minute.
    pub lately: Option<f64>,
}

/// Resources that closed connections left behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orphans {
    /// Resources.
    pub sum: Sum,
    /// Closed connections that could have left any.
    pub closed: u64,
    /// The share that did.
    pub share: Share,
}

/// Objects whose release was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreleased {
    /// Those that were there during the whole last half minute, at least.
    pub lasting: u64,
    /// All objects of the call site.
    pub objects: u64,
}

/// Sockets whose peer has closed or reset the connection: the program has to close them, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerGone {
    /// In that state for at least half a minute.
    pub lasting: u64,
    /// All open descriptors of the call site.
    pub open: u64,
}
