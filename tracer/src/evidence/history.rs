//! The past of every call site and of the load, and the evidence that follows from it. Pure.

use std::collections::{HashMap, HashSet, VecDeque};

use tracer_common::descriptor::FdType;

use super::{
    Ages, Evidence, Orphans, PeerGone, Unreleased,
    follows::{Follows, follows},
    retained::{Usual, mature_s, retained},
    series::{Resolution, Series},
    share::Share,
    slope::{MOST_POINTS, theil_sen},
    survival::{Survival, kaplan_meier},
    trend::Trends,
};
use crate::{
    ledger::{Cohort, LIFETIMES, Lives, connections::LeftBehind, lifetime_end_s},
    snapshot::{SiteFigures, Snapshot},
};

/// Time between two samples of ages, milliseconds, and how many are kept: a minute and a half.
const AGES_EVERY_MS: u32 = 8_000;
/// As above.
const AGES: usize = 12;
/// Samples that are half a minute.
const LATELY: usize = 4;
/// An object that was to be released, or a socket whose peer has closed, is stuck after this time, seconds: whoever
/// waits for a last reply or a timer has got it by then.
const STUCK_S: u32 = 30;

/// The share of resources that may be out of order.
const OUT_OF_ORDER: f64 = 0.03;
/// With fewer cohorts, an order does not show.
const LEAST_COHORTS: usize = 6;

/// The past of one call site.
#[derive(Debug, Default)]
struct SiteHistory {
    outstanding: Series,
    /// Times, and ages of the oldest and of the median, milliseconds.
    ages: VecDeque<[u32; 3]>,
    /// Where there are objects whose release was requested: their number.
    requested: Option<Box<Series>>,
}

/// The past of every call site, and of the load.
#[derive(Debug, Default)]
pub struct History {
    sites: HashMap<u32, SiteHistory>,
    /// Connections: open, and closed so far.
    connections: Series,
    /// Releases of blocks from before the attach so far.
    unknown_blocks: Series,
    /// Their rate over the last refreshes, per second.
    older_per_s: f64,
    /// Sockets whose peer has closed, at the last snapshot.
    peer_gone: HashMap<u32, PeerGone>,
    /// Time that counts as zero, nanoseconds.
    origin_ns: Option<u64>,
    /// The first snapshot, seconds after it.
    first_s: Option<f64>,
}

impl History {
    /// Adds a snapshot.
    pub fn push(&mut self, snapshot: &Snapshot) {
        let at_ms = self.at_ms(snapshot);
        self.first_s.get_or_insert(f64::from(at_ms) / 1000.0);
        if let Some(figures) = &snapshot.connections {
            self.connections.push(at_ms, figures.open, figures.closed);
        }
        self.peer_gone = peer_gone(snapshot);
        self.unknown_blocks.push(at_ms, 0, snapshot.unknown_blocks);
        self.older_per_s = if snapshot.unknown_blocks > 0 { self.older_rate() } else { 0.0 };
        for site in &snapshot.sites {
            let past = self.sites.entry(site.number).or_default();
            let outstanding = site.judged_outstanding();
            past.outstanding.push(at_ms, outstanding.count, outstanding.bytes);
            let due = past.ages.back().is_none_or(|[last_ms, ..]| at_ms - last_ms >= AGES_EVERY_MS);
            if let Some(ages) = site.ages.filter(|_| due) {
                if past.ages.len() == AGES {
                    past.ages.pop_front();
                }
                past.ages.push_back([at_ms, ages.max_ms, ages.median_ms]);
            }
            let objects = snapshot.objects.as_ref().and_then(|all| all.sites.get(&site.number));
            let requested = objects.map_or(0, |objects| objects.asked);
            if requested > 0 || past.requested.is_some() {
                past.requested.get_or_insert_default().push(at_ms, requested, 0);
            }
        }
    }

    /// Forgets the call sites that a snapshot does not have: their processes have ended.
    pub fn forget_others(&mut self, snapshot: &Snapshot) {
        if self.sites.len() > snapshot.sites.len() {
            let there: HashSet<u32> = snapshot.sites.iter().map(|site| site.number).collect();
            self.sites.retain(|site, _| there.contains(site));
        }
    }

    /// Bytes at the last refreshes, oldest first.
    pub fn recent_bytes(&self, site: u32) -> Vec<u64> {
        let past = self.sites.get(&site);
        past.map_or_else(Vec::new, |past| past.outstanding.recent_bytes().collect())
    }

    /// The trends of a call site's outstanding resources.
    pub fn trends(&self, site: u32) -> Trends {
        self.sites.get(&site).map_or_else(Trends::default, |past| Trends::of(&past.outstanding))
    }

    /// The evidence on a call site of the last snapshot.
    pub fn evidence(&self, site: &SiteFigures, snapshot: &Snapshot) -> Evidence {
        let now_ms = self.origin_ns.map_or(0, |origin_ns| ms_since(origin_ns, snapshot.at_ns));
        let now_s = f64::from(now_ms) / 1000.0;
        let mut evidence = Evidence {
            observed_s: now_s - self.first_s.unwrap_or(now_s),
            now_s,
            acquired: site.judged_acquired(),
            released: site.judged_released(),
            outstanding: site.judged_outstanding(),
            sockets: site.fd_type == FdType::Socket,
            older_released_per_s: self.older_per_s,
            orphans: orphans(&site.orphans),
            ..Evidence::default()
        };
        let Some(past) = self.sites.get(&site.number) else { return evidence };
        evidence.trends = Trends::of(&past.outstanding);
        if evidence.outstanding.count == 0 {
            return evidence;
        }
        evidence.ages = ages(&past.ages);
        if let Some(lives) = &site.lives {
            evidence.survival = survival(lives, site, now_ms);
            let usual = Usual::of(lives, now_ms);
            evidence.retained = usual.and_then(|usual| retained(lives, usual, now_ms));
            evidence.mature_s = usual.map_or_else(|| mature_s(lives), |usual| usual.mature_s);
            evidence.in_order = in_order(lives);
            evidence.risen = risen(past);
            evidence.requests = requests(lives, past, now_ms);
        }
        if !evidence.sockets {
            evidence.connections = self.follows_connections(past);
        }
        let objects = snapshot.objects.as_ref().and_then(|all| all.sites.get(&site.number));
        let lasting = past.requested.as_ref().and_then(|series| series.lowest_count_over(STUCK_S));
        evidence.unreleased = objects.zip(lasting).map(|(objects, lasting)| Unreleased {
            lasting: lasting.into(),
            objects: objects.known,
        });
        if evidence.sockets {
            evidence.peer_gone = self.peer_gone.get(&site.number).copied();
        }
        evidence
    }

    fn at_ms(&mut self, snapshot: &Snapshot) -> u32 {
        // The clock of the cohorts, where there is one, so that times can be compared.
        let own_ns =
            if snapshot.lives_origin_ns > 0 { snapshot.lives_origin_ns } else { snapshot.at_ns };
        ms_since(*self.origin_ns.get_or_insert(own_ns), snapshot.at_ns)
    }

    /// Releases of blocks from before the attach per second, over the last refreshes. Those of a single moment are no rate:
    /// the slope is the median one.
    fn older_rate(&self) -> f64 {
        let curve = self.unknown_blocks.curve(Resolution::Refreshes).bytes;
        let step = curve.len().div_ceil(MOST_POINTS).max(1);
        let points: Vec<_> = curve.into_iter().step_by(step).collect();
        theil_sen(&points).map_or(0.0, |slope| slope.per_s)
    }

    fn follows_connections(&self, past: &SiteHistory) -> Option<Follows> {
        let resolution = |resolution| {
            let load = self.connections.curve(resolution).count;
            let amount = past.outstanding.curve(resolution).count;
            let pairs = load.iter().rev().zip(amount.iter().rev());
            let mut points: Vec<_> =
                pairs.map(|((at_s, load), (_, amount))| (*at_s, *load, *amount)).collect();
            points.reverse();
            follows(&points)
        };
        resolution(Resolution::TenSeconds).or_else(|| resolution(Resolution::Refreshes))
    }
}

fn ms_since(origin_ns: u64, at_ns: u64) -> u32 {
    u32::try_from(at_ns.saturating_sub(origin_ns) / 1_000_000).unwrap_or(u32::MAX)
}

fn orphans(left: &LeftBehind) -> Option<Orphans> {
    let share = left.share?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let closed = if share > 0.0 { (left.connections as f64 / share).round() as u64 } else { 0 };
    Some(Orphans { sum: left.sum, closed, share: Share::of(left.connections, closed)? })
}

fn ages(samples: &VecDeque<[u32; 3]>) -> Option<Ages> {
    let ([first_ms, ..], [last_ms, oldest_ms, median_ms]) = (samples.front()?, samples.back()?);
    let seconds = |ms: u32| f64::from(ms) / 1000.0;
    let slope = |which: fn(&[u32; 3]) -> u32| {
        let points: Vec<_> =
            samples.iter().map(|sample| (seconds(sample[0]), seconds(which(sample)))).collect();
        theil_sen(&points)
    };
    Some(Ages {
        oldest_s: seconds(*oldest_ms),
        median_s: seconds(*median_ms),
        over_s: seconds(last_ms - first_ms),
        oldest: slope(|[_, oldest, _]| *oldest),
        median: slope(|[.., median]| *median),
        lately: samples.iter().rev().nth(LATELY).map(|[then_ms, then_oldest_ms, _]| {
            (seconds(*oldest_ms) - seconds(*then_oldest_ms)) / seconds(last_ms - then_ms)
        }),
    })
}

/// The share that never dies, from all lifetimes and ages.
fn survival(lives: &Lives, site: &SiteFigures, now_ms: u32) -> Option<Survival> {
    let mut deaths = *lives.lifetimes();
    let recorded: u64 = deaths.iter().sum();
    let [first, ..] = &mut deaths;
    // All others died young.
    *first += site.judged_released().count.saturating_sub(recorded);
    let mut survivors = [0; LIFETIMES];
    let mut bucket = LIFETIMES - 1;
    for cohort in lives.cohorts() {
        let middle_ms = cohort.start_ms.midpoint(cohort.end_ms);
        let age_s = f64::from(now_ms.saturating_sub(middle_ms)) / 1000.0;
        while bucket > 0 && age_s < lifetime_end_s(bucket - 1) {
            bucket -= 1;
        }
        if let Some(count) = survivors.get_mut(bucket) {
            *count += u64::from(cohort.outstanding);
        }
    }
    kaplan_meier(&deaths, &survivors, lifetime_end_s)
}

/// Whether resources are released in the order of their acquisition: before one cohort nearly all are gone, and after it
/// nearly all are there.
fn in_order(lives: &Lives) -> bool {
    let cohorts = lives.cohorts();
    let acquired: u64 = cohorts.iter().map(|one| one.acquired).sum();
    let released = |one: &Cohort| one.acquired.saturating_sub(one.outstanding.into());
    let mut after: u64 = cohorts.iter().map(released).sum();
    let mut before = 0;
    let mut least = u64::MAX;
    for one in cohorts {
        after -= released(one);
        // The first cohorts are no boundary: then nothing is gone.
        if before + after < least && one.outstanding > 0 && released(one) > 0 {
            least = before + after;
        }
        before += u64::from(one.outstanding);
    }
    cohorts.len() >= LEAST_COHORTS && least as f64 <= OUT_OF_ORDER * acquired as f64
}

/// How much more is outstanding than in the first third of the history: a factor.
fn risen(past: &SiteHistory) -> f64 {
    let tens = past.outstanding.curve(Resolution::TenSeconds).count;
    let curve =
        if tens.len() < 6 { past.outstanding.curve(Resolution::Refreshes).count } else { tens };
    let third = (curve.len() / 3).max(1);
    let sum = |points: &[(f64, f64)]| points.iter().map(|(_, value)| value).sum::<f64>();
    let first = curve.get(..third).map_or(0.0, sum);
    let last = curve.get(curve.len().saturating_sub(third)..).map_or(0.0, sum);
    last / first.max(1.0)
}

/// How the outstanding resources follow the rate of acquisition, by cohort.
fn requests(lives: &Lives, past: &SiteHistory, now_ms: u32) -> Option<Follows> {
    let amounts = past.outstanding.curve(Resolution::Refreshes).count;
    let (first_s, _) = *amounts.first()?;
    let cohorts = lives.cohorts();
    // The newest one is not complete.
    let points: Vec<_> = cohorts
        .windows(2)
        .filter_map(|pair| {
            let [one, next] = pair else { return None };
            let (from_s, until_s) =
                (f64::from(one.start_ms) / 1000.0, f64::from(next.start_ms) / 1000.0);
            let at = amounts.partition_point(|(at_s, _)| *at_s < until_s);
            let (_, amount) = amounts.get(at)?;
            let inside = from_s >= first_s && next.start_ms <= now_ms && until_s > from_s;
            inside.then(|| (until_s, one.acquired as f64 / (until_s - from_s), *amount))
        })
        .collect();
    follows(&points)
}

/// Sockets whose peer is gone, by call site.
fn peer_gone(snapshot: &Snapshot) -> HashMap<u32, PeerGone> {
    let mut by_site = HashMap::<u32, PeerGone>::new();
    for one in &snapshot.descriptors {
        let Some(state) = &one.socket else { continue };
        let since_ns = state.since_ns.unwrap_or(snapshot.at_ns);
        let lasts = snapshot.at_ns.saturating_sub(since_ns) >= u64::from(STUCK_S) * 1_000_000_000;
        let of_site = by_site.entry(one.open.site).or_default();
        of_site.open += 1;
        of_site.lasting += u64::from(lasts && state.socket.is_peer_gone());
    }
    by_site
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use tracer_common::kind::Kind;

    use super::*;
    use crate::{
        evidence::random::Random,
        ledger::{
            Ledger,
            events::{Block, Event, Handle},
            fds::OpenDescriptor,
        },
        lib_objects::ledger::{Objects, SiteObjects},
        reconcile::fds::{FdDetails, SocketState},
        snapshot::site_figures,
        target::{Pid, sockets::Socket},
    };

    const SECOND: u64 = 1_000_000_000;

    fn acquire(ledger: &mut Ledger, value: u64, time_ns: u64) {
        let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
        let block = Block { size: 10, time_ns, position: 0, site: 1, connection: 0 };
        ledger.apply(Event::Acquired { handle, block });
    }

    fn release(ledger: &mut Ledger, value: u64, time_ns: u64) {
        let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
        let (size, position, caller, resizing) = (0, 0, 0, None);
        ledger.apply(Event::Released {
            handle,
            size,
            position,
            time_ns,
            probe: 0,
            caller,
            resizing,
        });
    }

    /// A ledger in which a block is acquired every tenth of a second, and the lives at the end of a minute; `released` says
    /// when each is released.
    fn minute(mut released: impl FnMut(u64) -> u64) -> Arc<Lives> {
        let mut all = Vec::new();
        for value in 1..600 {
            let at_ns = value * SECOND / 10;
            all.push((at_ns, value, true));
            all.push((released(at_ns), value, false));
        }
        all.sort_unstable();
        let mut ledger = Ledger::default();
        for (time_ns, value, acquired) in all {
            if time_ns > 60 * SECOND {
                break;
            }
            if acquired {
                acquire(&mut ledger, value, time_ns);
            } else {
                release(&mut ledger, value, time_ns);
            }
        }
        ledger.lives(1).unwrap()
    }

    #[test]
    fn a_queue_is_in_order_and_sessions_are_not() {
        assert!(in_order(&minute(|at_ns| at_ns + at_ns / 3)));
        let mut random = Random::new(1);
        let sessions = minute(|at_ns| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time")]
            let lives_ns = (random.exponential(15.0) * 1e9) as u64;
            at_ns + lives_ns
        });
        assert!(!in_order(&sessions));
        // Nothing has been released.
        assert!(!in_order(&minute(|_| u64::MAX)));
    }

    /// The evidence after 40 seconds on one call site with 9 blocks, of snapshots that `change` has completed.
    fn evidence(change: impl Fn(&mut Snapshot)) -> Evidence {
        let (mut ledger, mut history) = (Ledger::default(), History::default());
        (1..10).for_each(|value| acquire(&mut ledger, value, SECOND));
        let mut last = None;
        for second in 1..=40 {
            let at_ns = second * SECOND;
            ledger.set_now(at_ns);
            let sites = site_figures(&ledger, at_ns, 0, || {});
            let lives_origin_ns = ledger.lives_origin_ns();
            let mut snapshot = Snapshot { at_ns, sites, lives_origin_ns, ..Snapshot::default() };
            change(&mut snapshot);
            history.push(&snapshot);
            last = Some(snapshot);
        }
        let snapshot = last.unwrap();
        history.evidence(&snapshot.sites[0], &snapshot)
    }

    #[test]
    fn objects_are_stuck_when_their_number_has_been_so_high_for_half_a_minute() {
        let with_asked = |asked: fn(u64) -> u64| {
            evidence(|snapshot| {
                let asked = asked(snapshot.at_ns / SECOND);
                let site = SiteObjects { known: 9, asked, ..SiteObjects::default() };
                let sites = BTreeMap::from([(1, site)]);
                snapshot.objects = Some(Objects { sites, ..Objects::default() });
            })
        };
        let stuck = with_asked(|second| 3 + second % 4).unreleased;
        assert_eq!(stuck, Some(Unreleased { lasting: 3, objects: 9 }));
        // Requests that are fulfilled now and then.
        assert_eq!(with_asked(|second| second % 4).unreleased.unwrap().lasting, 0);
        assert_eq!(evidence(|_| {}).unreleased, None);
    }

    #[test]
    fn sockets_in_close_wait_for_long_are_counted() {
        let found = evidence(|snapshot| {
            snapshot.sites[0].fd_type = FdType::Socket;
            let socket = |fd, state, since_s: u64| FdDetails {
                open: OpenDescriptor { pid: Pid(1), fd, site: 1, time_ns: 0, position: 0 },
                link: None,
                socket: Some(SocketState {
                    socket: Socket {
                        protocol: "tcp",
                        local: None,
                        peer: None,
                        state: Some(state),
                        traffic: None,
                    },
                    since_ns: Some(since_s * SECOND),
                }),
            };
            snapshot.descriptors = vec![
                socket(3, "CLOSE_WAIT", 5),
                socket(4, "CLOSE_WAIT", 39),
                socket(5, "ESTABLISHED", 5),
            ];
        });
        assert_eq!(found.peer_gone, Some(PeerGone { lasting: 1, open: 3 }));
    }

    #[test]
    fn what_connections_left_behind_has_its_interval() {
        let found = evidence(|snapshot| {
            snapshot.sites[0].orphans.connections = 9;
            snapshot.sites[0].orphans.share = Some(0.5);
        });
        let orphans = found.orphans.unwrap();
        assert_eq!(orphans.closed, 18);
        assert!(orphans.share.low > 0.25 && orphans.share.high < 0.75, "{orphans:?}");
    }
}
