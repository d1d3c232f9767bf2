//! The judge: compares what leaktrace finds at one moment with what is true then.
//!
//! Takes a report and a truth, hands on which findings are right and which are not, which leaks are found, and the class
//! that each function got. It runs nothing, and sums nothing up.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{ExamTruth, Leak};

/// Classes, the gravest first; the last one is that of a function that the report does not list.
pub const CLASSES: [&str; 7] =
    ["leak", "suspect", "growing", "unknown", "settling", "steady", "not listed"];

/// Classes that accuse.
const ACCUSING: [&str; 2] = ["leak", "suspect"];

/// A finding of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// The function to look at.
    pub function: String,
    /// The functions to look at of its other call sites.
    pub parts: BTreeSet<String>,
    /// Its class.
    pub class: String,
    /// Its confidence, 0 to 1.
    pub confidence: f64,
    /// Its reasons.
    pub reasons: Vec<String>,
}

impl Named {
    /// Whether it says that something leaks, or may.
    pub fn accuses(&self) -> bool {
        ACCUSING.contains(&&*self.class)
    }
}

/// Whether a finding is right.
#[derive(Debug, Clone, PartialEq)]
pub enum Ruling {
    /// It accuses nobody.
    NoAccusation,
    /// It names a leak.
    Right,
    /// It names a backlog, and says no more than that it may be a leak.
    Backlog,
    /// It names something else: what that is.
    Wrong(String),
}

/// What is true of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It leaks, already.
    Leaks,
    /// Its inflow may be above its outflow.
    Backlog,
    /// It is healthy, or does not leak yet.
    Healthy,
}

impl Role {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Leaks, Self::Backlog, Self::Healthy];

    /// Its name in the tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leaks => "leaks",
            Self::Backlog => "backlog",
            Self::Healthy => "healthy",
        }
    }
}

/// A report compared with the truth.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Seconds since the beginning of the work.
    pub at_s: f64,
    /// The findings in the report's order.
    pub findings: Vec<(Named, Ruling)>,
    /// Causes of leaks that have begun, and whether a finding accuses them.
    pub causes: BTreeMap<String, bool>,
    /// Causes with more than one finding.
    pub duplicates: Vec<String>,
    /// For each function of the truth its role and class: an index into [`CLASSES`].
    pub classes: Vec<(String, Role, usize)>,
}

impl Judged {
    /// Compares a report, made so many seconds after the beginning of the work.
    pub fn new(truth: &ExamTruth, report: &Value, at_s: f64) -> Result<Self> {
        let findings = findings(report)?;
        let begun: Vec<&Leak> = truth.leaks.iter().filter(|leak| leak.began_s <= at_s).collect();
        let accused = || findings.iter().filter(|one| one.accuses());
        let mut causes = BTreeMap::new();
        for leak in &begun {
            let is_found = accused()
                .any(|one| one.function == leak.function || one.parts.contains(&leak.function));
            *causes.entry(leak.cause.clone()).or_insert(false) |= is_found;
        }
        let headlines = |cause: &str| {
            let of_cause = |one: &&Named| {
                begun.iter().any(|leak| leak.cause == cause && leak.function == one.function)
            };
            accused().filter(of_cause).count()
        };
        let duplicates = causes.keys().filter(|cause| headlines(cause) > 1).cloned().collect();
        let classes = classes(truth, &findings, report, at_s)?;
        let ruled = findings.into_iter().map(|one| {
            let ruling = rule(truth, &one, at_s);
            (one, ruling)
        });
        Ok(Self { at_s, findings: ruled.collect(), causes, duplicates, classes })
    }
}

/// Whether a finding is right at this time.
fn rule(truth: &ExamTruth, finding: &Named, at_s: f64) -> Ruling {
    let function = &finding.function;
    if !finding.accuses() {
        return Ruling::NoAccusation;
    }
    if let Some(leak) = truth.leaks.iter().find(|leak| leak.function == *function) {
        return if leak.began_s <= at_s {
            Ruling::Right
        } else {
            Ruling::Wrong(format!("leaks only {:.0} s later", leak.began_s - at_s))
        };
    }
    match truth.healthy.iter().find(|site| site.function == *function) {
        Some(site) if is_backlog(&site.why) && finding.class == "suspect" => Ruling::Backlog,
        Some(site) => Ruling::Wrong(site.why.clone()),
        None => Ruling::Wrong("a function that leaks nothing".to_owned()),
    }
}

fn is_backlog(why: &str) -> bool {
    why.starts_with("backlog")
}

/// The class of each function of the truth: the gravest of its findings and call sites. A leak that is a part of a
/// finding has the finding's class.
fn classes(
    truth: &ExamTruth,
    findings: &[Named],
    report: &Value,
    at_s: f64,
) -> Result<Vec<(String, Role, usize)>> {
    let rank = |class: &str| CLASSES.iter().position(|one| *one == class);
    let mut of_sites: Vec<(String, usize)> = Vec::new();
    for site in list(report, "sites")? {
        let class = site.pointer("/verdict/class").and_then(Value::as_str).and_then(rank);
        of_sites.extend(asked(site).zip(class));
    }
    let not_listed = CLASSES.len() - 1;
    let class = |function: &str, role: Role| {
        let of_findings = findings.iter().filter(|one| {
            one.function == function || role == Role::Leaks && one.parts.contains(function)
        });
        let of_findings = of_findings.filter_map(|one| rank(&one.class));
        let of_sites = of_sites.iter().filter(|(one, _)| one == function).map(|(_, class)| *class);
        of_findings.chain(of_sites).min().unwrap_or(not_listed)
    };
    let leaks = truth.leaks.iter().map(|leak| {
        (&leak.function, if leak.began_s <= at_s { Role::Leaks } else { Role::Healthy })
    });
    let healthy = truth.healthy.iter().map(|site| {
        (&site.function, if is_backlog(&site.why) { Role::Backlog } else { Role::Healthy })
    });
    let all = leaks.chain(healthy);
    Ok(all.map(|(function, role)| (function.clone(), role, class(function, role))).collect())
}

/// The findings of a report.
fn findings(report: &Value) -> Result<Vec<Named>> {
    let mut by_number = BTreeMap::new();
    for site in list(report, "sites")? {
        let number = site.get("id").and_then(Value::as_u64).context("a call site without `id`")?;
        by_number.insert(number, asked(site));
    }
    let read = |found: &Value| {
        let text = |key| found.get(key).and_then(Value::as_str).map(str::to_owned);
        let sites = list(found, "sites")?.iter().filter_map(Value::as_u64);
        let reasons = list(found, "reasons")?.iter().filter_map(Value::as_str);
        Ok(Named {
            function: asked(found).unwrap_or_else(|| "(no name)".to_owned()),
            parts: sites.filter_map(|site| by_number.get(&site).cloned().flatten()).collect(),
            class: text("class").context("a finding without `class`")?,
            confidence: found
                .get("confidence")
                .and_then(Value::as_f64)
                .context("a finding without `confidence`")?,
            reasons: reasons.map(str::to_owned).collect(),
        })
    };
    list(report, "findings")?.iter().map(read).collect()
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a [Value]> {
    let list = value.get(key).and_then(Value::as_array);
    Ok(list.with_context(|| format!("no list `{key}`"))?)
}

/// The function to look at of a finding or call site.
fn asked(found: &Value) -> Option<String> {
    let headline = found.get("headline").and_then(Value::as_u64).unwrap_or(0);
    let frames = found.get("frames")?.as_array()?;
    let frame = frames.get(usize::try_from(headline).ok()?)?;
    frame.get("symbol").and_then(Value::as_str).map(plain)
}

/// A function's name as truths have it: without scope, template arguments and parameters.
fn plain(symbol: &str) -> String {
    let (mut plain, mut depth) = (String::new(), 0_u32);
    for letter in symbol.replace("(anonymous namespace)::", "").chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            '(' if depth == 0 => break,
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    let last = plain.rsplit("::").next().unwrap_or_default();
    // A function that returns a template's type has that type before its name.
    last.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn truth() -> ExamTruth {
        let leak = |function: &str, began_s: f64, cause: &str| {
            json!({"function": function, "kind": "heap", "began_s": began_s, "count": 1, "bytes": 8,
                "in_use_count": 0, "in_use_bytes": 0, "also": [], "cause": cause})
        };
        let healthy = |function: &str, why: &str| {
            json!({"function": function, "kind": "heap", "why": why, "outstanding_count": 0,
                "outstanding_bytes": 0})
        };
        let line = json!({"program": "p", "seconds": 60, "speed": 1,
            "leaks": [leak("a", 1.0, "one"), leak("b", 2.0, "one"), leak("later", 40.0, "two")],
            "healthy": [healthy("cache", "a cache"), healthy("queue", "backlog: in order")]});
        ExamTruth::parse(&line.to_string()).unwrap()
    }

    fn site(id: u64, function: &str, class: &str) -> Value {
        json!({"id": id, "headline": 1, "verdict": {"class": class},
            "frames": [{"symbol": "malloc_wrapper"}, {"symbol": function}]})
    }

    fn finding(function: &str, class: &str, sites: &[u64]) -> Value {
        json!({"headline": 0, "frames": [{"symbol": function}], "class": class, "confidence": 0.9,
            "reasons": ["because"], "sites": sites})
    }

    fn judged(sites: &[Value], findings: &[Value], at_s: f64) -> Judged {
        Judged::new(&truth(), &json!({"sites": sites, "findings": findings}), at_s).unwrap()
    }

    fn rulings(judged: &Judged) -> Vec<Ruling> {
        judged.findings.iter().map(|(_, ruling)| ruling.clone()).collect()
    }

    #[test]
    fn a_finding_is_right_if_its_function_leaks_by_then() {
        let findings = [finding("a", "leak", &[]), finding("later", "suspect", &[])];
        let early = judged(&[], &findings, 30.0);
        assert_eq!(
            rulings(&early),
            [Ruling::Right, Ruling::Wrong("leaks only 10 s later".to_owned())]
        );
        assert_eq!(early.causes, BTreeMap::from([("one".to_owned(), true)]));
        let late = judged(&[], &findings, 50.0);
        assert_eq!(rulings(&late), [Ruling::Right, Ruling::Right]);
        assert_eq!(late.causes.len(), 2);
    }

    #[test]
    fn what_is_healthy_or_unknown_must_not_be_accused_and_a_backlog_only_suspected() {
        let all = |class: &str| {
            let of = |function| finding(function, class, &[]);
            rulings(&judged(&[], &[of("cache"), of("queue"), of("main")], 30.0))
        };
        let wrong = |why: &str| Ruling::Wrong(why.to_owned());
        let nobody = wrong("a function that leaks nothing");
        assert_eq!(all("growing"), [const { Ruling::NoAccusation }; 3]);
        assert_eq!(all("suspect"), [wrong("a cache"), Ruling::Backlog, nobody.clone()]);
        assert_eq!(all("leak"), [wrong("a cache"), wrong("backlog: in order"), nobody]);
    }

    #[test]
    fn a_cause_is_found_by_any_of_its_parts_and_named_once() {
        let sites = [site(7, "b", "leak")];
        let by_part = judged(&sites, &[finding("main", "leak", &[7])], 30.0);
        assert_eq!(by_part.causes, BTreeMap::from([("one".to_owned(), true)]));
        let twice = [finding("a", "leak", &[]), finding("b", "suspect", &[])];
        assert_eq!(judged(&[], &twice, 30.0).duplicates, ["one"]);
        let unsure = [finding("a", "leak", &[]), finding("b", "growing", &[])];
        assert_eq!(judged(&[], &unsure, 30.0).duplicates, [""; 0]);
    }

    #[test]
    fn each_function_has_the_gravest_class_that_it_was_given() {
        let sites =
            [site(1, "a", "growing"), site(2, "cache", "steady"), site(3, "cache", "unknown")];
        let judged = judged(&sites, &[finding("a", "suspect", &[1])], 30.0);
        let named = |(function, role, class): &(String, Role, usize)| {
            (function.clone(), *role, CLASSES[*class])
        };
        let expected = [
            ("a", Role::Leaks, "suspect"),
            ("b", Role::Leaks, "not listed"),
            ("later", Role::Healthy, "not listed"),
            ("cache", Role::Healthy, "unknown"),
            ("queue", Role::Backlog, "not listed"),
        ];
        let found: Vec<_> = judged.classes.iter().map(named).collect();
        assert_eq!(found, expected.map(|(name, role, class)| (name.to_owned(), role, class)));
    }

    #[test]
    fn names_of_c_plus_plus_are_shortened_as_in_truths() {
        for (symbol, name) in [
            ("admit_member", "admit_member"),
            ("Hub::admit_member(std::string const&)", "admit_member"),
            ("std::shared_ptr<A> make<A, B<int> >(int)", "make"),
            ("(anonymous namespace)::f(int)", "f"),
        ] {
            assert_eq!(plain(symbol), name, "{symbol}");
        }
    }
}
