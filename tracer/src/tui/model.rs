//! What several parts of the screen share: which column, the order, the baseline.
//!
//! Pure data; names no other file of the folder.

use std::collections::HashMap;

use crate::report::{Amount, Finding, Report, Site};

/// Which column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnId {
    /// The verdict; its order is the report's own, worst first.
    Verdict,
    /// The target's process id.
    Pid,
    /// The kind of a resource.
    Kind,
    /// The type of a library's object.
    ObjectType,
    /// The headline function.
    Site,
    /// Outstanding bytes.
    Bytes,
    /// Outstanding resources.
    Count,
    /// Bytes since the mark.
    BytesChange,
    /// Resources since the mark.
    CountChange,
    /// Bytes per second.
    Growth,
    /// Resources per second.
    CountGrowth,
    /// Median age.
    Median,
    /// Greatest age.
    Oldest,
    /// Resources acquired since the start.
    Acquired,
    /// The sparkline of outstanding bytes.
    Trend,
    /// Number of a descriptor.
    Fd,
    /// Type of a descriptor, in one word.
    Type,
    /// What a descriptor refers to: a path, or the peer.
    What,
    /// Remote address.
    Peer,
    /// State in the protocol.
    State,
    /// Time in that state.
    StateTime,
    /// Age.
    Age,
    /// Which side opened a connection.
    Role,
    /// Bytes received.
    In,
    /// Bytes sent.
    Out,
    /// Outstanding bytes acquired for it.
    Held,
    /// Bytes left behind.
    Orphans,
    /// Resources left behind.
    OrphanCount,
    /// Connections that left something behind.
    Leaving,
    /// Their share of all closed ones.
    Share,
    /// Paths that lead to a function.
    Paths,
    /// Open descriptors or connections.
    Open,
    /// Opened since the start.
    Opened,
    /// Opened per second.
    Churn,
    /// Closed since the start.
    Closed,
    /// The library of an object type.
    Library,
    /// Objects whose release was requested.
    Asked,
    /// Bytes, including those of the objects that it owns.
    Owned,
    /// Queued bytes.
    Queued,
    /// Whether, or how many, wait for an event.
    Pending,
    /// References to an object.
    References,
    /// The object that owns it.
    Owner,
    /// Its address in memory.
    Address,
    /// Its most telling name.
    Label,
    /// Confidence of a finding.
    Confidence,
    /// What a finding consists of.
    Parts,
    /// Since when a finding leaks.
    Since,
    /// Whose mistake a finding is.
    Fault,
    /// Processes that a finding concerns.
    Processes,
    /// Clients that a finding comes from.
    FromClients,
}

/// What a letter sorts by, in any list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The order that the list begins with: worst first.
    Worst,
    /// Bytes.
    Bytes,
    /// Number.
    Count,
    /// Growth, or how many per second.
    Rate,
    /// Age.
    Age,
    /// Name.
    Name,
}

impl SortBy {
    /// The columns that show it; a list has at most a few of them, and the first counts.
    pub const fn columns(self) -> &'static [ColumnId] {
        match self {
            Self::Worst => &[],
            Self::Bytes => &[ColumnId::Bytes, ColumnId::Held, ColumnId::Orphans],
            Self::Count => &[ColumnId::Count, ColumnId::Open, ColumnId::OrphanCount],
            Self::Rate => &[ColumnId::Growth, ColumnId::CountGrowth, ColumnId::Churn],
            Self::Age => &[ColumnId::Oldest, ColumnId::Age, ColumnId::Since],
            Self::Name => &[
                ColumnId::Site,
                ColumnId::What,
                ColumnId::Peer,
                ColumnId::ObjectType,
                ColumnId::Label,
            ],
        }
    }
}

/// The condition for a column to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Needs {
    /// Always.
    Nothing,
    /// A baseline is marked.
    Baseline,
    /// Some call site has a verdict.
    Verdict,
    /// There is more than one target.
    ManyTargets,
    /// Some finding is of more than one process.
    ManyProcesses,
    /// It is known whose mistake some finding is.
    Faults,
    /// Some finding comes from known clients.
    FindingClients,
    /// The protocol state of some descriptor is known.
    States,
    /// Closed connections left behind resources of some call site.
    Orphans,
    /// The growth of some descriptor type is known.
    TypeGrowth,
    /// The value is known for some object.
    Known,
}

/// Which column the table is sorted by, and whether in reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortOrder {
    /// The column.
    pub by: ColumnId,
    /// Whether the order is reversed.
    pub reversed: bool,
}

/// The sort key of an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rank<'a> {
    /// Not known: last in either direction.
    Unknown,
    /// By number.
    Number(f64),
    /// By text.
    Text(&'a str),
}

impl Rank<'_> {
    /// This key, or the other if this one is unknown.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Unknown { other } else { self }
    }
}

/// The baseline figures that `m` marks.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Tracing duration when it was marked, seconds.
    pub at_s: f64,
    /// Outstanding amounts by call-site id. A call site that is missing here began later, at zero.
    outstanding: HashMap<u32, Amount>,
    /// Outstanding amounts by finding.
    findings: HashMap<String, Amount>,
}

impl Baseline {
    /// The figures of this report.
    pub fn of(report: &Report) -> Self {
        let amount =
            |site: &Site| Amount { count: site.outstanding_count, bytes: site.outstanding_bytes };
        let outstanding = report.sites.iter().map(|site| (site.id, amount(site))).collect();
        let findings = report.findings.iter().map(|one| (one.id.clone(), one.outstanding));
        Self { at_s: report.window.duration_s, outstanding, findings: findings.collect() }
    }

    /// The outstanding amount of this finding when it was marked. Before it was a finding, that of its call sites.
    pub fn finding(&self, finding: &Finding) -> Amount {
        self.findings.get(&finding.id).copied().unwrap_or_else(|| {
            let sites = finding.sites.iter().map(|id| self.amount(*id));
            sites.fold(Amount::default(), |sum, one| Amount {
                count: sum.count + one.count,
                bytes: sum.bytes + one.bytes,
            })
        })
    }

    /// The outstanding amount of this call site when it was marked.
    pub fn amount(&self, id: u32) -> Amount {
        self.outstanding.get(&id).copied().unwrap_or(Amount { count: 0, bytes: 0 })
    }
}
