//! Verdicts on call sites: evidence → class, confidence and reasons.
//!
//! Takes evidence, hands on verdicts. Each rule is a type in `rules/` that looks at one aspect; this file only weighs
//! them. Pure. It knows no names: who is at fault, and which call sites have one cause, is not decided here.

mod judge;
mod rules;

pub use self::{
    judge::{Judge, Judged},
    rules::never_released::LEAST_S as RETAINED_OVER_S,
};
use crate::{
    evidence::Evidence,
    report::{Verdict, VerdictClass},
};

/// The most that a rise can be trusted whose resources may be a leak or may be explained.
const UNACCUSED: f64 = 0.8;

/// What one rule says.
#[derive(Clone, Debug, PartialEq)]
struct Opinion {
    class: VerdictClass,
    /// 0 to 1.
    confidence: f64,
    /// The reason in this case, with its figures.
    reason: String,
    /// What would change it.
    withdrawn_by: Option<&'static str>,
    /// Since when, seconds on the clock of the evidence.
    since_s: Option<f64>,
    /// Whether it holds whatever the load is.
    beyond_load: bool,
}

/// A rule: looks at one aspect of the evidence.
trait Rule {
    /// Its opinion; `None` when it does not apply.
    fn opinion(&self, evidence: &Evidence) -> Option<Opinion>;
}

/// Says that a call site leaks, the strongest first.
const LEAKING: [&dyn Rule; 6] = [
    &rules::left_behind::LeftBehind,
    &rules::never_released::NeverReleased,
    &rules::not_released_on_request::NotReleasedOnRequest,
    &rules::peer_gone::PeerGone,
    &rules::backlog::Backlog,
    &rules::swelling::Swelling,
];
/// Explains growth without a leak.
const EXPLAINING: [&dyn Rule; 2] =
    [&rules::follows_load::FollowsLoad, &rules::replaces_older::ReplacesOlder];
/// Says how a call site changes, the first that applies.
const CHANGING: [&dyn Rule; 4] = [
    &rules::too_little::TooLittle,
    &rules::settling::Settling,
    &rules::rising::Rising,
    &rules::flat::Flat,
];

/// The verdict on the evidence.
pub fn judge(evidence: &Evidence) -> Verdict {
    let opinions = |rules: &[&dyn Rule]| -> Vec<Opinion> {
        rules.iter().filter_map(|rule| rule.opinion(evidence)).collect()
    };
    let (leaking, explaining) = (opinions(&LEAKING), opinions(&EXPLAINING));
    let accuses =
        |one: &&Opinion| one.class.is_accusation() && (explaining.is_empty() || one.beyond_load);
    let accusing: Vec<&Opinion> = leaking.iter().filter(accuses).collect();
    if !accusing.is_empty() {
        let leaks = accusing.iter().any(|one| one.class == VerdictClass::Leak);
        let class = if leaks { VerdictClass::Leak } else { VerdictClass::Suspect };
        return verdict(class, &accusing);
    }
    let changing = CHANGING.iter().find_map(|rule| rule.opinion(evidence));
    let Some(changing) = changing else { return Verdict::unknown() };
    match changing.class {
        VerdictClass::Growing => {
            verdict(VerdictClass::Growing, &[&[&changing], all(&explaining).as_slice()].concat())
        }
        // What is never released rises, though too little for a trend.
        VerdictClass::Steady if !leaking.is_empty() => {
            let reasons = [all(&leaking), all(&explaining)].concat();
            let Verdict { confidence, .. } = verdict(VerdictClass::Growing, &all(&leaking));
            Verdict {
                confidence: confidence.min(UNACCUSED),
                ..verdict(VerdictClass::Growing, &reasons)
            }
        }
        class => verdict(class, &[&changing]),
    }
}

fn all(opinions: &[Opinion]) -> Vec<&Opinion> {
    opinions.iter().collect()
}

/// A verdict for the reasons of several opinions that agree. They share their evidence, so the surest one counts, not their
/// sum.
fn verdict(class: VerdictClass, opinions: &[&Opinion]) -> Verdict {
    let mut reasons: Vec<String> = opinions.iter().map(|one| one.reason.clone()).collect();
    if let Some(withdrawn_by) = opinions.iter().find_map(|one| one.withdrawn_by) {
        reasons.push(format!("withdrawn if {withdrawn_by}"));
    }
    let surest = opinions.iter().filter(|one| one.class == class || opinions.len() == 1);
    let confidence = surest.map(|one| one.confidence).fold(0.0, f64::max);
    let since = opinions.iter().filter_map(|one| one.since_s).reduce(f64::min);
    // Two digits: more would claim what a calibration on some hundred programs cannot give.
    Verdict { class, confidence: (confidence * 100.0).round() / 100.0, reasons, since }
}
