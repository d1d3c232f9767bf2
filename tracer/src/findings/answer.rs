//! The answer to the question whether the targets leak, in a sentence. Pure.

use super::Case;
use crate::{
    evidence::LEAST_MATURE_S,
    format,
    report::{Answer, Finding, VerdictClass},
    verdict::RETAINED_OVER_S,
};

/// Whether, and why not, a run can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judging {
    /// It is judged.
    Judged,
    /// Page faults are counted, not resources.
    Light,
    /// Only parts of the time are recorded.
    Estimated,
}

/// Resources that must have come to be retained before a rule speaks, with a probability of 95 percent of seeing the
/// five that it needs.
const NEEDED: f64 = 9.2;

/// The answer after `traced_s` seconds.
pub fn answer(findings: &[Finding], cases: &[Case<'_>], traced_s: f64, judging: Judging) -> Answer {
    let class = findings.iter().map(|finding| finding.class).min_by_key(|class| class.rank());
    let unjudged =
        |why: &str| Answer { class, sentence: why.to_owned(), smallest_leak_per_s: None };
    match judging {
        Judging::Light => {
            return unjudged("Not judged: --light shows what memory grows, not what is released.");
        }
        Judging::Estimated => {
            return unjudged(
                "Not judged: under a budget only parts of the time are recorded, and lifetimes are not known.",
            );
        }
        Judging::Judged => {}
    }
    let smallest = smallest_leak_per_s(cases, traced_s);
    let sentence = match findings.first() {
        Some(worst) if worst.class.is_accusation() => found(findings, worst),
        _ => nothing(findings, cases, traced_s, smallest),
    };
    Answer { class, sentence, smallest_leak_per_s: smallest }
}

/// `1 leak and 2 suspects: copy_name leaks blocks of 48 B, 1 in 100, by 1.2 KiB/s since 3m00s after the attach`.
fn found(findings: &[Finding], worst: &Finding) -> String {
    let number = |class| findings.iter().filter(|finding| finding.class == class).count() as u64;
    let plural = |count: u64, one: &str| match count {
        1 => format!("1 {one}"),
        _ => format!("{} {one}s", format::count(count)),
    };
    let (leaks, suspects) = (number(VerdictClass::Leak), number(VerdictClass::Suspect));
    let numbers = match (leaks, suspects) {
        (leaks, 0) => plural(leaks, "leak"),
        (0, suspects) => plural(suspects, "suspect"),
        _ => format!("{} and {}", plural(leaks, "leak"), plural(suspects, "suspect")),
    };
    let rate = worst.rate.map_or_else(String::new, |rate| {
        let text = if rate.bytes_per_s.abs() >= 1.0 {
            format::bytes_per_s(rate.bytes_per_s)
        } else {
            format::count_per_s(rate.count_per_s)
        };
        format!(" ({text})")
    });
    format!("{numbers}: {}{rate}", worst.title)
}

/// `No leak in 2m10s: 31 call sites, 2 growing; a leak of more than 0.05/s would have been seen`.
fn nothing(
    findings: &[Finding],
    cases: &[Case<'_>],
    traced_s: f64,
    smallest: Option<f64>,
) -> String {
    let traced = format::seconds(traced_s);
    let Some(smallest) = smallest else {
        let so_far = match findings.first() {
            None => String::new(),
            Some(first) => format!("; so far {}", first.title),
        };
        return format!(
            "Too early to tell after {traced}: a leak shows after about a minute{so_far}"
        );
    };
    let growing = findings.len() as u64;
    let sites = format::count(cases.len() as u64);
    let state = match growing {
        0 => "none of them growing".to_owned(),
        _ => format!("{} growing", format::count(growing)),
    };
    format!(
        "No leak in {traced}: {sites} call sites, {state}; a leak of more than {} at one of them would have been seen",
        format::small_rate(smallest)
    )
}

/// The smallest leak that would have been seen at nine of ten call sites, resources per second.
fn smallest_leak_per_s(cases: &[Case<'_>], traced_s: f64) -> Option<f64> {
    let mut mature: Vec<f64> =
        cases.iter().map(|case| case.judged.mature_s.max(LEAST_MATURE_S)).collect();
    mature.sort_by(f64::total_cmp);
    let most = mature.get(mature.len() * 9 / 10).copied().unwrap_or(LEAST_MATURE_S);
    let seen_s = traced_s - most;
    (seen_s >= RETAINED_OVER_S).then(|| NEEDED / seen_s)
}
