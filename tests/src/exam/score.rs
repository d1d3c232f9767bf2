//! The score: sums up what the judge said of many plays.
//!
//! Takes judged plays, hands on precision, recall, calibration, times, and every mistake. It judges nothing itself.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::{
    judge::{CLASSES, Judged, Named, Role, Ruling},
    recording::{Group, Recording},
};

/// Of the accusations of all cut times, at least this share must be right.
pub const LEAST_PRECISION: f64 = 0.97;
/// Of the causes, at least this share must be accused at the end of the play.
pub const LEAST_RECALL: f64 = 0.95;
/// A tenth of confidence with fewer findings says nothing about its calibration.
pub const LEAST_FINDINGS: u32 = 20;
/// A leak is found in time if it is accused at a cut time at most so many seconds after its beginning.
pub const IN_TIME_S: f64 = 60.0;

/// A play that was judged at its cut times.
#[derive(Debug, Clone)]
pub struct Play {
    /// Program and variant.
    pub name: String,
    /// What it is evidence of.
    pub group: Group,
    /// When each cause began, seconds after the beginning of the work.
    pub began_s: BTreeMap<String, f64>,
    /// The cut times in their order.
    pub cuts: Vec<Judged>,
}

impl Play {
    /// Judges a recording at its cut times.
    pub fn judge(recording: &Recording) -> Result<Self> {
        let truth = &recording.truth;
        let mut began_s = BTreeMap::new();
        for leak in &truth.leaks {
            let first = began_s.entry(leak.cause.clone()).or_insert(leak.began_s);
            *first = leak.began_s.min(*first);
        }
        let reports = recording.reports()?;
        let cuts = recording.cuts().zip(&reports);
        let cuts = cuts.map(|(at_s, report)| Judged::new(truth, report, at_s));
        let cuts: Vec<Judged> = cuts.collect::<Result<_>>()?;
        ensure!(!cuts.is_empty(), "no report");
        Ok(Self { name: recording.name(), group: recording.group, began_s, cuts })
    }

    /// Seconds from a cause's beginning to the first cut time at which it is accused.
    fn time_to_verdict(&self, cause: &str) -> Option<f64> {
        let began_s = self.began_s.get(cause)?;
        let found = self.cuts.iter().find(|cut| cut.causes.get(cause) == Some(&true))?;
        Some(found.at_s - began_s)
    }
}

/// A share, as the two numbers that make it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Those that are right, or found.
    pub right: u32,
    /// All.
    pub all: u32,
}

impl Share {
    fn count(&mut self, is_right: bool) {
        self.right += u32::from(is_right);
        self.all += 1;
    }

    /// The share; 1 of nothing, as nothing is wrong there.
    pub fn value(self) -> f64 {
        if self.all == 0 { 1.0 } else { f64::from(self.right) / f64::from(self.all) }
    }
}

/// A mistake.
#[derive(Debug, Clone, PartialEq)]
pub struct Mistake {
    /// The play.
    pub play: String,
    /// What is wrong.
    pub what: String,
    /// What the report said: class, confidence and reasons, if anything.
    pub said: String,
}

/// The sums over some plays.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Score {
    /// Plays.
    pub plays: u32,
    /// Accusations of all cut times that are right.
    pub precision: Share,
    /// The same at the end of each play.
    pub precision_at_end: Share,
    /// Causes that are accused at the end of their play.
    pub recall: Share,
    /// Causes that were accused in time.
    pub in_time: Share,
    /// By role, the functions that got each class at the end of their play.
    pub matrix: BTreeMap<Role, [u32; CLASSES.len()]>,
    /// The same for all cut times.
    pub matrix_of_cuts: BTreeMap<Role, [u32; CLASSES.len()]>,
    /// By tenth of confidence, the accusations that are right.
    pub calibration: [Share; 10],
    /// Seconds from the beginning of each cause to the first cut time that accuses it, in ascending order.
    pub times_s: Vec<f64>,
    /// Healthy functions accused, at any cut time.
    pub wrong: Vec<Mistake>,
    /// Causes that are not accused at the end.
    pub missed: Vec<Mistake>,
    /// Causes with more than one finding at the end, and library leaks that are not the first finding.
    pub duplicates: Vec<Mistake>,
}

impl Score {
    /// The sums over these plays.
    pub fn of(plays: &[&Play]) -> Self {
        let mut score = Self::default();
        for play in plays {
            score.add(play);
        }
        score.times_s.sort_by(f64::total_cmp);
        score
    }

    fn add(&mut self, play: &Play) {
        self.plays += 1;
        let Some(end) = play.cuts.last() else { return };
        for cut in &play.cuts {
            enter(&mut self.matrix_of_cuts, cut);
            for (named, ruling) in cut.findings.iter().filter(|(named, _)| named.accuses()) {
                let is_right = !matches!(ruling, Ruling::Wrong(_));
                self.precision.count(is_right);
                if let Some(tenth) = self.calibration.get_mut(tenth(named.confidence)) {
                    tenth.count(is_right);
                }
            }
        }
        enter(&mut self.matrix, end);
        for (_, ruling) in end.findings.iter().filter(|(named, _)| named.accuses()) {
            self.precision_at_end.count(!matches!(ruling, Ruling::Wrong(_)));
        }
        for (cause, is_found) in &end.causes {
            self.recall.count(*is_found);
            let time_s = play.time_to_verdict(cause);
            self.in_time.count(time_s.is_some_and(|time_s| time_s <= IN_TIME_S));
            self.times_s.extend(time_s);
            if !is_found {
                self.missed.push(missed(play, end, cause));
            }
        }
        self.wrong.extend(wrong(play));
        self.duplicates.extend(end.duplicates.iter().map(|cause| Mistake {
            play: play.name.clone(),
            what: format!("several findings for one cause: {cause}"),
            said: String::new(),
        }));
        self.duplicates.extend(not_first(play, end));
    }

    /// Precision, recall and calibration that are below what is promised, a sentence each.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut check = |what: &str, share: Share, least: f64| {
            if share.value() < least {
                let (Share { right, all }, value) = (share, share.value());
                failures.push(format!("{what} is {value:.3} ({right} of {all}), below {least}"));
            }
        };
        check("precision", self.precision, LEAST_PRECISION);
        check("recall", self.recall, LEAST_RECALL);
        for (tenth, share) in (0_u32..).zip(self.calibration) {
            if share.all >= LEAST_FINDINGS {
                let from = f64::from(tenth) / 10.0;
                check(
                    &format!(
                        "of the accusations with a confidence from {from}, the share that is right"
                    ),
                    share,
                    from,
                );
            }
        }
        failures
    }
}

fn enter(matrix: &mut BTreeMap<Role, [u32; CLASSES.len()]>, judged: &Judged) {
    for (_, role, class) in &judged.classes {
        if let Some(cell) = matrix.entry(*role).or_default().get_mut(*class) {
            *cell += 1;
        }
    }
}

/// The tenth of a confidence, 0 to 9.
fn tenth(confidence: f64) -> usize {
    (1..10).filter(|tenth| confidence >= f64::from(*tenth) / 10.0).count()
}

fn said(named: &Named) -> String {
    format!("{} {:.2}: {}", named.class, named.confidence, named.reasons.join("; "))
}

/// The wrong accusations of a play: one for each function, with the times and the words of the last one.
fn wrong(play: &Play) -> Vec<Mistake> {
    let mut by_function: BTreeMap<&str, (Vec<String>, &str, &Named)> = BTreeMap::new();
    for cut in &play.cuts {
        for (named, ruling) in &cut.findings {
            let Ruling::Wrong(why) = ruling else { continue };
            let (times, last_why, last) =
                by_function.entry(&named.function).or_insert((Vec::new(), why, named));
            times.push(format!("{:.0}", cut.at_s));
            (*last_why, *last) = (why, named);
        }
    }
    let mistake = |(function, (times, why, last)): (&str, (Vec<String>, &str, &Named))| Mistake {
        play: play.name.clone(),
        what: format!("accuses `{function}` at {} s: {why}", times.join(", ")),
        said: said(last),
    };
    by_function.into_iter().map(mistake).collect()
}

/// A cause that is not accused, with what the report says of its functions instead.
fn missed(play: &Play, end: &Judged, cause: &str) -> Mistake {
    let leaks = end.classes.iter().filter(|(_, role, _)| *role == Role::Leaks);
    let classes = leaks.map(|(function, _, class)| {
        format!("`{function}` is {}", CLASSES.get(*class).copied().unwrap_or_default())
    });
    let named = end.findings.iter().map(|(named, _)| named);
    let named = named.filter(|named| {
        let is_leak = |one: &(String, Role, usize)| one.1 == Role::Leaks && one.0 == named.function;
        end.classes.iter().any(is_leak)
    });
    let what = format!("misses: {cause} ({})", classes.collect::<Vec<_>>().join(", "));
    let said: Vec<String> = named.map(said).collect();
    Mistake { play: play.name.clone(), what, said: said.join(" | ") }
}

/// Of a library's program: that the first finding is not the leak.
fn not_first(play: &Play, end: &Judged) -> Option<Mistake> {
    let (first, ruling) = end.findings.first()?;
    let is_wrong = play.group == Group::Library && !end.causes.is_empty();
    (is_wrong && *ruling != Ruling::Right).then(|| Mistake {
        play: play.name.clone(),
        what: format!("the first finding is `{}`", first.function),
        said: said(first),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(function: &str, confidence: f64) -> Named {
        Named {
            function: function.to_owned(),
            parts: [].into(),
            class: "suspect".to_owned(),
            confidence,
            reasons: vec!["because".to_owned()],
        }
    }

    /// A play in which one cause begins at 5 s and is found from this cut time on, and whose cache is accused once.
    fn play(found_from: usize) -> Play {
        let cut = |at: usize| {
            let mut findings = Vec::new();
            if at >= found_from {
                findings.push((named("a", 0.95), Ruling::Right));
            }
            if at == 1 {
                findings.push((named("cache", 0.65), Ruling::Wrong("a cache".to_owned())));
            }
            let class = if at >= found_from { 1 } else { 2 };
            Judged {
                at_s: 10.0 * (at + 1) as f64,
                findings,
                causes: [("one".to_owned(), at >= found_from)].into(),
                duplicates: Vec::new(),
                classes: vec![
                    ("a".to_owned(), Role::Leaks, class),
                    ("cache".to_owned(), Role::Healthy, 5),
                ],
            }
        };
        Play {
            name: "p".to_owned(),
            group: Group::Open,
            began_s: [("one".to_owned(), 5.0)].into(),
            cuts: (0..10).map(cut).collect(),
        }
    }

    #[test]
    fn precision_counts_all_cut_times_and_recall_the_end() {
        let score = Score::of(&[&play(2), &play(10)]);
        assert_eq!(score.precision, Share { right: 8, all: 10 });
        assert_eq!(score.precision_at_end, Share { right: 1, all: 1 });
        assert_eq!(score.recall, Share { right: 1, all: 2 });
        assert_eq!(score.times_s, [25.0]);
        assert_eq!(score.matrix[&Role::Leaks], [0, 1, 1, 0, 0, 0, 0]);
        assert_eq!(score.matrix_of_cuts[&Role::Healthy], [0, 0, 0, 0, 0, 20, 0]);
        assert_eq!(
            (score.calibration[9].all, score.calibration[6]),
            (8, Share { right: 0, all: 2 })
        );
    }

    #[test]
    fn each_mistake_is_listed_once_with_its_times_and_reasons() {
        let score = Score::of(&[&play(10)]);
        assert_eq!(score.wrong[0].what, "accuses `cache` at 20 s: a cache");
        assert_eq!(score.wrong[0].said, "suspect 0.65: because");
        assert_eq!(score.missed[0].what, "misses: one (`a` is growing)");
    }

    #[test]
    fn what_is_below_the_promise_is_a_failure() {
        assert_eq!(Score::default().failures(), [""; 0]);
        let failures = Score::of(&[&play(10)]).failures();
        assert_eq!(
            failures,
            ["precision is 0.000 (0 of 1), below 0.97", "recall is 0.000 (0 of 1), below 0.95"]
        );
        let plays: Vec<Play> = (0..30).map(|_| play(2)).collect();
        let failures = Score::of(&plays.iter().collect::<Vec<_>>()).failures();
        assert!(
            failures[1]
                .ends_with("from 0.6, the share that is right is 0.000 (0 of 30), below 0.6")
        );
    }

    #[test]
    fn a_confidence_of_one_is_in_the_last_tenth() {
        assert_eq!([0.0, 0.1, 0.69, 0.9, 1.0].map(tenth), [0, 1, 6, 9, 9]);
    }
}
