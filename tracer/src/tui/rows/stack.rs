//! The stack of one call site, innermost first: in short lines, or in full.
//!
//! Pure; takes frames, returns rows. The full form is complete: it marks inlined functions, gives the reason for
//! unnamed frames, and says if the stack is truncated.

use crate::{
    format,
    report::{Finding, Frame, Module, Site},
    tui::{
        names,
        text::{Role, Row},
    },
};

/// Width of the marker and the number before a frame's name, in cells.
const NUMBER: usize = 6;

/// The stack of a call site or a finding.
pub struct Stack<'a> {
    frames: &'a [Frame],
    headline: usize,
    truncated: bool,
    truncated_why: Option<&'a str>,
}

impl<'a> Stack<'a> {
    /// That of a call site.
    pub fn of(site: &'a Site) -> Self {
        Self {
            frames: &site.frames,
            headline: site.headline,
            truncated: site.truncated,
            truncated_why: site.truncated_why.as_deref(),
        }
    }

    /// That of a finding, whose first call site knows whether it is complete.
    pub fn of_finding(finding: &'a Finding, site: Option<&'a Site>) -> Self {
        Self {
            frames: &finding.frames,
            headline: finding.headline,
            truncated: site.is_some_and(|site| site.truncated),
            truncated_why: site.and_then(|site| site.truncated_why.as_deref()),
        }
    }
}

/// One line for each frame from the headline on: what it called to allocate is left out.
pub fn from_headline(stack: &Stack<'_>, width: usize) -> Vec<Row> {
    let first = if stack.headline < stack.frames.len() { stack.headline } else { 0 };
    short(stack, width).into_iter().skip(first).collect()
}

/// One line for each frame, names shortened to `width`.
pub fn short(stack: &Stack<'_>, width: usize) -> Vec<Row> {
    let longest = stack.frames.iter().filter_map(Frame::source).map(|s| names::width(&s)).max();
    let beside = longest.unwrap_or(0).min(width / 3).min(32);
    let space = width.saturating_sub(NUMBER + beside + 2);
    let name_width = stack.frames.iter().map(|frame| names::width(&name(frame))).max().unwrap_or(0);
    let name_width = name_width.min(space);
    let mut rows = Vec::new();
    for (number, frame) in stack.frames.iter().enumerate() {
        let note = note(frame);
        let label = names::function(&frame.label(), name_width.saturating_sub(names::width(&note)));
        let role = role(frame, number == stack.headline);
        let mut row = start(number, number == stack.headline).with(role, label);
        row = row.with(Role::Muted, note).fitted(NUMBER + name_width);
        let source = frame
            .source()
            .or_else(|| frame.why_unnamed.as_deref().map(str::to_owned))
            .unwrap_or_default();
        let left = width.saturating_sub(NUMBER + name_width + 2);
        let source = match frame.source() {
            Some(_) => names::middle(&source, left),
            None => names::start_of(&source, left),
        };
        rows.push(row.with(Role::Muted, format!("  {source}")));
    }
    rows.extend(end(stack, width));
    rows
}

/// Every frame with its full name, its source with its path, and its address in its object; then how to get missing
/// names.
pub fn full(stack: &Stack<'_>, modules: &[Module], width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let space = width.saturating_sub(NUMBER + 1);
    for (number, frame) in stack.frames.iter().enumerate() {
        let headline = number == stack.headline;
        for (line, text) in names::wrapped(&name(frame), space).into_iter().enumerate() {
            let begin = if line == 0 { start(number, headline) } else { indent() };
            rows.push(begin.with(role(frame, headline), text));
        }
        for text in names::wrapped(&place(frame), space) {
            rows.push(indent().with(Role::Muted, text));
        }
    }
    rows.extend(end(stack, width));
    rows.extend(naming_help(stack, modules, width));
    rows
}

/// How to get the missing names of each module of the stack.
fn naming_help(stack: &Stack<'_>, modules: &[Module], width: usize) -> Vec<Row> {
    let lacks = |module: &&Module| {
        let mut nameless = stack.frames.iter().filter(|frame| frame.symbol.is_none());
        nameless.any(|frame| frame.module.as_deref() == module.path.as_deref())
    };
    let mut rows = Vec::new();
    for module in modules.iter().filter(lacks) {
        let Some(help) = &module.help else { continue };
        let text = format!("names of {}: {help}", names::clean(module.label()));
        let line = |text| indent().with(Role::Muted, text);
        let wrapped = names::wrapped(&text, width.saturating_sub(NUMBER + 1));
        rows.extend(wrapped.into_iter().map(line));
    }
    rows
}

fn start(number: usize, headline: bool) -> Row {
    let marker = if headline { "▶" } else { " " };
    Row::of(Role::Accent, format!(" {marker}")).with(Role::Muted, format!("{number:>3} "))
}

fn indent() -> Row {
    Row::of(Role::Text, " ".repeat(NUMBER))
}

fn role(frame: &Frame, headline: bool) -> Role {
    match (headline, &frame.symbol) {
        (true, _) => Role::Strong,
        (false, Some(_)) => Role::Text,
        (false, None) => Role::Muted,
    }
}

fn note(frame: &Frame) -> String {
    match (frame.inlined, frame.tail_call) {
        (true, _) => " (inlined)".to_owned(),
        (false, true) => " (tail jump)".to_owned(),
        (false, false) => String::new(),
    }
}

fn name(frame: &Frame) -> String {
    frame.label() + &note(frame)
}

/// Source, object and address, or why there is no name.
fn place(frame: &Frame) -> String {
    let mut parts = Vec::new();
    if let Some(file) = &frame.file {
        let line = frame.line.map_or_else(String::new, |line| format!(":{line}"));
        parts.push(format!("{file}{line}"));
    }
    match (&frame.module, frame.module_offset) {
        (Some(module), Some(offset)) => {
            parts.push(format!("{}+{offset:#x}", format::file_name(module)));
        }
        (Some(module), None) => parts.push(format::file_name(module).to_owned()),
        (None, _) => parts.push(frame.address.to_string()),
    }
    parts.extend(frame.why_unnamed.as_ref().map(|why| format!("no name: {why}")));
    parts.join("  ")
}

/// The line after the last frame: none, or why the stack ends there.
fn end(stack: &Stack<'_>, width: usize) -> Vec<Row> {
    let text = match (stack.truncated_why, stack.truncated, stack.frames.is_empty()) {
        (Some(why), true, _) => format!("truncated here: {why}"),
        (None, true, _) => "truncated here: the thread's entry was not reached".to_owned(),
        (_, false, true) => "no stack was recorded".to_owned(),
        (_, false, false) => return Vec::new(),
    };
    let line = |text| indent().with(Role::Doubtful, text);
    names::wrapped(&text, width.saturating_sub(NUMBER + 1)).into_iter().map(line).collect()
}
