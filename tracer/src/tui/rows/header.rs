//! The header: targets, duration, totals, cost, and losses.
//!
//! Pure; takes the state, returns rows. Losses are always shown: `lost 0`, or prominently the number and the reasons.

use tracer_common::loss::Loss;

use crate::{
    format,
    report::{Accounting, Exit, ProbeStatus, Report, Target, Word},
    tui::{
        columns, figures,
        lists::List,
        names,
        state::{Size, ViewState},
        text::{Role, Row, Segment, packed, spread},
    },
};

/// The header's rows; their number depends on losses and on the targets' end.
pub fn rows(state: &ViewState) -> Vec<Row> {
    let Size { columns, rows } = state.size;
    let width = usize::from(columns);
    let Some(report) = state.shown.as_deref() else {
        return vec![Row::of(Role::Strong, " leaktrace")];
    };
    let mut lines = vec![identity(report, state, width)];
    // On the smallest screens the table needs the lines more.
    lines.extend(super::answer::header(report, state, width, if rows < 20 { 1 } else { 2 }));
    lines.extend(super::limits::near(report, width));
    lines.extend([sums(report, state, width), costs(report, state, width)]);
    lines.extend(super::light::rows(report, width));
    lines.extend(super::counts::rows(report, state, width));
    lines.extend(losses(&report.accounting, width, if rows < 30 { 1 } else { 4 }));
    lines.extend(warnings(report, width));
    lines.extend(end(report, width));
    lines
}

/// Targets and duration, and at the right the states that change the meaning of all figures.
fn identity(report: &Report, state: &ViewState, width: usize) -> Row {
    let lost = lost(&report.accounting);
    let mut right = Row::new();
    if report.accounting.estimated {
        right = right.with(Role::Loud, " ESTIMATED ").with(Role::Text, "  ");
    }
    if state.paused {
        right = right.with(Role::Notice, " PAUSED ").with(Role::Text, "  ");
    }
    right = if lost == 0 {
        right.with(Role::Muted, "lost 0 ")
    } else {
        right.with(Role::Loud, format!(" LOST {} ", format::count(lost)))
    };
    // With much to show and little space, this word is dropped first.
    let word = if width < 80 && report.accounting.estimated { "" } else { "traced " };
    let time = format!("{word}{}", format::clock(report.window.duration_s));
    let fixed = "leaktrace".len() + time.len() + right.width() + 8;
    let target = targets(&report.targets, width.saturating_sub(fixed));
    let left = Row::of(Role::Strong, " leaktrace  ")
        .with(Role::Text, target)
        .with(Role::Muted, "  ")
        .with(Role::Muted, time)
        .with(Role::Text, "  ");
    spread(left, right, width)
}

/// The first target, and how many more there are.
fn targets(targets: &[Target], cells: usize) -> String {
    let Some(first) = targets.first() else { return "no target".to_owned() };
    let path = first.exe.as_deref().or(first.cmdline.first().map(String::as_str));
    let name = format::file_name(path.unwrap_or("?"));
    let gone = targets.iter().filter(|target| target.exited.is_some()).count();
    let tail = match (targets.len() - 1, gone) {
        (0, _) => format!(" (pid {})", first.pid),
        (more, 0) => format!(" (pid {}) and {more} more", first.pid),
        (more, gone) => format!(" (pid {}) and {more} more, {gone} exited", first.pid),
    };
    names::middle(name, cells.saturating_sub(names::width(&tail)).max(4)) + &tail
}

/// Outstanding per kind, resident memory, and their common curve.
fn sums(report: &Report, state: &ViewState, width: usize) -> Row {
    let mut segments = Vec::new();
    // Resources without a size have a row of their own, and so have objects, which may have dozens of types.
    let sized = report.totals.iter().filter(|(kind, _)| kind.has_bytes() && !kind.is_object());
    for ((kind, total), rank) in sized.zip(0_u8..) {
        let about = figures::about(total.error.as_ref());
        let count = figures::count(total.outstanding_count);
        let row = Row::of(Role::Muted, format!("{} ", kind.name()))
            .with(Role::Strong, about.to_owned() + &format::bytes(total.outstanding_bytes))
            .with(Role::Text, format!(" in {about}{count}"));
        segments.push(Segment { rank, row });
        if let Some(rate) = state.summary.growth.get(kind) {
            let row = columns::rate(Some(*rate), format::bytes_per_s);
            segments.push(Segment { rank: rank + 2, row });
        }
    }
    let row = Row::of(Role::Muted, "rss ")
        .with(Role::Text, resident(&report.targets).map_or_else(|| "?".to_owned(), format::bytes));
    segments.push(Segment { rank: 1, row });
    let left = Row::of(Role::Text, " ").and(packed(
        segments,
        width.saturating_sub(2),
        if width < 100 { 2 } else { 3 },
    ));
    let space = width.saturating_sub(left.width() + 4);
    if space < 12 {
        return left;
    }
    let curve = figures::spark(&state.summary.trend, space.min(30));
    spread(left, Row::of(Role::Accent, curve).with(Role::Text, " "), width)
}

/// Events that tracing sees, and its cost.
fn costs(report: &Report, state: &ViewState, width: usize) -> Row {
    // Names say what is behind the numbers: they go only if what must be shown needs their space.
    let fitting = [true, false].into_iter().find_map(|named| {
        let tabs = tabs(report, state.list, named);
        let space = width.saturating_sub(tabs.width() + 3);
        let segments = cost_segments(report, space);
        let musts = segments.iter().filter(|one| one.rank == 0).map(|one| one.row.width() + 3);
        (musts.sum::<usize>() <= space + 3 || !named).then_some((tabs, space, segments))
    });
    let Some((tabs, space, segments)) = fitting else { return Row::new() };
    let left = Row::of(Role::Text, " ").and(packed(segments, space, 3)).fitted(space + 1);
    spread(left, tabs, width)
}

/// What tracing sees and costs, for a line with `space` cells.
fn cost_segments(report: &Report, space: usize) -> Vec<Segment> {
    let seen = &report.accounting;
    let mut segments = vec![
        segment(2, Role::Text, rate(seen.events_per_s)),
        Segment { rank: 0, row: probes(report, space) },
    ];
    if let Some(budget) = seen.budget {
        let cost =
            budget.cost.map_or_else(|| "?".to_owned(), |cost| format!("{:.1}", cost * 100.0));
        let text = format!("cost {cost} % (max {} %)", format::in_percent(budget.share));
        segments.push(segment(0, Role::Notice, text));
        if seen.estimated {
            segments.push(segment(
                2,
                Role::Muted,
                format!("{} windows", figures::count(budget.windows)),
            ));
        }
    }
    if let Some(share) = seen.collector.cpu_percent {
        segments.push(segment(3, Role::Muted, format!("own cpu {share:.1} %")));
    }
    if let Some(bytes) = seen.collector.rss_bytes {
        segments.push(segment(4, Role::Muted, format!("own rss {}", format::bytes(bytes))));
    }
    if let Some(bytes) = seen.collector.kernel_bytes {
        segments.push(segment(4, Role::Muted, format!("kernel {}", format::bytes(bytes))));
    }
    let invalid = report.invalid_releases.iter().map(|one| one.count).sum();
    for (rank, count, what) in [
        (1, seen.truncated_stacks, "truncated stacks"),
        (
            1,
            seen.unwind.loading,
            if seen.unwind.loading == 1 { "unwind table loading" } else { "unwind tables loading" },
        ),
        (3, seen.unknown_frees, "unknown frees"),
        (1, invalid, "invalid releases"),
        (5, seen.failed_acquires, "failed"),
    ] {
        if count > 0 {
            segments.push(segment(rank, Role::Muted, format!("{} {what}", figures::count(count))));
        }
    }
    segments
}

/// The available lists, the current one in brackets; with their names or without.
fn tabs(report: &Report, list: List, named: bool) -> Row {
    let tabs = [
        ("1", "Findings", list == List::Findings, true),
        ("2", "Sites", list == List::Sites, true),
        ("3", "Fds", list == List::Fds, report.fds.is_some()),
        ("4", "Conns", list.is_of_connections(), report.connections.is_some()),
        ("5", "Objects", list.is_of_objects(), report.objects.is_some()),
    ];
    let mut row = Row::new();
    for (key, name, here, _) in tabs.into_iter().filter(|(_, _, here, there)| *here || *there) {
        let (before, after) = if here { ("[", "]") } else { (" ", " ") };
        let role = if here { Role::Strong } else { Role::Muted };
        let name = if named { format!(" {name}") } else { String::new() };
        row = row.with(role, before).with(Role::Accent, key).with(role, format!("{name}{after}"));
    }
    row.with(Role::Text, " ")
}

fn segment(rank: u8, role: Role, text: String) -> Segment {
    Segment { rank, row: Row::of(role, text) }
}

fn rate(events_per_s: f64) -> String {
    let rate = format::count_per_s(events_per_s);
    format!("{} events/s", rate.trim_start_matches('+').trim_end_matches("/s"))
}

/// How many probes are attached, and the problems of the others, in a line with `space` cells.
fn probes(report: &Report, space: usize) -> Row {
    if report.light.is_some() {
        return Row::of(Role::Text, "light: page faults, no probe");
    }
    let probes = &report.probes;
    let count = |status| probes.iter().filter(|probe| probe.status == status).count();
    let on = count(ProbeStatus::On);
    let slow = probes
        .iter()
        .filter(|probe| probe.status == ProbeStatus::On && probe.emulated == Some(false))
        .count();
    let narrow = space < if report.accounting.budget.is_some() { 80 } else { 60 };
    let mut row = match on {
        0 => Row::of(Role::Loud, " NO PROBE ON "),
        1 => Row::of(Role::Text, "1 probe on"),
        _ => Row::of(Role::Text, format!("{on} probes on")),
    };
    for (number, role, what) in [
        (slow, Role::Doubtful, "slow"),
        (count(ProbeStatus::Refused), Role::Bad, "refused"),
        // Information, not a failure: dropped first.
        (if narrow { 0 } else { count(ProbeStatus::Missing) }, Role::Muted, "missing"),
    ] {
        if number > 0 {
            row = row.with(Role::Text, ", ").with(role, format!("{number} {what}"));
        }
    }
    row
}

/// Losses, all reasons together.
pub fn lost(accounting: &Accounting) -> u64 {
    accounting.lost.values().fold(0, |sum, count| sum.saturating_add(*count))
}

/// Losses, the most frequent first: a sentence each if there is space, else names in a line.
fn losses(accounting: &Accounting, width: usize, most: usize) -> Vec<Row> {
    let mut reasons: Vec<(&Word<Loss>, &u64)> = accounting.lost.iter().collect();
    reasons.retain(|(_, count)| **count > 0);
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let line = |text: String| {
        Row::of(Role::Text, " ").with(Role::Bad, names::start_of(&text, width.saturating_sub(2)))
    };
    if reasons.is_empty() {
        return Vec::new();
    }
    if reasons.len() == 1 || reasons.len() <= most {
        let sentence = |(reason, count): &(&Word<Loss>, &u64)| {
            line(format!("lost {} {}", format::count(**count), reason.sentence()))
        };
        return reasons.iter().map(sentence).collect();
    }
    let words: Vec<String> =
        reasons.iter().map(|(name, count)| format!("{} {name}", format::count(**count))).collect();
    vec![line(format!("lost {} (? explains)", words.join(", ")))]
}

/// What to know before trusting the figures; a saved report has the full text.
fn warnings(report: &Report, width: usize) -> Vec<Row> {
    let row = |warning: &String| {
        let text = names::start_of(warning, width.saturating_sub(2));
        Row::of(Role::Text, " ").with(Role::Bad, text)
    };
    report.warnings.iter().map(row).collect()
}

/// Shown when every target has ended.
fn end(report: &Report, width: usize) -> Option<Row> {
    let ends: Option<Vec<Exit>> = report.targets.iter().map(|target| target.exited).collect();
    let ends = ends.filter(|ends| !ends.is_empty())?;
    let text = match ends.as_slice() {
        [end] => format!(" The target {}. Figures are final; q quits. ", how(*end)),
        _ => format!(" All {} targets have exited. Figures are final; q quits. ", ends.len()),
    };
    Some(Row::of(Role::Text, " ").with(Role::Loud, names::start_of(&text, width.saturating_sub(2))))
}

/// How a target ended, as far as known.
fn how(end: Exit) -> String {
    match (end.status, end.signal) {
        (_, Some(signal)) => {
            let name = match signal {
                6 => " (SIGABRT)",
                7 => " (SIGBUS)",
                9 => " (SIGKILL)",
                11 => " (SIGSEGV)",
                15 => " (SIGTERM)",
                _ => "",
            };
            format!("was killed by signal {signal}{name}")
        }
        (Some(status), None) => format!("exited with status {status}"),
        (None, None) => "has exited".to_owned(),
    }
}

/// Resident memory of the targets that run; of all, if none does. Of a child that was born a moment ago none is known yet,
/// and a server may always have one.
fn resident(targets: &[Target]) -> Option<u64> {
    let all_gone = targets.iter().all(|target| target.exited.is_some());
    let counted = targets.iter().filter(|target| all_gone || target.exited.is_none());
    counted.filter_map(|target| target.rss_bytes).reduce(|sum, one| sum + one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::sample;

    #[test]
    fn a_child_that_was_just_born_does_not_hide_the_memory_of_the_others() {
        let exited = Some(Exit { status: Some(0), signal: None });
        let [mut server, mut young, mut gone] =
            [(); 3].map(|()| sample::report().targets.remove(0));
        (server.rss_bytes, young.rss_bytes, gone.rss_bytes) = (Some(50), None, Some(7));
        gone.exited = exited;
        assert_eq!(resident(&[server.clone(), young.clone(), gone.clone()]), Some(50));
        assert_eq!(resident(std::slice::from_ref(&young)), None);
        server.exited = exited;
        assert_eq!(resident(&[server, gone]), Some(57));
    }
}
