//! The rules, each in a file: a threshold with its reason, a sentence, and what would withdraw it. Pure.

pub(super) mod backlog;
pub(super) mod flat;
pub(super) mod follows_load;
pub(super) mod left_behind;
pub(super) mod never_released;
pub(super) mod not_released_on_request;
pub(super) mod peer_gone;
pub(super) mod replaces_older;
pub(super) mod rising;
pub(super) mod settling;
pub(super) mod swelling;
pub(super) mod too_little;

use crate::{evidence::Share, format};

/// A confidence that grows with time: `from` at the beginning, half of the rest after `half_s`.
fn surer_with_time(from: f64, half_s: f64, seconds: f64) -> f64 {
    1.0 - (1.0 - from) * (-seconds / half_s).exp2()
}

/// A share with its interval: `11.0 % (8.4 to 14.2 %)`; in words for whole and rare ones.
fn share(share: Share) -> String {
    if share.share >= 1.0 {
        return "all".to_owned();
    }
    if share.share < 0.001 {
        return format!("1 in {}", format::count(reciprocal(share.share)));
    }
    let bound = |bound: f64| format::percent(bound).replace(" %", "");
    format!("{} ({} to {} %)", format::percent(share.share), bound(share.low), bound(share.high))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn reciprocal(share: f64) -> u64 {
    (1.0 / share).round() as u64
}

#[cfg(test)]
mod tests {
    use crate::{
        evidence::{Evidence, Slope, Trend, Trends},
        ledger::Sum,
    };

    /// Evidence on 1,000 resources that rise at this rate, give or take a tenth, for so many seconds.
    pub(super) fn rising(per_s: f64, over_s: f64) -> Evidence {
        let off = per_s.abs() / 10.0;
        let count = Slope { per_s, low: per_s - off, high: per_s + off };
        let trend =
            Trend { count, bytes: count, later: [count; 2], since_s: 0.0, over_s, changed: false };
        Evidence {
            observed_s: over_s,
            outstanding: Sum { count: 1000, bytes: 100_000 },
            trends: Trends { refreshes: Some(trend), ..Trends::default() },
            ..Evidence::default()
        }
    }

    #[test]
    fn shares_are_said_as_people_say_them() {
        use super::{Share, share};
        assert_eq!(share(Share::of(20, 20).unwrap()), "all");
        assert_eq!(share(Share::of(10, 100).unwrap()), "10.0 % (4.9 to 17.6 %)");
        assert_eq!(share(Share::of(10, 1_000_000).unwrap()), "1 in 100,000");
    }
}
