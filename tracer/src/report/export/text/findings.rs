//! The answer and the findings as text: what leaks, how fast, since when, and where to look.
//!
//! Takes the report's answer and findings in their order, returns lines. Reorders nothing; what merely grows is shown
//! only where nothing leaks.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use tracer_common::kind::ResourceKind;

use super::{
    super::{Options, answer},
    Page, place,
};
use crate::{
    format::{bytes, count, magnitude, percent, roughly, time_of_day},
    report::{
        Amount, Finding, FindingPart, FindingRate, PerConnection, Report, Resource, Suppressed,
        VerdictClass,
    },
};

/// Findings with details; more would push the worst ones off the screen.
const SHOWN: usize = 5;

/// Clients of a finding.
const CLIENTS: usize = 3;

/// Kinds of resources of a finding.
const PARTS: usize = 5;

/// Frames of a stack that is not among the call sites below: enough to recognize the path.
const FRAMES: usize = 6;

/// Under this many seconds after the attach is at the attach: the history begins with the first refresh.
const AT_ONCE_S: f64 = 1.0;

/// Writes the answer, then the findings.
pub(super) fn write(
    report: &Report,
    options: &Options,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let answer = answer(report);
    if answer.is_empty() && report.findings.is_empty() && report.suppressed.is_empty() {
        return Ok(());
    }
    page.line("")?;
    if !answer.is_empty() {
        page.line(answer)?;
    }
    let lost = report.accounting.lost.values().copied().fold(0_u64, u64::saturating_add);
    if lost > 0 {
        page.line(&format!("judged from incomplete figures: LOST {}, see below", count(lost)))?;
    }
    let (growing, leaking): (Vec<_>, Vec<_>) =
        report.findings.iter().partition(|finding| finding.class == VerdictClass::Growing);
    let all = if leaking.is_empty() { &growing } else { &leaking };
    for finding in all.iter().take(SHOWN) {
        page.line("")?;
        paragraph(finding, report, options.top.unwrap_or(usize::MAX), page)?;
    }
    let more = all.len().saturating_sub(SHOWN);
    let growing = if leaking.is_empty() { 0 } else { growing.len() };
    if more > 0 || growing > 0 {
        page.line("")?;
    }
    if more > 0 {
        page.line(&format!("… {}", counted(more, "more finding", "more findings")))?;
    }
    if growing > 0 {
        let what = counted(growing, "more call path grows", "more call paths grow");
        page.line(&format!("{what}: with the load, or it is too early to say more"))?;
    }
    suppressed(&report.suppressed, options.show_suppressed, page)?;
    page.line("")
}

fn paragraph(
    finding: &Finding,
    report: &Report,
    shown: usize,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let class = finding.class.name().to_ascii_uppercase();
    page.line(&format!("{class} ({} sure): {}", sure(finding.confidence), finding.title))?;
    stack(finding, report, shown, page)?;
    page.line(&format!("    {}", outstanding(finding)))?;
    if let Some(growth) = growth(finding, &report.window.started_at) {
        page.line(&format!("    {growth}"))?;
    }
    if let Some(per) = &finding.per {
        page.line(&format!("    {}", left_behind(per)))?;
    }
    if let Some(clients) = clients(finding) {
        page.line(&format!("    {clients}"))?;
    }
    if let Some(fault) = &finding.fault {
        let sentence = match fault.known() {
            Some(known) => known.sentence(),
            None => fault.name(),
        };
        page.line(&format!("    {sentence}"))?;
    }
    if let Some(look_at) = &finding.look_at {
        page.line(&format!("    look first: {look_at}"))?;
    }
    for reason in &finding.reasons {
        page.line(&format!("    - {reason}"))?;
    }
    Ok(())
}

/// Confidence in percent: never 100 unless it is.
fn sure(confidence: f64) -> String {
    let most = if confidence < 1.0 { 99.0 } else { 100.0 };
    format!("{:.0} %", (confidence * 100.0).clamp(0.0, most))
}

fn outstanding(finding: &Finding) -> String {
    let whole = finding.outstanding;
    let several = if finding.processes > 1 {
        format!(" in {} processes", count(finding.processes))
    } else {
        String::new()
    };
    let mut parts: Vec<String> = finding.parts.iter().take(PARTS).map(part).collect();
    match finding.parts.len() {
        0 => parts.push(resources(&finding.kind, whole.count)),
        // With one size it is the sum.
        _ if finding.parts.iter().filter(|part| part.bytes > 0).count() < 2 => {
            let counts = |part: &FindingPart| resources(&part.kind, part.count);
            parts = finding.parts.iter().take(PARTS).map(counts).collect();
        }
        _ => {}
    }
    let more = finding.parts.len().saturating_sub(PARTS);
    if more > 0 {
        parts.push(counted(more, "more kind", "more kinds"));
    }
    let parts = listed(&parts);
    match whole.bytes {
        0 => format!("{parts} outstanding{several}"),
        size => format!("{} outstanding{several}: {parts}", bytes(size)),
    }
}

fn part(part: &FindingPart) -> String {
    let number = resources(&part.kind, part.count);
    if part.bytes == 0 { number } else { format!("{number} ({})", bytes(part.bytes)) }
}

/// A number of resources of one kind: `15,693 blocks`.
fn resources(kind: &Resource, number: u64) -> String {
    let many = if number == 1 { "" } else { "s" };
    format!("{} {}{many}", count(number), noun(kind))
}

/// One resource of a kind.
fn noun(kind: &Resource) -> Cow<'static, str> {
    Cow::Borrowed(match kind {
        Resource::Plain(ResourceKind::Heap) => "block",
        Resource::Plain(ResourceKind::Mmap) => "mapping",
        Resource::Plain(ResourceKind::Pages) => "page",
        Resource::Plain(ResourceKind::Fd) => "descriptor",
        Resource::Plain(ResourceKind::Socket) => "socket",
        Resource::Plain(ResourceKind::Object) => "object",
        Resource::Plain(ResourceKind::Thread) => "thread",
        Resource::Object(name) => return Cow::Owned(format!("{name} object")),
    })
}

/// `a`, `a and b`, `a, b and c`.
fn listed(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

/// How fast it grows, and since when.
fn growth(finding: &Finding, started_at: &str) -> Option<String> {
    let since = finding.since.map(|since| self::since(since, started_at));
    match (finding.rate.map(|per| rate(per, finding)), since) {
        (Some(rate), Some(since)) => Some(format!("{rate}, since {since}")),
        (Some(rate), None) => Some(rate),
        (None, since) => since.map(|since| format!("since {since}")),
    }
}

fn rate(rate: FindingRate, finding: &Finding) -> String {
    const UNITS: [(f64, &str); 3] = [(1.0, "second"), (60.0, "minute"), (3_600.0, "hour")];
    // The shortest unit in which there is at least one.
    let fits = |(seconds, _): &(f64, &str)| rate.count_per_s * seconds >= 0.95;
    let (seconds, unit) = UNITS.into_iter().find(fits).unwrap_or((3_600.0, "hour"));
    let each = |per_s: f64| figure(per_s * seconds);
    let number = each(rate.count_per_s);
    let size = match magnitude(rate.bytes_per_s.max(0.0) * seconds) {
        0 => String::new(),
        size => format!("{} in ", bytes(size)),
    };
    let noun = match finding.parts.as_slice() {
        [_, _, ..] => Cow::Borrowed("resource"),
        [part] => noun(&part.kind),
        [] => noun(&finding.kind),
    };
    let many = if number == "1" { "" } else { "s" };
    format!(
        "grows by {size}{number} {noun}{many} per {unit} (95 % interval {} to {})",
        each(rate.low),
        each(rate.high)
    )
}

/// A number that is not negative, with a decimal only where it matters.
fn figure(value: f64) -> String {
    let value = value.max(0.0);
    let text = format!("{value:.1}");
    if value < 9.95 && !text.ends_with(".0") { text } else { count(magnitude(value)) }
}

/// `09:03 UTC, 3 min after the attach`, or `the attach at 09:00 UTC`.
fn since(seconds: f64, started_at: &str) -> String {
    let time = time_of_day(started_at, seconds);
    if seconds < AT_ONCE_S {
        return time
            .map_or_else(|| "the attach".to_owned(), |time| format!("the attach at {time}"));
    }
    let after = format!("{} after the attach", roughly(seconds));
    time.map_or_else(|| after.clone(), |time| format!("{time}, {after}"))
}

fn left_behind(per: &PerConnection) -> String {
    let each = match magnitude(per.bytes) {
        0 => "something".to_owned(),
        size => bytes(size),
    };
    if per.share >= 1.0 {
        format!("each {} leaves {each} behind", per.what)
    } else {
        format!("{} of {}s leave {each} behind each", percent(per.share), per.what)
    }
}

/// The clients with most resources.
fn clients(finding: &Finding) -> Option<String> {
    let one = |address: &str, number: u64, size: u64| match size {
        0 => format!("{address} ({})", count(number)),
        size => format!("{address} ({} in {})", bytes(size), count(number)),
    };
    let named: Vec<String> = finding
        .clients
        .iter()
        .take(CLIENTS)
        .map(|client| one(&client.address, client.count, client.bytes))
        .collect();
    (!named.is_empty()).then(|| format!("top clients: {}", named.join(", ")))
}

/// Where it is acquired, and where to find the stack: the call site below, or else the frames themselves.
fn stack(
    finding: &Finding,
    report: &Report,
    shown: usize,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let Some(asked) = finding.asked() else { return Ok(()) };
    let rank = finding
        .sites
        .first()
        .and_then(|id| report.sites.iter().take(shown).position(|site| site.id == *id));
    let more = match finding.sites.len() {
        0 | 1 => String::new(),
        sites => format!(", one of {} call paths", count(sites as u64)),
    };
    if let Some(rank) = rank {
        let rank = rank + 1;
        return page.line(&format!("    at {}: call site #{rank} below{more}", place(asked)));
    }
    page.line(&format!("    at {}{more}", place(asked)))?;
    let callers = finding.frames.iter().skip(finding.headline.saturating_add(1)).take(FRAMES - 1);
    for frame in callers {
        page.line(&format!("       called by {}", place(frame)))?;
    }
    Ok(())
}

/// What the user's patterns hide: in one line, or all of it.
fn suppressed(all: &[Suppressed], listed: bool, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let findings = all.iter().fold(0_u64, |sum, one| sum.saturating_add(one.findings));
    if findings == 0 {
        return Ok(());
    }
    page.line("")?;
    let many = if findings == 1 { "" } else { "s" };
    let hidden = format!(
        "{} finding{many} suppressed by {}",
        count(findings),
        counted(all.len(), "pattern", "patterns")
    );
    if !listed {
        let them = if findings == 1 { "it" } else { "them" };
        return page.line(&format!("{hidden}; --show-suppressed lists {them}"));
    }
    page.line(&format!("{hidden}:"))?;
    for one in all {
        let Amount { count: number, bytes: size } = one.outstanding;
        let many = if one.findings == 1 { "" } else { "s" };
        page.line(&format!(
            "  {}: {} finding{many}, {} in {}",
            one.pattern,
            count(one.findings),
            bytes(size),
            count(number)
        ))?;
        for title in &one.titles {
            page.line(&format!("    - {title}"))?;
        }
        let more = one.findings.saturating_sub(one.titles.len() as u64);
        if more > 0 && !one.titles.is_empty() {
            page.line(&format!("    … {} more", count(more)))?;
        }
    }
    Ok(())
}

fn counted(number: usize, one: &str, several: &str) -> String {
    format!("{} {}", count(number as u64), if number == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{FindingClient, fixtures};

    fn leak() -> Finding {
        fixtures::sample().findings.remove(0)
    }

    #[test]
    fn rates_are_in_the_shortest_unit_that_has_one() {
        let of = |count_per_s: f64, bytes_per_s: f64| {
            let finding = Finding { parts: Vec::new(), ..leak() };
            let (low, high) = (count_per_s * 0.5, count_per_s * 2.0);
            rate(FindingRate { count_per_s, bytes_per_s, low, high }, &finding)
        };
        for (count_per_s, bytes_per_s, text) in [
            (1234.4, 4096.0, "4.0 KiB in 1,234 blocks per second (95 % interval 617 to 2,469)"),
            (0.5, 0.0, "30 blocks per minute (95 % interval 15 to 60)"),
            (1.0 / 3600.0, 1.0, "3.5 KiB in 1 block per hour (95 % interval 0.5 to 2)"),
            (0.000_01, -1.0, "0 blocks per hour (95 % interval 0 to 0.1)"),
        ] {
            assert_eq!(of(count_per_s, bytes_per_s), format!("grows by {text}"));
        }
    }

    #[test]
    fn every_part_with_a_size_shows_it_unless_it_is_the_sum() {
        let mut finding = leak();
        finding.processes = 4;
        assert_eq!(
            outstanding(&finding),
            "61.3 MiB outstanding in 4 processes: 15,693 blocks and 5,231 sockets"
        );
        let object = Resource::Object("SSL".into());
        finding.parts.insert(0, FindingPart { kind: object, count: 1, bytes: 2048 });
        assert_eq!(
            outstanding(&finding),
            "61.3 MiB outstanding in 4 processes: 1 SSL object (2.0 KiB), 15,693 blocks (61.3 MiB) \
             and 5,231 sockets"
        );
        finding.outstanding.bytes = 0;
        finding.parts = vec![FindingPart { kind: ResourceKind::Fd.into(), count: 7, bytes: 0 }; 7];
        assert!(
            outstanding(&finding).ends_with(
                "7 descriptors, 7 descriptors and 2 more kinds outstanding in 4 processes"
            )
        );
    }

    #[test]
    fn confidence_rounds_to_certainty_only_if_it_is() {
        for (confidence, text) in [(0.0, "0 %"), (0.29, "29 %"), (0.999, "99 %"), (1.0, "100 %")] {
            assert_eq!(sure(confidence), text);
        }
    }

    #[test]
    fn a_time_without_a_date_is_only_a_distance() {
        assert_eq!(since(0.2, "2026-03-05T09:00:00Z"), "the attach at 09:00 UTC");
        assert_eq!(since(180.0, "?"), "3 min after the attach");
    }

    #[test]
    fn what_has_no_bytes_is_counted() {
        let mut finding = leak();
        let per = |share, bytes| {
            left_behind(&PerConnection { what: "closed connection".to_owned(), share, bytes })
        };
        assert_eq!(per(1.0, 512.0), "each closed connection leaves 512 B behind");
        assert_eq!(per(0.25, 0.0), "25.0 % of closed connections leave something behind each");
        finding.clients =
            vec![FindingClient { address: "::1".to_owned(), count: 1_000, bytes: 0 }; 5];
        let text = clients(&finding).unwrap();
        assert_eq!(text, "top clients: ::1 (1,000), ::1 (1,000), ::1 (1,000)");
        finding.clients.clear();
        assert_eq!(clients(&finding), None);
    }
}
