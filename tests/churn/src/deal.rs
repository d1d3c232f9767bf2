//! Assigns a way and a source address to each connection, and runs a connection from start to end.

use std::io::{self, ErrorKind};

use crate::{
    figures::Figures,
    line::{Limits, Line},
    options::Order,
    talk::{End, Fault, Talk},
    tls::Tls,
    ways::Way,
};

/// The assignment of one connection.
#[derive(Debug)]
struct Plan<'a> {
    way: &'a Way,
    /// Its index among the connections of its way.
    number: u64,
    source: &'a (String, Option<socket2::SockAddr>),
    rng: fastrand::Rng,
}

/// Ways come in rounds, each way once per round, in an order that the seed decides: their counts differ by one at most,
/// and are the same in each run.
fn plan(order: &Order, index: u64) -> Option<Plan<'_>> {
    let (count, sources) = (order.ways.len() as u64, order.sources.len() as u64);
    let (round, place) = (index.checked_div(count)?, index.checked_rem(count)?);
    // Sources cycle, too, with an extra step after each cycle: otherwise sources and ways, or which side closes, would
    // be correlated.
    let source = index.checked_add(index.checked_div(sources)?)?.checked_rem(sources)?;
    let mut ways = order.ways.clone();
    fastrand::Rng::with_seed(order.seed.wrapping_add(round)).shuffle(&mut ways);
    Some(Plan {
        way: ways.get(usize::try_from(place).ok()?)?,
        number: round,
        source: order.sources.get(usize::try_from(source).ok()?)?,
        // Far from the seeds of rounds.
        rng: fastrand::Rng::with_seed(order.seed.wrapping_add(index) ^ (1 << 63)),
    })
}

/// Runs the connection with this index; returns the names of its way and source, and its counts.
pub(crate) fn one<'a>(
    order: &'a Order,
    tls: &Tls,
    limits: &Limits,
    index: u64,
) -> Option<(&'a str, &'a str, Figures)> {
    let Plan { way, number, source, rng } = plan(order, index)?;
    let mut figures = Figures { attempted: 1, ..Figures::default() };
    match Line::open(&order.target, source.1.as_ref(), limits) {
        Err(error) => {
            figures.could_not_connect.insert(why(&error), 1);
        }
        Ok(line) => {
            figures.connected = 1;
            let unread = Vec::new();
            let mut talk = Talk { line, order, tls, rng, number, figures: &mut figures, unread };
            let result = (way.act)(&mut talk);
            // The waits end early when the run is over.
            let cut = talk.line.over();
            let (sent, received) = talk.line.bytes();
            // Closes the connection.
            drop(talk);
            figures.bytes_sent = sent;
            figures.bytes_received = received;
            finish(&mut figures, result, cut);
        }
    }
    Some((way.name, &source.0, figures))
}

fn finish(figures: &mut Figures, result: Result<End, Fault>, cut: bool) {
    let end = result.unwrap_or_else(|fault| {
        let end = fault.end();
        let words = match fault {
            Fault::Late if cut => "the run ended first".to_owned(),
            fault => fault.words(),
        };
        figures.unexpected.insert(words, 1);
        end
    });
    let figure = match end {
        End::ByUs => &mut figures.closed_by_us,
        End::ByServer => &mut figures.closed_by_server,
        End::ResetByUs => &mut figures.reset_by_us,
        End::ResetByServer => &mut figures.reset_by_server,
    };
    *figure = 1;
}

/// Why a connection failed, as a small set of distinct phrases.
fn why(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse => {
            "no port is free at this source address (EADDRNOTAVAIL)".to_owned()
        }
        ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn dealt(seed: &str) -> Vec<(&'static str, String)> {
        let words = ["--port", "1", "--from", "127.0.0.1,127.0.0.2", "--seed", seed];
        let order = Order::read(&words).unwrap();
        let names = |index| {
            let plan = plan(&order, index).unwrap();
            (plan.way.name, plan.source.0.clone())
        };
        (0..1300).map(names).collect()
    }

    #[test]
    fn a_source_without_a_free_port_is_distinguished_from_a_server_that_does_not_listen() {
        // EADDRNOTAVAIL and EADDRINUSE: by `connect` and by `bind`.
        let [by_connect, by_bind, refused] =
            [99, 98, 111].map(|code| why(&io::Error::from_raw_os_error(code)));
        assert!(by_connect.starts_with("no port is free"), "{by_connect}");
        assert_eq!(by_connect, by_bind);
        assert!(refused.starts_with("Connection refused"), "{refused}");
    }

    #[test]
    fn ways_are_dealt_evenly_and_the_same_for_the_same_seed() {
        let mut counts = BTreeMap::new();
        for (name, source) in dealt("7") {
            *counts.entry(name).or_insert(0) += 1;
            *counts.entry(source.leak()).or_insert(0) += 1;
        }
        assert_eq!(counts.remove("127.0.0.1"), Some(650));
        assert_eq!(counts.remove("127.0.0.2"), Some(650));
        assert!(counts.values().all(|count| (100..=109).contains(count)), "{counts:?}");
        assert_eq!(dealt("7"), dealt("7"));
        assert_ne!(dealt("7"), dealt("8"));
    }
}
