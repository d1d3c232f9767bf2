//! Library objects as text: counts by type, the functions that created most of them, and which still exist although
//! their release was requested.
//!
//! Takes the report's objects and call sites, returns lines; says what it leaves out. Single objects are in the JSON
//! and on the screen.

use std::io::{self, Write};

use super::{Page, per_second, table::table_of};
use crate::{
    format::{bytes, count, seconds},
    report::{Frame, LibraryObject, LibraryObjects, ObjectType, Report, Site},
};

/// Rows of types, and names of types without live objects; the rest are counted.
const ROWS: usize = 20;
/// Objects listed because their release was requested; all of them are counted.
const NAMED: usize = 5;

/// The line among the totals: there may be dozens of types.
pub(super) fn total(report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let (mut kinds, mut live, mut held, mut made, mut gone, mut inherited) = (0, 0, 0, 0, 0, 0);
    for (_, total) in report.totals.iter().filter(|(kind, _)| kind.is_object()) {
        kinds += u64::from(total.outstanding_count > 0);
        live += total.outstanding_count;
        held += total.outstanding_bytes;
        made += total.acquired_count;
        gone += total.released_count;
        inherited += total.inherited_count;
    }
    if made + inherited == 0 {
        return Ok(());
    }
    let noun = if kinds == 1 { "kind" } else { "kinds" };
    let there = match live {
        0 => "none outstanding".to_owned(),
        _ => format!("{} in {} {noun}, outstanding {}", count(live), count(kinds), bytes(held)),
    };
    page.line(&format!(
        "objects {there}; created {}{}, released {}",
        count(made),
        super::inherited_count(inherited),
        count(gone)
    ))
}

pub(super) fn write(
    objects: &LibraryObjects,
    report: &Report,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    if objects.types.is_empty() {
        return Ok(());
    }
    page.line("")?;
    let there = objects.types.iter().any(|kind| kind.live > 0);
    page.line(if there {
        "objects of libraries (asked: release requested; bytes: including the objects that they own)"
    } else {
        "objects of libraries"
    })?;
    by_kind(objects, &report.sites, page)?;
    gone(objects, page)?;
    asked(objects, report.targets.len() > 1, page)
}

/// A row for each type with live objects.
fn by_kind(
    objects: &LibraryObjects,
    sites: &[Site],
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let live: Vec<&ObjectType> = objects.types.iter().filter(|kind| kind.live > 0).collect();
    if live.is_empty() {
        return Ok(());
    }
    let shown = || live.iter().take(ROWS);
    let wide = page.width.is_none_or(|width| width >= WIDE);
    let queued = wide && shown().any(|kind| kind.queued_bytes.is_some());
    let pending = wide && shown().any(|kind| kind.pending.is_some());
    let mut partly = false;
    let mut head = ["kind", "library", "live", "asked", "created/s", "oldest", "bytes"]
        .map(str::to_owned)
        .to_vec();
    head.extend(queued.then(|| "queued".to_owned()));
    head.extend(pending.then(|| "pending".to_owned()));
    let figures = 2..head.len();
    head.push("call site of most".to_owned());
    let mut rows = vec![head];
    for kind in shown() {
        let unknown = || "?".to_owned();
        let least = if kind.is_all_summed() { "" } else { "≥ " };
        let summed = |number: Option<String>| {
            number.map_or_else(|| "-".to_owned(), |number| least.to_owned() + &number)
        };
        partly |= !least.is_empty()
            && (queued && kind.queued_bytes.is_some() || pending && kind.pending.is_some());
        let mut row = vec![
            kind.name.clone(),
            kind.library.clone(),
            count(kind.live),
            kind.release_asked.map_or_else(|| "-".to_owned(), count),
            kind.created_per_s.map_or_else(unknown, per_second),
            kind.oldest_s.map_or_else(unknown, seconds),
            bytes(kind.all_bytes()),
        ];
        row.extend(queued.then(|| summed(kind.queued_bytes.map(bytes))));
        row.extend(pending.then(|| summed(kind.pending.map(count))));
        row.push(place(kind, sites));
        rows.push(row);
    }
    table_of(&rows, |column| !figures.contains(&column), page)?;
    match live.len().saturating_sub(ROWS) {
        0 => {}
        1 => page.line("  … 1 more kind")?,
        more => page.line(&format!("  … {} more kinds", count(more as u64)))?,
    }
    if partly {
        page.line("  ≥: not all objects could be read")?;
    }
    Ok(())
}

/// From this width on, there is space for columns that only some types have.
const WIDE: usize = 100;

/// The function that created most of the live objects.
fn place(kind: &ObjectType, sites: &[Site]) -> String {
    let Some(number) = kind.site else { return String::new() };
    let asked = sites.iter().find(|site| site.id == number).and_then(Site::asked);
    let place = asked.map_or_else(|| format!("call site {number}"), Frame::label);
    match asked.and_then(Frame::source) {
        Some(source) => format!("{place}  {source}"),
        None => place,
    }
}

/// Types without live objects.
fn gone(objects: &LibraryObjects, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let gone: Vec<&ObjectType> = objects.types.iter().filter(|kind| kind.live == 0).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = gone
        .iter()
        .take(ROWS)
        .map(|kind| format!("{} {}", count(kind.created), kind.name))
        .collect();
    let more = match gone.len().saturating_sub(ROWS) {
        0 => String::new(),
        1 => " and 1 more kind".to_owned(),
        more => format!(" and {} more kinds", count(more as u64)),
    };
    page.line(&format!("  created and all released: {}{more}", named.join(", ")))
}

/// Objects whose release was requested, the longest ago first.
fn asked(
    objects: &LibraryObjects,
    several: bool,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let all: u64 = objects.types.iter().filter_map(|kind| kind.release_asked).sum();
    if all == 0 {
        return Ok(());
    }
    page.line(&match all {
        1 => "  1 object is still live although its release was requested:".to_owned(),
        _ => {
            format!("  {} objects are still live although their release was requested:", count(all))
        }
    })?;
    let mut asked: Vec<(&LibraryObject, f64)> =
        objects.table.iter().filter_map(|one| Some((one, one.release_asked_s?))).collect();
    asked.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    for (one, since_s) in asked.iter().take(NAMED) {
        let whose = if several { format!(" of pid {}", one.pid) } else { String::new() };
        page.line(&format!(
            "    {} {}{whose} requested {} ago, created {} ago{}",
            one.type_name,
            one.address,
            seconds(*since_s),
            seconds(one.age_s),
            known(one)
        ))?;
    }
    match all.saturating_sub(asked.len().min(NAMED) as u64) {
        0 => Ok(()),
        more => page.line(&format!("    … {} more", count(more))),
    }
}

/// Other known facts about an object.
fn known(one: &LibraryObject) -> String {
    let words = [
        one.label.clone(),
        one.fd.map(|fd| format!("fd {fd}")),
        one.peer.as_ref().map(|peer| format!("peer {peer}")),
        one.references.map(|number| match number {
            1 => "1 reference".to_owned(),
            _ => format!("{} references", count(number)),
        }),
        one.owner.as_ref().map(|owner| format!("owned by {owner}")),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        export::{Options, text},
        fixtures,
    };

    fn written(report: &Report, width: Option<usize>) -> String {
        let mut out = Vec::new();
        text::write(report, &Options { top: None, width, ..Options::default() }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn kinds_have_one_line_among_the_totals() {
        let text = written(&fixtures::objects(), None);
        let line =
            "\nobjects 1,899 in 5 kinds, outstanding 3.0 MiB; created 42,488, released 40,589\n";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("\nevbuffer "), "{text}");
    }

    #[test]
    fn rows_of_kinds_are_bounded() {
        let mut report = fixtures::objects();
        let objects = report.objects.as_mut().unwrap();
        let kind = objects.types[0].clone();
        objects.types = (0..45)
            .map(|at| ObjectType {
                name: format!("kind_{at}"),
                live: u64::from(at % 2 == 0),
                ..kind.clone()
            })
            .collect();
        let text = written(&report, None);
        assert!(text.contains("\n  … 3 more kinds\n"), "{text}");
        assert!(text.contains(" 9,516 kind_39 and 2 more kinds\n"), "{text}");
    }

    #[test]
    fn no_section_without_objects() {
        let mut report = fixtures::sample();
        report.objects = Some(LibraryObjects::default());
        assert!(!written(&report, None).contains("objects of libraries"));
    }

    #[test]
    fn control_characters_of_the_target_are_removed() {
        let mut report = fixtures::objects();
        report.objects.as_mut().unwrap().table[6].label = Some("\u{1b}[2J".to_owned());
        let text = written(&report, Some(80));
        assert!(!text.chars().any(|sign| sign.is_control() && sign != '\n'));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
