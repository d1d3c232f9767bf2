//! Events of connections as lines of the connection log.

use std::time::{Duration, SystemTime};

use super::connections::{address, amount, began, closed_by};
use crate::{
    ledger::connections::{Connection, Occurrence},
    report::{LogLine, Logged, Word},
};

/// One moment on both clocks, for times in the log.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Wall clock.
    pub started: SystemTime,
    /// The clock of the snapshots, nanoseconds.
    pub started_ns: u64,
}

impl Clock {
    fn time(&self, at_ns: u64) -> String {
        let since = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
        let at = self.started + since(self.started_ns, at_ns);
        let at = at.checked_sub(since(at_ns, self.started_ns)).unwrap_or(at);
        humantime::format_rfc3339_millis(at).to_string()
    }

    fn seconds(&self, at_ns: u64) -> f64 {
        at_ns.saturating_sub(self.started_ns) as f64 / 1e9
    }
}

/// The log line for one event of a connection.
pub fn line(occurrence: &Occurrence, clock: &Clock) -> LogLine {
    match occurrence {
        Occurrence::Opened(connection) => {
            let at_ns = connection.opened_ns.unwrap_or(clock.started_ns);
            LogLine::Opened {
                time: clock.time(at_ns),
                at_s: clock.seconds(at_ns),
                connection: logged(connection),
            }
        }
        Occurrence::Closed(connection, held) => {
            let closed = connection.closed.unwrap_or_default();
            let age = |opened: u64| closed.at_ns.saturating_sub(opened) as f64 / 1e9;
            LogLine::Closed {
                time: clock.time(closed.at_ns),
                at_s: clock.seconds(closed.at_ns),
                connection: logged(connection),
                opened_s: connection.opened_ns.map(|at| clock.seconds(at)),
                age_s: connection.opened_ns.map(age),
                closed_by: closed.by.map(|end| closed_by(end).into()),
                bytes_in: closed.bytes_in,
                bytes_out: closed.bytes_out,
                held: amount(*held),
            }
        }
        Occurrence::Orphans { id, client, closed_ns, at_ns, left } => LogLine::Orphans {
            time: clock.time(*at_ns),
            at_s: clock.seconds(*at_ns),
            id: *id,
            client: address(client),
            closed_s: clock.seconds(*closed_ns),
            orphans: amount(*left),
        },
    }
}

fn logged(connection: &Connection) -> Logged {
    Logged {
        id: connection.id,
        pid: connection.pid.0,
        fd: connection.fd,
        protocol: Word::named(connection.protocol),
        role: began(connection.role),
        local: connection.local.as_ref().map(ToString::to_string),
        peer: connection.peer.as_ref().map(ToString::to_string),
        peer_pid: connection.peer_pid,
        site: (connection.site != 0).then_some(connection.site),
    }
}
