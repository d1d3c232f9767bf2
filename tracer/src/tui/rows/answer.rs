//! Whether anything leaks, in words: in the header, in an empty list of findings, and what that list leaves out.
//!
//! Pure; takes the report and the state, returns rows.

use crate::{
    format,
    report::{Report, VerdictClass},
    tui::{
        names,
        state::ViewState,
        summary::judges_nothing,
        text::{Role, Row},
    },
};

/// The header's lines: at most `most`.
pub(super) fn header(report: &Report, state: &ViewState, width: usize, most: usize) -> Vec<Row> {
    let (mark, role, text) = answer(report, state);
    let begin = if mark.is_empty() { " ".to_owned() } else { format!(" {mark} ") };
    let indent = names::width(&begin);
    let cells = width.saturating_sub(indent + 1);
    let mut lines = names::wrapped(&text, cells);
    if lines.len() > most {
        let rest = lines.split_off(most.saturating_sub(1)).join(" ");
        lines.push(names::start_of(&rest, cells));
    }
    let row = |(number, line): (usize, String)| {
        let begin = if number == 0 { begin.clone() } else { " ".repeat(indent) };
        Row::of(role, begin + &line)
    };
    lines.into_iter().enumerate().map(row).collect()
}

/// Mark, role and text. Reports of other versions may lack the sentence.
fn answer(report: &Report, state: &ViewState) -> (&'static str, Role, String) {
    let answer = &report.answer;
    let (mark, role) = match answer.class {
        Some(VerdictClass::Leak) => ("✖", Role::Bad),
        Some(VerdictClass::Suspect) => ("●", Role::Doubtful),
        Some(_) => ("▲", Role::Strong),
        None if answer.smallest_leak_per_s.is_some() => ("✔", Role::Good),
        None => ("", Role::Strong),
    };
    let text = if !answer.sentence.is_empty() {
        answer.sentence.clone()
    } else if report.light.is_some() {
        "Not judged: --light shows what memory grows, not what is released".to_owned()
    } else if report.accounting.estimated {
        "Not judged: under a budget only parts of the time are recorded".to_owned()
    } else if state.summary.leaks + state.summary.suspects > 0 {
        "Some call sites leak, or may: 2 lists them".to_owned()
    } else if state.summary.judged {
        "No leak so far".to_owned()
    } else {
        "Too early to say whether anything leaks".to_owned()
    };
    (mark, role, text)
}

/// The body of an empty list of findings: the whole answer.
pub(super) fn body(report: &Report, state: &ViewState, width: usize) -> Vec<Row> {
    let (_, role, text) = answer(report, state);
    let cells = width.saturating_sub(6);
    let line = |role| move |line: String| Row::of(role, format!("   {line}"));
    let mut rows: Vec<Row> = names::wrapped(&text, cells).into_iter().map(line(role)).collect();
    if let Some(text) = detail(report) {
        rows.extend(names::wrapped(&text, cells).into_iter().map(line(Role::Text)));
    }
    rows
}

/// What the answer is worth.
fn detail(report: &Report) -> Option<String> {
    if report.light.is_some() {
        return Some(
            "The call sites that grow are worth a look: 2 lists them. f switches to full tracing, which judges."
                .to_owned(),
        );
    }
    if report.accounting.estimated {
        return Some(
            "The call sites that grow are worth a look: 2 lists them. Without --max-overhead, leaktrace judges."
                .to_owned(),
        );
    }
    let rate = report.answer.smallest_leak_per_s?;
    // The sentence may contain it.
    if report.answer.sentence.contains("would have been seen") {
        return None;
    }
    let rate = if rate < 0.1 { format!("{rate:.2}/s") } else { format::count_per_s(rate) };
    let rate = rate.trim_start_matches('+');
    Some(format!("A leak of more than {rate} would have been seen."))
}

/// One line below the findings: what is not among them, and the key that shows it.
pub(super) fn folded(report: &Report, state: &ViewState, width: usize) -> Row {
    let mut row = Row::of(Role::Muted, " ");
    let mut number = 0;
    let mut add = |count: u64, one: &str, many: &str, key: &str, does: &str| {
        if count == 0 {
            return;
        }
        let noun = if count == 1 { one } else { many };
        let gap = if number == 0 { "" } else { ",  " };
        number += 1;
        let old = std::mem::take(&mut row);
        row = old
            .with(Role::Muted, format!("{gap}{} {noun}: ", format::count(count)))
            .with(Role::Accent, key)
            .with(Role::Muted, format!(" {does}"));
    };
    let does = if state.shows_growing() { "hides" } else { "shows" };
    let (growing, quiet) = (state.summary.growing as u64, state.summary.quiet as u64);
    add(growing, "growing", "growing", "a", does);
    let noun = if judges_nothing(report) { "" } else { " quiet" };
    add(quiet, &format!("call site{noun}"), &format!("call sites{noun}"), "2", "lists");
    let suppressed = report.suppressed.iter().map(|one| one.findings).sum();
    add(suppressed, "suppressed", "suppressed", "?", "names");
    row.fitted(width)
}
