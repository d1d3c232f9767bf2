//! The report as JSON, as `docs/report.schema.json` describes it.
//!
//! Takes a [`Report`], returns text for programs, and parses it back. Adds and judges nothing.

mod lines;
mod shared_frames;

use std::io::{Read, Write};

use serde::Serialize as _;
use serde_json::Serializer;

use super::Options;
use crate::report::{Report, SCHEMA};
use lines::Lines;

/// Why a text is not a valid report.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON, or keys are missing or of another type.
    #[error("could not read the report")]
    Malformed(#[from] serde_json::Error),
    /// A report of another format.
    #[error("could not read the report: its format is `{0}`, not `{SCHEMA}`")]
    OtherFormat(String),
}

/// Writes the report, a line for each part and each element of its lists. The width does not matter.
pub fn write(report: &Report, options: &Options, out: &mut impl Write) -> std::io::Result<()> {
    written(report, options.top)
        .serialize(&mut Serializer::with_formatter(&mut *out, Lines::default()))?;
    out.write_all(b"\n")
}

/// Writes the report on one line, for a list of reports.
pub fn write_line(
    report: &Report,
    top: Option<usize>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, &written(report, top))?;
    out.write_all(b"\n")
}

/// The call sites that are written with all there is: they are worst first, and more than anybody looks at. A service of
/// many processes has thousands.
const FIRST: usize = 50;
/// With more call sites than that, later ones are left out if nothing is outstanding there: the totals have their sums.
const MANY: usize = 1_000;
/// The findings that are written with all there is. Later ones have no cohorts, and their stack is that of a call site.
const FIRST_FINDINGS: usize = 10;
/// Processes that are listed for a later call site: those that hold most.
const LATER_PROCESSES: usize = 5;

/// The report as it is written: with frames that stacks have in common once, and at most `top` call sites. Without that
/// number, those that somebody may look for.
fn written(report: &Report, top: Option<usize>) -> Report {
    let mut report = report.clone();
    let all = report.sites.len();
    let first = top.unwrap_or(if all > MANY { FIRST } else { all });
    let mut at = 0;
    report.sites.retain(|site| {
        at += 1;
        at <= first || (top.is_none() && site.outstanding_count > 0)
    });
    report.sites_left_out = u64::try_from(all - report.sites.len()).unwrap_or(u64::MAX);
    let later = report.sites.iter_mut().skip(FIRST);
    later.for_each(|site| site.by_process.truncate(LATER_PROCESSES));
    report.findings.iter_mut().skip(FIRST_FINDINGS).for_each(|finding| finding.cohorts.clear());
    shared_frames::share(&mut report);
    report
}

/// Reads a report; ignores keys that this version does not know.
pub fn read(from: &mut impl Read) -> Result<Report, Unreadable> {
    // Checks the format first: the keys of another format cannot be trusted.
    let value: serde_json::Value = serde_json::from_reader(from)?;
    match value.get("schema").and_then(serde_json::Value::as_str) {
        Some(SCHEMA) | None => {
            let mut report = serde_json::from_value(value)?;
            shared_frames::unshare(&mut report);
            Ok(report)
        }
        Some(other) => Err(Unreadable::OtherFormat(crate::format::printable(other))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, option, prelude::*, sample::select};

    use super::*;
    use crate::report::{
        Address, ClosedBy, Named, ObjectState, Offset, Protocol, SocketState, VerdictClass, Word,
        fixtures,
    };

    fn check_round_trip(report: &Report) {
        let mut text = Vec::new();
        write(report, &Options::default(), &mut text).unwrap();
        assert!(text.ends_with(b"}\n"));
        assert_eq!(read(&mut text.as_slice()).unwrap(), *report);
    }

    #[test]
    fn a_report_survives_a_round_trip() {
        for report in fixtures::all() {
            check_round_trip(&report);
        }
        let mut large = fixtures::sample();
        large.sites = large.sites[..3].iter().cycle().take(100).cloned().collect();
        check_round_trip(&large);
    }

    #[test]
    fn of_many_call_sites_quiet_ones_are_left_out_unless_a_number_is_asked_for() {
        let mut report = fixtures::sample();
        let (busy, quiet) = (report.sites[0].clone(), report.sites[3].clone());
        assert_eq!(quiet.outstanding_count, 0);
        report.sites = [vec![quiet.clone(); 60], vec![busy; 20], vec![quiet.clone(); 920]].concat();
        let sizes = |report: &Report, top| {
            let written = written(report, top);
            (written.sites.len(), written.sites_left_out)
        };
        assert_eq!(sizes(&report, None), (1_000, 0));
        assert_eq!(sizes(&report, Some(7)), (7, 993));
        report.sites.push(quiet);
        assert_eq!(sizes(&report, None), (70, 931));
        assert_eq!(sizes(&report, Some(1_000)), (1_000, 1));
    }

    /// Every value of a list that has a name, and names that are not in it.
    fn word<T: Named + std::fmt::Debug>() -> impl Strategy<Value = Word<T>> {
        let named: Vec<T> = T::ALL.iter().copied().filter(|one| !one.name().is_empty()).collect();
        prop_oneof![
            4 => select(named).prop_map(Word::Known),
            1 => "[a-z \"\\\\\u{1b}ü]{0,12}".prop_map(|name| Word::named(&name)),
        ]
    }

    proptest! {
        #[test]
        fn every_value_of_every_list_survives_a_round_trip(
            lost in btree_map(word(), any::<u64>(), 0..20),
            cut in btree_map(word(), any::<u64>(), 0..20),
            by_type in btree_map(word(), any::<u64>(), 0..20),
            by_end in btree_map(word::<ClosedBy>(), any::<u64>(), 0..8),
            (fd_type, origin, state) in (word(), option::of(word()), option::of(word::<SocketState>())),
            (protocol, closed_by) in (word::<Protocol>(), option::of(word())),
            (backend, lockdown) in (option::of(word()), option::of(word())),
            object_state in select(ObjectState::ALL),
            class in select(VerdictClass::ALL),
            (address, owner, offset) in (any::<u64>(), option::of(any::<u64>()), option::of(any::<u64>())),
        ) {
            let mut report = fixtures::served();
            report.accounting.lost = lost;
            report.accounting.truncated_by = cut;
            report.host.fd_backend = backend;
            report.host.lockdown = lockdown;
            report.probes[0].offset = offset.map(Offset);
            report.sites[0].verdict.class = class;
            report.sites[0].fd_type = Some(fd_type.clone());
            let fds = report.fds.as_mut().unwrap();
            fds.by_type = by_type;
            fds.table[0].fd_type = fd_type;
            fds.table[0].acquired_by = origin;
            fds.table[0].state = state.clone();
            let connections = report.connections.as_mut().unwrap();
            connections.by_end = by_end;
            connections.table[0].protocol = protocol;
            connections.table[0].state = state;
            connections.table[0].closed_by = closed_by;
            report.objects = fixtures::objects().objects;
            let object = &mut report.objects.as_mut().unwrap().table[0];
            object.address = Address(address);
            object.owner = owner.map(Address);
            object.state = object_state;
            check_round_trip(&report);
        }
    }

    #[test]
    fn another_format_is_distinguished_from_a_damaged_report() {
        let refusal = |text: &str| read(&mut text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"schema": "leaktrace/2"}"#),
            "could not read the report: its format is `leaktrace/2`, not `leaktrace/1`"
        );
        assert_eq!(refusal(r#"{"schema": "leaktrace/1"}"#), "could not read the report");
        assert_eq!(refusal("no"), "could not read the report");
    }
}
