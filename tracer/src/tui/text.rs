//! Rows of text with a role for each part, and how they are fitted into a line.
//!
//! Pure. `theme` decides the look of a role, `draw` the position of a row.

use super::names;

/// The role of a piece of text, which decides its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Plain text.
    Text,
    /// Draws attention.
    Strong,
    /// Less important.
    Muted,
    /// A curve, or a key to press.
    Accent,
    /// The title of a column.
    Title,
    /// The title of the column that orders the table.
    Sorted,
    /// More than before.
    Rising,
    /// Less than before.
    Falling,
    /// Proven bad, or a figure that cannot be trusted.
    Bad,
    /// Likely bad, or not as requested.
    Doubtful,
    /// As expected.
    Good,
    /// Must not be overlooked: losses, an exited target.
    Loud,
    /// A state of the view that changes what is shown: paused, marked.
    Notice,
    /// Lines between parts of the screen.
    Rule,
}

/// A piece of text and its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The text.
    pub text: String,
    /// Its role.
    pub role: Role,
}

/// One line of the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its parts from left to right.
    pub parts: Vec<Part>,
    /// Whether the cursor is on it.
    pub selected: bool,
}

impl Row {
    /// An empty row.
    pub fn new() -> Self {
        Self::default()
    }

    /// A row of one part.
    pub fn of(role: Role, text: impl Into<String>) -> Self {
        Self::new().with(role, text)
    }

    /// Appends one part to the row.
    #[must_use]
    pub fn with(mut self, role: Role, text: impl Into<String>) -> Self {
        self.parts.push(Part { text: text.into(), role });
        self
    }

    /// Appends another row.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// Its width in cells.
    pub fn width(&self) -> usize {
        self.parts.iter().map(|part| names::width(&part.text)).sum()
    }

    /// The row in exactly `cells` cells: padded with spaces, or cut with `…`.
    #[must_use]
    pub fn fitted(mut self, cells: usize) -> Self {
        let width = self.width();
        if width <= cells {
            return self.with(Role::Text, " ".repeat(cells - width));
        }
        let mut space = cells;
        for part in &mut self.parts {
            part.text = names::start_of(&part.text, space);
            space -= names::width(&part.text).min(space);
        }
        self.parts.retain(|part| !part.text.is_empty());
        self.with(Role::Text, " ".repeat(space))
    }

    /// Its text alone.
    pub fn text(&self) -> String {
        self.parts.iter().map(|part| part.text.as_str()).collect()
    }
}

/// Left and right part of one line of `cells` cells; the left one is shortened if needed.
pub fn spread(left: Row, right: Row, cells: usize) -> Row {
    let right_width = right.width().min(cells);
    left.fitted(cells - right_width).and(right)
}

/// A part of a line that may be left out, the least important (highest number) first.
pub struct Segment {
    /// 0 is never left out.
    pub rank: u8,
    /// Its content.
    pub row: Row,
}

/// As many of the segments as fit in `cells` cells, in their order, with `gap` spaces between.
pub fn packed(mut segments: Vec<Segment>, cells: usize, gap: usize) -> Row {
    segments.retain(|segment| segment.row.width() > 0);
    let width = |segments: &[Segment]| {
        let gaps = gap * segments.len().saturating_sub(1);
        segments.iter().map(|segment| segment.row.width()).sum::<usize>() + gaps
    };
    while width(&segments) > cells {
        let Some(worst) = segments.iter().map(|segment| segment.rank).max().filter(|r| *r > 0)
        else {
            break;
        };
        if let Some(at) = segments.iter().rposition(|segment| segment.rank == worst) {
            segments.remove(at);
        }
    }
    let mut row = Row::new();
    for (number, segment) in segments.into_iter().enumerate() {
        if number > 0 {
            row = row.with(Role::Text, " ".repeat(gap));
        }
        row = row.and(segment.row);
    }
    row
}

/// A line across the screen with a title in it and a note at its right.
pub fn rule(title: Row, remark: Row, cells: usize) -> Row {
    let remark = if remark.width() == 0 {
        Row::new()
    } else {
        Row::of(Role::Rule, " ").and(remark).with(Role::Rule, " ─")
    };
    let mut left = Row::of(Role::Rule, "─ ").and(title).with(Role::Rule, " ");
    let space = cells.saturating_sub(remark.width());
    if left.width() > space {
        left = left.fitted(space);
    }
    let line = "─".repeat(space - left.width());
    left.with(Role::Rule, line).and(remark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_filled_or_cut_to_their_width() {
        assert_eq!(Row::of(Role::Text, "ab").fitted(4).text(), "ab  ");
        assert_eq!(Row::of(Role::Text, "ab").with(Role::Strong, "cdef").fitted(4).text(), "abc…");
        assert_eq!(
            spread(Row::of(Role::Text, "left"), Row::of(Role::Text, "right"), 8).text(),
            "le…right"
        );
    }

    #[test]
    fn the_least_important_segments_are_dropped_first() {
        let segments = || {
            [(0, "one"), (2, "two"), (1, "three")]
                .map(|(rank, text)| Segment { rank, row: Row::of(Role::Text, text) })
                .into()
        };
        assert_eq!(packed(segments(), 40, 2).text(), "one  two  three");
        assert_eq!(packed(segments(), 12, 2).text(), "one  three");
        assert_eq!(packed(segments(), 1, 2).text(), "one");
    }

    #[test]
    fn rules_fill_their_line() {
        let line = rule(Row::of(Role::Strong, "Help"), Row::of(Role::Muted, "1 of 2"), 24);
        assert_eq!(line.text(), "─ Help ──────── 1 of 2 ─");
        assert_eq!(rule(Row::of(Role::Strong, "x"), Row::new(), 8).text(), "─ x ────");
    }
}
