//! The made-up server under `--light`.

use std::collections::BTreeMap;

use tracer_common::kind::{Kind, PAGE_BYTES};

use super::{buffers, empty, sample, sessions, totals};
use crate::report::{Accounting, Amount, Fds, Growing, Level, Light, Report, Site, Word};

/// A server that grows, seen without probes.
pub fn light() -> Report {
    let pages = |site: Site, acquired_count: u64, released_count: u64| Site {
        kind: Kind::Pages.into(),
        acquired_by: "page fault".to_owned(),
        outstanding_count: acquired_count - released_count,
        outstanding_bytes: (acquired_count - released_count) * PAGE_BYTES,
        acquired_count,
        acquired_bytes: acquired_count * PAGE_BYTES,
        inherited: Amount::default(),
        released_count,
        released_bytes: released_count * PAGE_BYTES,
        ..site
    };
    let sites = vec![pages(sessions(), 39_842, 0), pages(buffers(), 3_072, 96)];
    let level = |now, change, growth_per_s| Some(Level { now, change, growth_per_s });
    let fds_by_type = BTreeMap::from([
        (Word::named("socket"), Level { now: 402, change: 310, growth_per_s: Some(0.4) }),
        (Word::named("file"), Level { now: 12, change: -1, growth_per_s: Some(0.0) }),
        (Word::named("eventpoll"), Level { now: 5, change: 0, growth_per_s: Some(0.0) }),
    ]);
    let growing = Growing {
        pid: 4121,
        rss: level(1_181_116_006, 174_000_000, Some(860_160.0)),
        anonymous: level(1_101_004_800, 173_800_000, Some(860_160.0)),
        file: level(80_000_000, 200_000, Some(0.0)),
        shared: level(0, 0, Some(0.0)),
        swapped: None,
        data: level(1_600_000_000, 180_000_000, Some(900_000.0)),
        brk: level(132_000, 0, None),
        fds: level(419, 309, Some(0.4)),
        fds_by_type,
    };
    let by_type = growing.fds_by_type.iter().map(|(name, level)| (name.clone(), level.now));
    Report {
        accounting: Accounting { events: 42_914, ..Accounting::default() },
        allocators: Vec::new(),
        totals: totals(&sites),
        fds: Some(Fds {
            open: 419,
            limit: Some(1024),
            seconds_to_limit: Some(1512.5),
            by_type: by_type.collect(),
            ..Fds::default()
        }),
        light: Some(Light { processes: vec![growing] }),
        window: sample().window,
        host: sample().host,
        sites,
        ..empty()
    }
}
