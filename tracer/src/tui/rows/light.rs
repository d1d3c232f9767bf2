//! The header's row of the kernel's figures, with `--light`: memory and file descriptors of all targets.
//!
//! Pure; on a narrow screen the least important part is dropped first.

use crate::{
    format,
    report::{FdType, Growing, Level, Report, Word},
    tui::{
        columns, figures,
        text::{Role, Row, Segment, packed},
    },
};

/// Selects an amount of a process.
type Of = fn(&Growing) -> Option<Level>;

/// One row, or none without `--light`.
pub(super) fn rows(report: &Report, width: usize) -> Option<Row> {
    let light = report.light.as_ref()?;
    let mut segments = Vec::new();
    let amounts: [(&str, Of, u8); 3] = [
        ("anonymous", |one| one.anonymous, 0),
        ("data", |one| one.data, 3),
        ("brk", |one| one.brk, 4),
    ];
    for (name, of, rank) in amounts {
        let Some(level) = sum(light.processes.iter().map(of)) else { continue };
        let row = Row::of(Role::Muted, format!("{name} "))
            .with(Role::Text, format::bytes(level.now))
            .with(Role::Text, " ")
            .and(columns::rate(level.growth_per_s, format::bytes_per_s));
        segments.push(Segment { rank, row });
    }
    if let Some(level) = sum(light.processes.iter().map(|one| one.fds)) {
        let row = Row::of(Role::Muted, "fds ")
            .with(Role::Text, figures::count(level.now))
            .with(Role::Text, " ")
            .and(columns::rate(level.growth_per_s, format::count_per_s));
        segments.push(Segment { rank: 1, row });
    }
    if let Some(fds) = &report.fds {
        let mut by_type: Vec<(&Word<FdType>, &u64)> = fds.by_type.iter().collect();
        by_type.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let words: Vec<String> = by_type
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, count)| format!("{name} {}", figures::count(**count)))
            .collect();
        segments.push(Segment { rank: 2, row: Row::of(Role::Muted, words.join(", ")) });
    }
    Some(Row::of(Role::Text, " ").and(packed(segments, width.saturating_sub(2), 3)))
}

/// The sum of all; unknown when any is.
fn sum(levels: impl Iterator<Item = Option<Level>>) -> Option<Level> {
    levels.reduce(|sum, level| {
        let (sum, level) = (sum?, level?);
        Some(Level {
            now: sum.now + level.now,
            change: sum.change + level.change,
            growth_per_s: sum.growth_per_s.zip(level.growth_per_s).map(|(sum, one)| sum + one),
        })
    })?
}

#[cfg(test)]
mod tests {
    use super::sum;
    use crate::report::Level;

    #[test]
    fn a_sum_with_something_unknown_is_unknown() {
        let one = Level { now: 3, change: 1, growth_per_s: Some(0.5) };
        let other = Level { now: 4, change: -2, growth_per_s: None };
        let whole = Level { now: 7, change: -1, growth_per_s: None };
        assert_eq!(sum([Some(one), Some(other)].into_iter()), Some(whole));
        assert_eq!(sum([Some(one), None].into_iter()), None);
        assert_eq!(sum([].into_iter()), None);
    }
}
