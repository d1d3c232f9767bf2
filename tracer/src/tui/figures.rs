//! Figures that only the screen needs: short counts, changes with their sign, and curves in cells.
//!
//! Pure; builds on `format`, takes numbers, returns texts of a known width.

use crate::{format, report::Errors};

const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The prefix of an estimate: a figure with an error.
pub const fn about(error: Option<&Errors>) -> &'static str {
    if error.is_some() { "~" } else { "" }
}

/// An estimate of a count in at most seven cells: `~99,999`, then `~482 k`.
pub fn estimated_count(number: u64) -> String {
    match number {
        100_000..1_000_000 => format!("~{} k", number / 1000),
        _ => format!("~{}", count(number)),
    }
}

/// A count in at most seven cells: `999,999`, then `18.2 M`, `1,234 M` and so on.
pub fn count(count: u64) -> String {
    const STEPS: [(u64, &str); 4] =
        [(1_000_000, "M"), (1_000_000_000, "G"), (1_000_000_000_000, "T"), (u64::MAX, "")];
    if count < 1_000_000 {
        return format::count(count);
    }
    for pair in STEPS.windows(2) {
        if let [(size, unit), (next, _)] = pair
            && count < *next
        {
            let value = count as f64 / *size as f64;
            return if value < 99.95 {
                format!("{value:.1} {unit}")
            } else {
                format!("{value:.0} {unit}")
            };
        }
    }
    format!("{} T", count / 1_000_000_000_000)
}

/// A change of bytes with its sign: `+1.9 MiB`, `-12 B`, `0 B`.
pub fn bytes_change(now: u64, then: u64) -> String {
    sign(now, then).to_owned() + &format::bytes(now.abs_diff(then))
}

/// A change of a count with its sign: `+2,112`, `-3`, `0`.
pub fn count_change(now: u64, then: u64) -> String {
    sign(now, then).to_owned() + &count(now.abs_diff(then))
}

/// A rate of counts with its sign, slow ones per minute or hour: `+210/s`, `+6/min`, `+3/h`.
pub fn count_rate(per_s: f64) -> String {
    let (unit, size) = match per_s.abs() {
        1.0.. => return format::count_per_s(per_s),
        0.02.. => ("/min", 60.0),
        _ => ("/h", 3600.0),
    };
    format::count_per_s(per_s * size).replace("/s", unit)
}

fn sign(now: u64, then: u64) -> &'static str {
    match now.cmp(&then) {
        std::cmp::Ordering::Greater => "+",
        std::cmp::Ordering::Less => "-",
        std::cmp::Ordering::Equal => "",
    }
}

/// The values as one line of exactly `cells` cells, the newest at the right, zero at the foot.
pub fn spark(values: &[u64], cells: usize) -> String {
    let values = sampled(values, cells);
    let highest = values.iter().copied().max().unwrap_or(0);
    let bars = values.iter().map(|value| bar(eighths(*value, 0, highest, 1), 0));
    " ".repeat(cells - values.len()) + &bars.collect::<String>()
}

/// A curve over several lines, and the values at its bottom and top.
#[derive(Debug, PartialEq, Eq)]
pub struct Curve {
    /// The lines, the topmost first, each of the requested width.
    pub lines: Vec<String>,
    /// The value at the bottom: zero, unless the curve would then be a solid block.
    pub foot: u64,
    /// The value at the top.
    pub top: u64,
}

/// The values as a curve of `cells` × `height`.
pub fn curve(values: &[u64], cells: usize, height: usize) -> Curve {
    let values = sampled(values, cells);
    let top = values.iter().copied().max().unwrap_or(0);
    let lowest = values.iter().copied().min().unwrap_or(0);
    // A high plateau would fill all cells and hide its slope; the bottom value is then shown beside it.
    let foot = if lowest > top / 2 && lowest < top { lowest - (top - lowest) / 4 } else { 0 };
    let blank = " ".repeat(cells - values.len());
    let line = |row: usize| {
        let bars = values.iter().map(|value| bar(eighths(*value, foot, top, height), row));
        blank.clone() + &bars.collect::<String>()
    };
    Curve { lines: (0..height).rev().map(line).collect(), foot, top }
}

/// At most `cells` values: averages groups when there are more.
fn sampled(values: &[u64], cells: usize) -> Vec<u64> {
    if values.len() <= cells {
        return values.to_vec();
    }
    let mean_of_group = |at: usize| {
        let from = at * values.len() / cells;
        let to = (at + 1) * values.len() / cells;
        let part = values.get(from..to).unwrap_or_default();
        let sum: u128 = part.iter().map(|value| u128::from(*value)).sum();
        u64::try_from(sum / (part.len().max(1) as u128)).unwrap_or(u64::MAX)
    };
    (0..cells).map(mean_of_group).collect()
}

/// Height of a bar in eighths of a cell; anything above zero is visible.
fn eighths(value: u64, foot: u64, top: u64, height: usize) -> usize {
    if value == 0 || top == 0 {
        return 0;
    }
    let span = u128::from(top.saturating_sub(foot).max(1));
    let part = u128::from(value.saturating_sub(foot)) * (height as u128) * 8;
    usize::try_from(part.div_ceil(span)).unwrap_or(usize::MAX).clamp(1, height * 8)
}

fn bar(eighths: usize, row: usize) -> char {
    let part = eighths.saturating_sub(row * 8).min(8);
    LEVELS.get(part).copied().unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_fit_seven_cells() {
        for (number, text) in [
            (0, "0"),
            (999_999, "999,999"),
            (1_000_000, "1.0 M"),
            (18_200_000, "18.2 M"),
            (999_400_000, "999 M"),
            (2_500_000_000, "2.5 G"),
            (7_100_000_000_000, "7.1 T"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn slow_rates_are_per_minute_or_hour() {
        for (per_s, text) in [
            (210.0, "+210/s"),
            (1.0, "+1.0/s"),
            (0.1, "+6.0/min"),
            (-0.5, "-30/min"),
            (0.001, "+3.6/h"),
            (0.0, "0/h"),
        ] {
            assert_eq!(count_rate(per_s), text);
        }
    }

    #[test]
    fn changes_carry_their_sign() {
        assert_eq!(bytes_change(3072, 1024), "+2.0 KiB");
        assert_eq!(bytes_change(1, 13), "-12 B");
        assert_eq!(bytes_change(5, 5), "0 B");
        assert_eq!(count_change(2000, 5), "+1,995");
    }

    #[test]
    fn a_spark_grows_from_zero_and_ends_at_the_right() {
        assert_eq!(spark(&[1, 2, 3, 4, 5, 6, 7, 8], 8), "▁▂▃▄▅▆▇█");
        assert_eq!(spark(&[4, 8], 4), "  ▄█");
        assert_eq!(spark(&[0, 0, 0], 4), "    ");
        assert_eq!(spark(&[], 3), "   ");
        assert_eq!(spark(&[0, 1, 1_000_000], 3), " ▁█");
        assert_eq!(spark(&[2, 2, 4, 4, 6, 6, 8, 8], 4), "▂▄▆█");
        assert_eq!(spark(&[u64::MAX, u64::MAX, 0], 2), "█▄");
    }

    #[test]
    fn a_curve_reports_its_bottom_value() {
        let rising = curve(&[0, 8, 16], 3, 2);
        assert_eq!(rising, Curve { lines: vec!["  █".into(), " ██".into()], foot: 0, top: 16 });
        let plateau = curve(&[1000, 1004, 1008], 3, 2);
        assert_eq!((plateau.foot, plateau.top), (998, 1008));
        assert_eq!(curve(&[7, 7], 2, 1).foot, 0);
    }
}
