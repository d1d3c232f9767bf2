//! Formats figures, times and paths for people, for text and screen.
//!
//! Takes numbers, passes on short strings with their unit. Pure.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

/// Bytes with a binary unit: `999 B`, `4.0 KiB`, `1.9 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.iter().skip(1) {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 99.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A rate of bytes with its sign: `+1.9 MiB/s`, `0 B/s`, `-12 B/s`.
pub fn bytes_per_s(rate: f64) -> String {
    signed(rate, bytes) + "/s"
}

/// A rate of counts with its sign, in the unit of time that suits it: `+210/s`, `+0.4/s`, `+0.03/s`, `+2.1/h`, `0/s`.
pub fn count_per_s(rate: f64) -> String {
    match rate.abs() {
        large if large >= 9.95 => signed(rate, count) + "/s",
        some if some >= 0.095 => format!("{rate:+.1}/s"),
        small if small >= 0.0095 => format!("{rate:+.2}/s"),
        tiny if tiny >= LEAST_PER_S => format!("{:+.1}/h", rate * 3600.0),
        _ => "0/s".to_owned(),
    }
}

/// One in ten hours.
const LEAST_PER_S: f64 = 0.1 / 3600.0;

/// A small rate without a sign, in the unit of time that suits it: `2.5/s`, `0.07/s`, `3.1/h`.
pub fn small_rate(per_s: f64) -> String {
    match per_s {
        large if large >= 0.095 => format!("{large:.1}/s"),
        small if small >= 0.0095 => format!("{small:.2}/s"),
        tiny => format!("{:.1}/h", tiny * 3600.0),
    }
}

fn signed(rate: f64, write: fn(u64) -> String) -> String {
    let size = write(magnitude(rate));
    let sign = match rate.round() {
        rounded if rounded > 0.0 => "+",
        rounded if rounded < 0.0 => "-",
        _ => "",
    };
    format!("{sign}{size}")
}

/// The nearest whole number, without a sign.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rounded magnitude; the cast saturates far above any rate there is"
)]
pub fn magnitude(rate: f64) -> u64 {
    rate.abs().round() as u64
}

/// A share in percent, without the percent sign, to the hundredth of a percent that users can give: `5`, `0.25`.
pub fn in_percent(share: f64) -> String {
    ((share * 10_000.0).round() / 100.0).to_string()
}

/// A count with separators, so that 18200000 and 1820000 look different: `18,200,000`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in at most two units: `0.8s`, `12s`, `12m40s`, `3h05m`, `2d04h`.
pub fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let whole = Duration::from_secs_f64(seconds.round()).as_secs();
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86400, whole / 3600 % 24),
    }
}

/// An estimated time, in one unit: `40 s`, `13 min`, `5 h`, `3 days`.
pub fn roughly(seconds: f64) -> String {
    let (number, unit) = rough(seconds);
    format!("{number} {unit}")
}

/// A range of estimated times: `9 to 22 min`, `50 s to 3 min`; `5 min` if both round to the same.
pub fn roughly_between(from: f64, to: f64) -> String {
    let ((first, first_unit), (last, unit)) = (rough(from), rough(to));
    if (&first, first_unit) == (&last, unit) {
        format!("{last} {unit}")
    } else if first_unit == unit {
        format!("{first} to {last} {unit}")
    } else {
        format!("{first} {first_unit} to {last} {unit}")
    }
}

/// The largest unit of which there are at least two: with fewer, rounding would be off by up to a half.
fn rough(seconds: f64) -> (String, &'static str) {
    const UNITS: [(f64, &str); 3] = [(86_400.0, "days"), (3_600.0, "h"), (60.0, "min")];
    if !seconds.is_finite() || seconds < 0.0 {
        return ("?".to_owned(), "s");
    }
    let (size, unit) =
        UNITS.into_iter().find(|(size, _)| seconds >= 2.0 * size).unwrap_or((1.0, "s"));
    (count(magnitude(seconds / size)), unit)
}

/// A share in percent for reading: `57.4 %`; never rounds a small share to none, nor a large one to all.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        none if none <= 0.0 => "0 %".to_owned(),
        small if small < 0.1 => "under 0.1 %".to_owned(),
        all if all >= 100.0 => "100 %".to_owned(),
        most if most > 99.9 => "over 99.9 %".to_owned(),
        other => format!("{other:.1} %"),
    }
}

/// A duration as a clock: `00:12:41`.
pub fn clock(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    format!("{:02}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
}

/// The time of day so many seconds after an RFC 3339 time, to the minute: `09:03 UTC`; with the date on another day.
pub fn time_of_day(start: &str, seconds_later: f64) -> Option<String> {
    let start = humantime::parse_rfc3339(start).ok()?;
    let later = start.checked_add(Duration::try_from_secs_f64(seconds_later).ok()?)?;
    let [start, later] = [rfc3339(start)?, rfc3339(later)?];
    let (date, time) = later.split_once('T')?;
    let minutes = time.get(..5)?;
    Some(if start.starts_with(date) {
        format!("{minutes} UTC")
    } else {
        format!("{date} {minutes} UTC")
    })
}

/// A time that has four digits for its year.
fn rfc3339(time: SystemTime) -> Option<String> {
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_seconds(time)).ok()?;
    Some(text)
}

/// Bytes as hexadecimal digits, in their order: the usual form of a build ID.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Names up to this length are shown whole: most functions of C++ without templates of templates.
const WHOLE_SYMBOL: usize = 160;

/// A function's name for people: the template arguments of a long one are folded, `std::map<…>::find`; of one that is
/// still long, the middle is left out.
pub fn short_symbol(symbol: &str) -> String {
    let length = symbol.chars().count();
    if length <= WHOLE_SYMBOL {
        return symbol.to_owned();
    }
    // Of a Rust function that begins with its type, that would be the function.
    let folded = if symbol.starts_with('<') { symbol.to_owned() } else { folded(symbol) };
    let length = folded.chars().count();
    if length <= WHOLE_SYMBOL {
        return folded;
    }
    let side = WHOLE_SYMBOL / 2;
    let start: String = folded.chars().take(side - 1).collect();
    let end: String = folded.chars().skip(length - side).collect();
    format!("{start}…{end}")
}

/// A name with `<…>` for its template arguments; operators keep their signs.
fn folded(symbol: &str) -> String {
    let mut short = String::with_capacity(symbol.len());
    let (mut depth, mut before) = (0_usize, ' ');
    for letter in symbol.chars() {
        let operator = short.trim_end_matches(['<', '>', '=', '-']).ends_with("operator");
        match letter {
            '<' | '>' if depth == 0 && operator => short.push(letter),
            '<' => {
                depth += 1;
                if depth == 1 {
                    short.push_str("<…");
                }
            }
            // The arrow of a function type closes nothing.
            '>' if before == '-' && depth > 0 => {}
            '>' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    short.push('>');
                }
            }
            _ if depth == 0 => short.push(letter),
            _ => {}
        }
        before = letter;
    }
    short
}

/// The last part of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Untrusted text (command lines, symbols, paths) on one line, without terminal control characters: the name of a
/// function or a process must not be able to control the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_formatted_as_users_give_them() {
        for (share, text) in [(0.05, "5"), (0.07, "7"), (0.0025, "0.25"), (0.9999, "99.99")] {
            assert_eq!(in_percent(share), text);
        }
    }

    #[test]
    fn bytes_keep_three_figures_and_their_unit() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (102_348, "99.9 KiB"),
            (102_400, "100 KiB"),
            (1_048_575, "1.0 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn rates_have_a_sign_and_zero_has_none() {
        assert_eq!(bytes_per_s(2048.0), "+2.0 KiB/s");
        assert_eq!(bytes_per_s(-12.0), "-12 B/s");
        assert_eq!(bytes_per_s(0.2), "0 B/s");
        assert_eq!(count_per_s(0.4), "+0.4/s");
        assert_eq!(count_per_s(1234.0), "+1,234/s");
        assert_eq!(count_per_s(0.0), "0/s");
    }

    #[test]
    fn a_time_of_day_has_a_date_on_another_day_only() {
        let of = |start, seconds| time_of_day(start, seconds);
        for (start, seconds, text) in [
            ("2026-03-05T09:00:00Z", 180.0, "09:03 UTC"),
            ("2026-03-05T09:00:59.999Z", 0.001, "09:01 UTC"),
            ("2026-12-31T23:59:00Z", 60.0, "2027-01-01 00:00 UTC"),
        ] {
            assert_eq!(of(start, seconds).as_deref(), Some(text));
        }
        let last = "9999-12-31T23:59:59Z";
        assert!(of(last, 0.0).is_some());
        for (start, seconds) in
            [(last, 1.0), ("yesterday", 0.0), (last, f64::NAN), (last, -1.0), (last, 1e300)]
        {
            assert_eq!(of(start, seconds), None, "{start} {seconds}");
        }
    }

    #[test]
    fn untrusted_text_cannot_control_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc ü"), "a\u{fffd}[2Jb\u{fffd}c ü");
    }

    #[test]
    fn counts_are_separated_by_thousands() {
        assert_eq!(count(7), "7");
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1,000");
        assert_eq!(count(18_200_000), "18,200,000");
    }

    #[test]
    fn estimated_times_have_one_unit() {
        for (time, text) in [
            (0.0, "0 s"),
            (119.0, "119 s"),
            (777.5, "13 min"),
            (7_199.0, "120 min"),
            (18_000.0, "5 h"),
            (259_200.0, "3 days"),
            (f64::INFINITY, "? s"),
        ] {
            assert_eq!(roughly(time), text);
        }
        assert_eq!(roughly_between(540.0, 1_320.0), "9 to 22 min");
        assert_eq!(roughly_between(50.0, 180.0), "50 s to 3 min");
        assert_eq!(roughly_between(290.0, 310.0), "5 min");
    }

    #[test]
    fn long_names_are_folded_and_short_ones_are_not() {
        let arguments = "std::pair<std::string const, int>, ".repeat(200);
        for (symbol, short) in [
            ("std::vector<int>::push_back(int const&)".to_owned(), None),
            (
                format!("void app::Index<{arguments}int>::find<{arguments}int>(int) const"),
                Some("void app::Index<…>::find<…>(int) const"),
            ),
            (
                format!("std::ostream& ns::operator<< <{arguments}int>(std::ostream&)"),
                Some("std::ostream& ns::operator<< <…>(std::ostream&)"),
            ),
            (
                format!("ns::Pool<{arguments}int>::operator->() const"),
                Some("ns::Pool<…>::operator->() const"),
            ),
            (format!("f<void (*)({arguments}) -> int>()"), Some("f<…>()")),
        ] {
            assert_eq!(short_symbol(&symbol), short.unwrap_or(&symbol));
        }
        let rust = format!("<{} as app::Codec>::encode", "a::B, ".repeat(100));
        let short = short_symbol(&rust);
        assert!(
            short.ends_with(" as app::Codec>::encode") && short.starts_with("<a::B"),
            "{short}"
        );
        assert_eq!(short.chars().count(), 160);
    }

    #[test]
    fn shares_never_round_to_none_or_all() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.000_001, "under 0.1 %"),
            (1.0 / 3.0, "33.3 %"),
            (0.999_999, "over 99.9 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn times_use_two_units_at_most() {
        for (time, text) in [
            (0.84, "0.8s"),
            (12.0, "12s"),
            (760.0, "12m40s"),
            (11_100.0, "3h05m"),
            (187_200.0, "2d04h"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(seconds(time), text);
        }
        assert_eq!(clock(761.0), "00:12:41");
    }
}
