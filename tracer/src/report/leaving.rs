//! What closed connections left behind, by function: call sites that differ only in their callers are one row.
//!
//! Pure: takes the report's table by call site, returns sums for people to read. The JSON has the call sites.

use std::{cmp::Reverse, collections::HashMap};

use super::{Connections, LeftBehind, Orphans, Site};
use crate::format::percent;

/// Resources acquired by one function, on any path, that closed connections left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaving {
    /// Numbers of its call sites, worst first; at least one.
    pub sites: Vec<u32>,
    /// Resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Closed connections that left some, at least and at most: the table by call site does not say which of them
    /// left something at several.
    pub connections: (u64, u64),
    /// Closed connections to compare with: the largest number among the call sites.
    pub compared: Option<u64>,
}

/// The key of a function: process, kind, acquiring function, headline function, and source location.
type Function<'a> = (Option<u32>, &'a str, &'a str, String, Option<String>);

impl Connections {
    /// The table of resources left behind, by function: those of most connections first, then of most bytes.
    pub fn leaving(&self, sites: &[Site]) -> Vec<Leaving> {
        let by_number: HashMap<u32, &Site> = sites.iter().map(|site| (site.id, site)).collect();
        let mut places: HashMap<Function<'_>, usize> = HashMap::new();
        let mut groups: Vec<Vec<&LeftBehind>> = Vec::new();
        for row in &self.left_behind {
            // Two unknown stacks are not the same function.
            let function = by_number.get(&row.site).and_then(|site| function(site));
            let place = function
                .map_or(groups.len(), |function| *places.entry(function).or_insert(groups.len()));
            match groups.get_mut(place) {
                Some(group) => group.push(row),
                None => groups.push(vec![row]),
            }
        }
        let everywhere = self.everywhere();
        let mut all: Vec<Leaving> =
            groups.iter().map(|group| self.sum(group, everywhere)).collect();
        // A row that may be 100 % ranks above one that is known to be 50 %.
        all.sort_by_key(|one| Reverse((one.connections.1, one.bytes)));
        all
    }

    /// Connections of all call sites, counted at each; `None` if something was left elsewhere.
    fn everywhere(&self) -> Option<u64> {
        let known: u64 = self.left_behind.iter().map(|row| row.orphans.count).sum();
        let all: u64 = self.clients.iter().map(|client| client.orphan_count).sum();
        (known == all).then(|| self.left_behind.iter().map(|row| row.orphans.connections).sum())
    }

    fn sum(&self, group: &[&LeftBehind], everywhere: Option<u64>) -> Leaving {
        let sum = |of: fn(&Orphans) -> u64| group.iter().map(|row| of(&row.orphans)).sum::<u64>();
        let counted = sum(|one| one.connections);
        let one_path = group.iter().map(|row| row.orphans.connections).max().unwrap_or(0);
        let most =
            if group.len() > 1 { counted.min(self.with_orphans).max(one_path) } else { one_path };
        // A connection that left something, and nothing at other call sites, left it here.
        let only_here = everywhere
            .map_or(0, |everywhere| self.with_orphans.saturating_sub(everywhere - counted));
        let least = one_path.max(only_here).min(most);
        Leaving {
            sites: group.iter().map(|row| row.site).collect(),
            count: sum(|one| one.count),
            bytes: sum(|one| one.bytes),
            connections: (least, most),
            compared: group.iter().filter_map(|row| row.orphans.compared()).max(),
        }
    }

    /// The address that most of the connections are from, if that is certain: `all` of them, or more than two thirds
    /// even if every other connection that left anything were among them.
    pub fn mostly_from(&self, connections: u64) -> Option<(&str, bool)> {
        let known: u64 = self.clients.iter().map(|client| client.with_orphans).sum();
        if known != self.with_orphans || connections == 0 {
            return None;
        }
        let worst = self.clients.iter().max_by_key(|client| client.with_orphans)?;
        let others = self.with_orphans - worst.with_orphans;
        let least = connections.saturating_sub(others);
        (least * 3 > connections * 2).then_some((worst.address.as_str(), others == 0))
    }
}

impl Leaving {
    /// The largest possible share of closed connections that left some; 0 to 1.
    pub fn share(&self) -> Option<f64> {
        self.share_of(self.connections.1)
    }

    fn share_of(&self, connections: u64) -> Option<f64> {
        let compared = self.compared.filter(|compared| *compared > 0)?;
        Some((connections as f64 / compared as f64).min(1.0))
    }

    /// The share as text: `57.4 %`, or `29.5–100 %` for a range.
    pub fn share_text(&self) -> Option<String> {
        let (least, most) = self.connections;
        let (least, most) = (percent(self.share_of(least)?), percent(self.share_of(most)?));
        if least == most {
            return Some(most);
        }
        let least = match least.trim_end_matches(" %") {
            little if little.starts_with("under") => "0",
            other => other.trim_start_matches("over "),
        };
        Some(format!("{least}–{}", most.trim_start_matches("over ")))
    }

    /// The connections as text: `5,231`, or `986–3,297` for a range.
    pub fn connections_text(&self, write: fn(u64) -> String) -> String {
        match self.connections {
            (least, most) if least == most => write(most),
            (least, most) => format!("{}–{}", write(least), write(most)),
        }
    }
}

impl Orphans {
    /// The number of closed connections that the share is based on.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rounded count of connections; the cast saturates"
    )]
    pub fn compared(&self) -> Option<u64> {
        let share = self.share.filter(|share| *share > 0.0)?;
        Some((self.connections as f64 / share).round() as u64)
    }
}

fn function(site: &Site) -> Option<Function<'_>> {
    let asked = site.asked()?;
    Some((site.pid, site.kind_name(), &site.acquired_by, asked.label(), asked.source()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::report::{Client, FdType, Frame, fixtures};

    /// Call sites by number, headline function, and the caller's address.
    fn sites(of: &[(u32, &str)]) -> Vec<Site> {
        let template = fixtures::served().sites[0].clone();
        let site = |(id, name): &(u32, &str)| {
            let frame = Frame { symbol: Some((*name).into()), ..template.frames[0].clone() };
            Site { id: *id, headline: 0, frames: Arc::new([frame]), ..template.clone() }
        };
        of.iter().map(site).collect()
    }

    /// Each connection leaves one block of eight bytes.
    fn left(rows: &[(u32, u64)], with_orphans: u64) -> Connections {
        let row = |(site, connections): &(u32, u64)| LeftBehind {
            site: *site,
            orphans: Orphans {
                count: *connections,
                bytes: *connections * 8,
                connections: *connections,
                share: Some(*connections as f64 / 200.0),
            },
        };
        let client = Client {
            orphan_count: rows.iter().map(|(_, connections)| connections).sum(),
            with_orphans,
            ..Client::default()
        };
        Connections {
            closed: 200,
            with_orphans,
            left_behind: rows.iter().map(row).collect(),
            clients: vec![client],
            ..Connections::default()
        }
    }

    fn leaving(connections: &Connections, sites: &[Site]) -> Vec<(Vec<u32>, u64, String, String)> {
        let as_text = |one: Leaving| {
            let connections = one.connections_text(|number| number.to_string());
            (one.sites.clone(), one.bytes, connections, one.share_text().unwrap())
        };
        connections.leaving(sites).into_iter().map(as_text).collect()
    }

    fn row(
        sites: &[u32],
        bytes: u64,
        connections: &str,
        share: &str,
    ) -> (Vec<u32>, u64, String, String) {
        (sites.to_vec(), bytes, connections.to_owned(), share.to_owned())
    }

    #[test]
    fn paths_to_one_function_are_one_row() {
        let sites = sites(&[(1, "forget"), (2, "keep"), (3, "forget")]);
        // 170 connections left something, 60 + 40 at `forget`, at most 70 at `keep`: none left both.
        let connections = left(&[(2, 70), (1, 60), (3, 40)], 170);
        assert_eq!(
            leaving(&connections, &sites),
            [row(&[1, 3], 800, "100", "50.0 %"), row(&[2], 560, "70", "35.0 %")]
        );
    }

    #[test]
    fn a_range_is_shown_when_connections_may_be_counted_twice() {
        let sites = sites(&[(1, "forget"), (2, "keep"), (3, "forget")]);
        let mut connections = left(&[(2, 70), (1, 60), (3, 40)], 150);
        // At least 80 of the 150 left nothing at `keep`.
        assert_eq!(
            leaving(&connections, &sites),
            [row(&[1, 3], 800, "80–100", "40.0–50.0 %"), row(&[2], 560, "70", "35.0 %")]
        );
        // Something was left elsewhere: it is only known that 60 left blocks of `forget` on one path.
        connections.clients[0].orphan_count += 1;
        assert_eq!(leaving(&connections, &sites)[0], row(&[1, 3], 800, "60–100", "30.0–50.0 %"));
        // No other connection left anything.
        connections.with_orphans = 90;
        assert_eq!(leaving(&connections, &sites)[0], row(&[1, 3], 800, "60–90", "30.0–45.0 %"));
    }

    #[test]
    fn shares_are_not_rounded_to_zero_or_all() {
        let between = |least, most| Leaving {
            sites: vec![1],
            count: 1,
            bytes: 1,
            connections: (least, most),
            compared: Some(10_000),
        };
        for (least, most, text) in [
            (1, 2, "under 0.1 %"),
            (1, 400, "0–4.0 %"),
            (400, 9_999, "4.0–99.9 %"),
            (9_995, 10_000, "99.9–100 %"),
            (9_998, 9_999, "over 99.9 %"),
            (10_000, 10_000, "100 %"),
        ] {
            assert_eq!(between(least, most).share_text().unwrap(), text);
        }
    }

    #[test]
    fn kinds_processes_lines_and_unknown_stacks_are_kept_apart() {
        let mut sites = sites(&[(1, "f"), (2, "f"), (3, "f"), (4, "f"), (5, "f"), (6, "f")]);
        sites[1].fd_type = Some(FdType::Socket.into());
        sites[2].pid = Some(1);
        let frame = Frame { line: Some(77), ..sites[3].frames[0].clone() };
        sites[3].frames = Arc::new([frame]);
        sites[4].frames = Arc::new([]);
        sites[5].frames = Arc::new([]);
        let connections = left(&[(1, 7), (2, 6), (3, 5), (4, 4), (5, 3), (6, 2), (9, 1)], 7);
        assert_eq!(connections.leaving(&sites).len(), 7);
    }

    #[test]
    fn the_client_is_named_only_when_certain() {
        let mut connections = left(&[(1, 100)], 100);
        let client = |address: &str, with_orphans| Client {
            address: address.to_owned(),
            with_orphans,
            ..Client::default()
        };
        connections.clients = vec![client("a", 90), client("b", 10)];
        assert_eq!(connections.mostly_from(100), Some(("a", false)));
        assert_eq!(connections.mostly_from(31), Some(("a", false)));
        assert_eq!(connections.mostly_from(30), None, "10 of them may be from b");
        connections.clients.pop();
        assert_eq!(connections.mostly_from(100), None, "not all are known");
        connections.clients[0].with_orphans = 100;
        assert_eq!(connections.mostly_from(1), Some(("a", true)));
    }
}
