//! Counts of `churn`: by way, by source and in total, as a table and as JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Counts by reason.
pub(crate) type Reasons = BTreeMap<String, u64>;

/// Counts of connections. Each established connection ends in exactly one of four ways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Connections that were attempted.
    pub(crate) attempted: u64,
    /// Connections whose TCP handshake was completed.
    pub(crate) connected: u64,
    /// Connections that were not established, by reason.
    pub(crate) could_not_connect: Reasons,
    /// Complete positive answers: HTTP below 400, WebSocket pongs, ZMTP handshakes.
    pub(crate) answered: u64,
    /// Complete HTTP answers of 400 and above.
    pub(crate) refused: u64,
    /// Closed by us before the server did.
    pub(crate) closed_by_us: u64,
    /// Closed by the server before we did.
    pub(crate) closed_by_server: u64,
    /// Reset by us, on purpose.
    pub(crate) reset_by_us: u64,
    /// Reset by the server, as seen by us.
    pub(crate) reset_by_server: u64,
    /// Connections that deviated from their way, by reason. Their end is counted, too.
    pub(crate) unexpected: Reasons,
    /// Bytes sent to the kernel, below TLS.
    pub(crate) bytes_sent: u64,
    /// Bytes received from the kernel, below TLS.
    pub(crate) bytes_received: u64,
}

/// A column: its key in JSON, its heading in the table, and its value.
type Column = (&'static str, &'static str, fn(&Figures) -> u64);

/// Every count that is one number.
const COLUMNS: [Column; 11] = [
    ("attempted", "attempted", |figures| figures.attempted),
    ("connected", "connected", |figures| figures.connected),
    ("could_not_connect", "could not", |figures| sum(&figures.could_not_connect)),
    ("answered", "answered", |figures| figures.answered),
    ("refused", "refused", |figures| figures.refused),
    ("closed_by_us", "we closed", |figures| figures.closed_by_us),
    ("closed_by_server", "it closed", |figures| figures.closed_by_server),
    ("reset_by_us", "we reset", |figures| figures.reset_by_us),
    ("reset_by_server", "it reset", |figures| figures.reset_by_server),
    ("bytes_sent", "bytes sent", |figures| figures.bytes_sent),
    ("bytes_received", "received", |figures| figures.bytes_received),
];

fn sum(reasons: &Reasons) -> u64 {
    reasons.values().sum()
}

fn join(into: &mut Reasons, from: &Reasons) {
    for (reason, count) in from {
        *into.entry(reason.clone()).or_default() += count;
    }
}

impl Figures {
    /// Adds another's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.attempted += other.attempted;
        self.connected += other.connected;
        join(&mut self.could_not_connect, &other.could_not_connect);
        self.answered += other.answered;
        self.refused += other.refused;
        self.closed_by_us += other.closed_by_us;
        self.closed_by_server += other.closed_by_server;
        self.reset_by_us += other.reset_by_us;
        self.reset_by_server += other.reset_by_server;
        join(&mut self.unexpected, &other.unexpected);
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
    }

    /// As JSON: reasons are objects, the rest numbers.
    fn json(&self) -> Value {
        let mut map: Map<String, Value> = COLUMNS
            .iter()
            .map(|(name, _, figure)| ((*name).to_owned(), json!(figure(self))))
            .collect();
        map.insert("why_not_connected".to_owned(), json!(self.could_not_connect));
        map.insert("unexpected".to_owned(), json!(self.unexpected));
        Value::Object(map)
    }
}

/// Counts by name, in the order of names.
pub(crate) type Named = BTreeMap<String, Figures>;

/// Counts of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// By way.
    pub(crate) ways: Named,
    /// By source address.
    pub(crate) sources: Named,
}

impl Account {
    /// Counts one connection.
    pub(crate) fn count(&mut self, way: &str, source: &str, one: &Figures) {
        // `entry` would need a new string for each connection.
        for (map, name) in [(&mut self.ways, way), (&mut self.sources, source)] {
            if let Some(figures) = map.get_mut(name) {
                figures.add(one);
            } else {
                map.insert(name.to_owned(), one.clone());
            }
        }
    }

    /// Adds the counts of another thread.
    pub(crate) fn add(&mut self, other: &Self) {
        for (into, from) in [(&mut self.ways, &other.ways), (&mut self.sources, &other.sources)] {
            for (name, figures) in from {
                into.entry(name.clone()).or_default().add(figures);
            }
        }
    }

    /// The sum over all ways.
    pub(crate) fn total(&self) -> Figures {
        let mut total = Figures::default();
        self.ways.values().for_each(|figures| total.add(figures));
        total
    }
}

/// The parameters of a run, with its counts.
#[derive(Clone, Debug)]
pub struct Report {
    /// The counts.
    pub(crate) account: Account,
    /// The server's address or path.
    pub(crate) target: String,
    /// The protocol's name.
    pub(crate) protocol: &'static str,
    /// Seed of the order of ways and of the random bytes.
    pub(crate) seed: u64,
    /// Why it ended: `done`, `time` or `asked`.
    pub(crate) ended: &'static str,
    /// Time from the first connection's start to the last one's end, seconds.
    pub(crate) wall_seconds: f64,
}

impl Report {
    fn per_second(&self) -> f64 {
        self.account.total().connected as f64 / self.wall_seconds.max(1e-9)
    }

    /// As one JSON object.
    pub fn json(&self) -> Value {
        let each = |named: &Named| -> Map<String, Value> {
            named.iter().map(|(name, figures)| (name.clone(), figures.json())).collect()
        };
        json!({
            "target": self.target,
            "protocol": self.protocol,
            "seed": self.seed,
            "ended": self.ended,
            "wall_seconds": self.wall_seconds,
            "connections_per_second": self.per_second(),
            "total": self.account.total().json(),
            "ways": each(&self.account.ways),
            "sources": each(&self.account.sources),
        })
    }

    /// As a table for people.
    pub fn table(&self) -> String {
        let total = self.account.total();
        let mut rows = vec![row("way", |column| column.1.to_owned())];
        let of = |name: &str, figures: &Figures| row(name, |column| column.2(figures).to_string());
        rows.extend(self.account.ways.iter().map(|(name, figures)| of(name, figures)));
        rows.push(of("all", &total));
        rows.extend(self.account.sources.iter().map(|(name, figures)| of(name, figures)));
        let mut text = aligned(&rows);
        for (what, reasons) in
            [("could not connect", &total.could_not_connect), ("unexpected", &total.unexpected)]
        {
            for (reason, count) in reasons {
                line(&mut text, &format!("{what}: {count} × {reason}"));
            }
        }
        let why = match self.ended {
            "time" => "; the time was up",
            "asked" => "; ended as asked",
            _ => "",
        };
        line(
            &mut text,
            &format!(
                "{} connections to {} in {:.3} s: {:.0}/s (seed {}{why})",
                total.connected,
                self.target,
                self.wall_seconds,
                self.per_second(),
                self.seed
            ),
        );
        text
    }
}

fn row(name: &str, cell: impl Fn(&Column) -> String) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(COLUMNS.iter().map(cell)).collect()
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max()
    };
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(at, cell)| {
            let width = width(at).unwrap_or(0);
            if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        line(&mut text, &cells.collect::<Vec<_>>().join("  "));
    }
    text
}

fn line(text: &mut String, words: &str) {
    text.push_str(words);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts that are all different.
    fn figures(start: u64) -> Figures {
        Figures {
            attempted: start,
            connected: start + 1,
            could_not_connect: [("refused".to_owned(), start + 2)].into(),
            answered: start + 3,
            refused: start + 4,
            closed_by_us: start + 5,
            closed_by_server: start + 6,
            reset_by_us: start + 7,
            reset_by_server: start + 8,
            unexpected: [(format!("late {start}"), start + 9)].into(),
            bytes_sent: start + 10,
            bytes_received: start + 11,
        }
    }

    #[test]
    fn the_sum_over_ways_equals_the_total_and_the_sum_over_sources() {
        let (mut one, mut other) = (Account::default(), Account::default());
        one.count("reset", "127.0.0.1", &figures(100));
        one.count("polite", "127.0.0.2", &figures(2000));
        other.count("reset", "127.0.0.2", &figures(30_000));
        one.add(&other);
        let mut by_source = Figures::default();
        one.sources.values().for_each(|figures| by_source.add(figures));
        let total = one.total();
        assert_eq!(total, by_source);
        assert_eq!(total.attempted, 32_100);
        assert_eq!(total.bytes_received, 32_133);
        assert_eq!(total.could_not_connect["refused"], 32_106);
        assert_eq!(total.unexpected.len(), 3);
        let ways = Report {
            account: one,
            target: "here".to_owned(),
            protocol: "http",
            seed: 1,
            ended: "done",
            wall_seconds: 2.0,
        }
        .json();
        for (name, _, figure) in COLUMNS {
            let each = ways["ways"].as_object().unwrap().values();
            let sum: u64 = each.map(|way| way[name].as_u64().unwrap()).sum();
            assert_eq!(ways["total"][name], sum, "{name}");
            assert_eq!(sum, figure(&total), "{name}");
        }
    }
}
