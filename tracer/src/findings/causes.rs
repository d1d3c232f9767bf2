//! Which call sites have one cause: parts of one object, paths to one function, and what is acquired together. Pure.

use std::collections::{HashMap, HashSet};

use super::{Case, Cause, function::Functions};
use crate::{
    evidence::acquired_together,
    report::{Frame, Site},
};

/// Call sites that are compared with each other: the number of pairs grows with its square.
const COMPARED: usize = 200;
/// Callers by which paths to one function are distinguished.
const CALLERS: usize = 6;
/// Acquisitions of a call site that shows that a function is used without a leak.
const USED: u64 = 20;
/// The share of them that must be released again.
const RELEASED: f64 = 0.9;
/// Frames above the headline in which two call sites that have one cause meet.
const NEAR: usize = 8;

/// The causes of what leaks, may leak, or grows.
pub(super) fn of<'a>(cases: &'a [Case<'a>], functions: &Functions<'_>) -> Vec<Cause<'a>> {
    let found: Vec<&Case<'_>> = cases
        .iter()
        .filter(|case| case.judged.evidence.is_some() && case.site.verdict.class.is_finding())
        .collect();
    let mut sets = Sets::of(found.len());
    let at: HashMap<u32, usize> = (0..).zip(&found).map(|(at, case)| (case.site.id, at)).collect();
    join_parts(&found, &at, &mut sets);
    let owned = owned(&found, &at, functions);
    join_owned(&owned, &at, &mut sets);
    let callers = join_paths(cases, &found, functions, &mut sets);
    join_together(&found, &owned, functions, &mut sets);
    let mut causes: HashMap<usize, Cause<'a>> = HashMap::new();
    for (at, case) in found.iter().enumerate() {
        let cause = causes
            .entry(sets.root(at))
            .or_insert_with(|| Cause { cases: Vec::new(), caller: None });
        cause.cases.push(case);
        cause.caller = cause.caller.take().or_else(|| callers.get(&at).cloned());
    }
    let mut causes: Vec<Cause<'a>> = causes.into_values().collect();
    let all: HashMap<u32, &Case<'_>> = cases.iter().map(|case| (case.site.id, case)).collect();
    for cause in &mut causes {
        order(&mut cause.cases);
        let owner = cause.head().and_then(|head| {
            let (at, owned) = (*at.get(&head.site.id)?, &owned);
            owned.get(at).copied().flatten()
        });
        if let Some(owner) = owner.and_then(|owner| all.get(&owner)) {
            cause.cases.retain(|case| case.site.id != owner.site.id);
            cause.cases.insert(0, owner);
        }
    }
    causes
}

/// By index: the call site of the objects that a case's resources belong to, where a library has acquired them in a thread
/// of its own, or where these objects leak. What the program acquires for a healthy object is a case of its own.
fn owned(
    found: &[&Case<'_>],
    at: &HashMap<u32, usize>,
    functions: &Functions<'_>,
) -> Vec<Option<u32>> {
    let leaks = |owner: &u32| {
        at.get(owner).and_then(|at| found.get(*at)).is_some_and(|one| is_accused(one))
    };
    let owner = |case: &&Case<'_>| {
        let owner = case.site.owner?;
        (leaks(&owner) || is_of_library(case.site, functions)).then_some(owner)
    };
    found.iter().map(owner).collect()
}

/// Joins what libraries have acquired for the objects of one call site, and those objects.
fn join_owned(owned: &[Option<u32>], at: &HashMap<u32, usize>, sets: &mut Sets) {
    let mut first: HashMap<u32, usize> = HashMap::new();
    for (part, owner) in owned.iter().enumerate() {
        let Some(owner) = owner else { continue };
        sets.join(part, *first.entry(*owner).or_insert(part));
        if let Some(object) = at.get(owner) {
            sets.join(part, *object);
        }
    }
}

fn is_accused(case: &Case<'_>) -> bool {
    case.site.verdict.class.is_accusation()
}

/// The owner of the others first: what leaks, objects of libraries before blocks, those of most bytes.
fn order(cases: &mut [&Case<'_>]) {
    let owners: HashSet<u32> = cases.iter().filter_map(|case| case.owner).collect();
    let here: HashSet<u32> = cases.iter().map(|case| case.site.id).collect();
    cases.sort_by_key(|case| {
        let site = case.site;
        let owned = case.owner.is_some_and(|owner| here.contains(&owner));
        (
            !is_accused(case),
            owned,
            !owners.contains(&site.id),
            !site.kind.is_object(),
            std::cmp::Reverse((site.outstanding_bytes, site.outstanding_count)),
            site.id,
        )
    });
}

/// Joins the parts of objects with their objects. What an innocent object contains is a case of its own.
fn join_parts(found: &[&Case<'_>], at: &HashMap<u32, usize>, sets: &mut Sets) {
    for (part, case) in found.iter().enumerate() {
        let owner = case.owner.and_then(|owner| at.get(&owner).copied());
        let Some((owner, object)) = owner.and_then(|at| Some((at, *found.get(at)?))) else {
            continue;
        };
        if is_accused(object) || !is_accused(case) {
            sets.join(part, owner);
        }
    }
}

/// Joins the paths to one function of one program. Where other paths to it are healthy, the paths differ in a caller, and
/// those with the same one are joined. Returns the caller for the cases that it distinguishes.
fn join_paths(
    cases: &[Case<'_>],
    found: &[&Case<'_>],
    functions: &Functions<'_>,
    sets: &mut Sets,
) -> HashMap<usize, String> {
    let mut callers = HashMap::new();
    let mut groups: HashMap<(&str, String), Vec<usize>> = HashMap::new();
    for (at, case) in found.iter().enumerate() {
        if let Some(name) = named(case.site, functions.headline(case.site)) {
            groups.entry((functions.program(case.site), name)).or_default().push(at);
        }
    }
    let mut healthy: HashMap<(&str, String), Vec<&Site>> = HashMap::new();
    for case in cases.iter().filter(|case| is_healthy(case)) {
        let Some(name) = named(case.site, functions.headline(case.site)) else { continue };
        let key = (functions.program(case.site), name);
        if groups.contains_key(&key) {
            healthy.entry(key).or_default().push(case.site);
        }
    }
    for (key, group) in &groups {
        let accused = group.iter().any(|at| found.get(*at).is_some_and(|case| is_accused(case)));
        let others = healthy.get(key).filter(|_| accused);
        let callers_of = |site: &Site, upward: usize| -> Vec<String> {
            let from = functions.headline(site) + 1;
            let above = site.frames.iter().skip(from).take(upward);
            above.map(Frame::label).collect()
        };
        // The fewest callers that tell these paths from the healthy ones.
        let parted = |upward: &usize| {
            let of_found: HashSet<Vec<String>> = group
                .iter()
                .filter_map(|at| found.get(*at))
                .filter(|case| is_accused(case))
                .map(|case| callers_of(case.site, *upward))
                .collect();
            others.is_none_or(|others| {
                !others.iter().any(|site| of_found.contains(&callers_of(site, *upward)))
            })
        };
        let upward = (0..=CALLERS).find(parted).unwrap_or(0);
        let mut first: HashMap<Vec<String>, usize> = HashMap::new();
        for at in group {
            let Some(case) = found.get(*at) else { continue };
            let callers_here = callers_of(case.site, upward);
            if let Some(caller) = callers_here.last() {
                callers.insert(*at, caller.clone());
            }
            sets.join(*at, *first.entry(callers_here).or_insert(*at));
        }
    }
    callers
}

/// Whether a call site shows that its function is used without a leak.
fn is_healthy(case: &Case<'_>) -> bool {
    let site = case.site;
    !site.verdict.class.is_finding()
        && site.acquired_count >= USED
        && site.released_count as f64 >= RELEASED * site.acquired_count as f64
}

/// Joins what is retained together, where the stacks meet in a function below a thread's own, or where one of them is in a
/// library's own thread.
fn join_together(
    found: &[&Case<'_>],
    owned: &[Option<u32>],
    functions: &Functions<'_>,
    sets: &mut Sets,
) {
    // What belongs to an object is not joined with what only comes at the same time.
    let is_owned = |at: &usize| owned.get(*at).is_some_and(Option::is_some);
    let mut accused: Vec<usize> = (0..found.len())
        .filter(|at| found.get(*at).is_some_and(|case| case.lives.is_some()) && !is_owned(at))
        .collect();
    // With too many, what leaks goes first.
    accused.sort_by_key(|at| found.get(*at).is_none_or(|case| !is_accused(case)));
    accused.truncate(COMPARED);
    for (rank, one) in accused.iter().enumerate() {
        for other in accused.iter().skip(rank + 1) {
            let (Some(first), Some(second)) = (found.get(*one), found.get(*other)) else {
                continue;
            };
            if sets.root(*one) != sets.root(*other)
                && (is_accused(first) || is_accused(second))
                && first.site.pid == second.site.pid
                && (meet(first.site, second.site)
                    || are_paired(first.site, second.site)
                    || [first, second].iter().any(|case| is_of_library(case.site, functions)))
                && are_together(first, second)
            {
                sets.join(*one, *other);
            }
        }
    }
}

fn are_together(one: &Case<'_>, other: &Case<'_>) -> bool {
    let (Some(first), Some(second)) = (one.lives, other.lives) else { return false };
    let now_s = [one, other]
        .iter()
        .filter_map(|case| case.judged.evidence.as_ref())
        .map(|evidence| evidence.now_s)
        .fold(0.0, f64::max);
    let until_s = now_s - one.judged.mature_s.max(other.judged.mature_s);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let until_ms = (until_s * 1000.0).clamp(0.0, f64::from(u32::MAX)) as u32;
    acquired_together(first, second, until_ms)
}

/// Whether two stacks meet near their headlines, below the function of their thread.
fn meet(one: &Site, other: &Site) -> bool {
    let near = |site: &Site| -> HashSet<String> {
        let stack = site.frames.get(site.headline..).unwrap_or_default();
        let below = stack.get(..stack.len().saturating_sub(of_thread(stack))).unwrap_or_default();
        below.iter().take(NEAR).map(Frame::label).collect()
    };
    let (first, second) = (near(one), near(other));
    !first.is_disjoint(&second)
}

/// Acquisitions by which call sites that are always called together may differ: the snapshot may come between the two.
const BETWEEN: u64 = 2;

/// Whether two call sites were called the same number of times, and have the same number of resources left: as one who
/// copies a text for each record does, wherever the text is copied.
fn are_paired(one: &Site, other: &Site) -> bool {
    one.acquired_count >= USED
        && one.acquired_count.abs_diff(other.acquired_count) <= BETWEEN
        && one.outstanding_count.abs_diff(other.outstanding_count) <= BETWEEN
}

/// Whether all of a stack is a library's: its thread is the library's own.
fn is_of_library(site: &Site, functions: &Functions<'_>) -> bool {
    !(0..site.frames.len()).any(|at| functions.is_program(site, at))
}

/// Frames at the bottom of a stack that every stack of the thread has: the start of the thread, and its function.
fn of_thread(stack: &[Frame]) -> usize {
    let started = |frame: &&Frame| {
        let name = frame.symbol.as_deref().unwrap_or_default();
        let module = frame.module.as_deref().map(crate::format::file_name).unwrap_or_default();
        module.starts_with("libc.so")
            || module.starts_with("libpthread")
            || ["_start", "start_thread", "clone", "__clone3"].contains(&name)
    };
    stack.iter().rev().take_while(started).count() + 1
}

/// The function at an index of a stack.
fn named(site: &Site, at: usize) -> Option<String> {
    site.frames.get(at).map(Frame::label)
}

/// Disjoint sets of indexes.
struct Sets {
    parents: Vec<usize>,
}

impl Sets {
    fn of(number: usize) -> Self {
        Self { parents: (0..number).collect() }
    }

    fn root(&mut self, at: usize) -> usize {
        let parent = self.parents.get(at).copied().unwrap_or(at);
        if parent == at {
            return at;
        }
        let root = self.root(parent);
        if let Some(parent) = self.parents.get_mut(at) {
            *parent = root;
        }
        root
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        if let Some(parent) = self.parents.get_mut(one) {
            *parent = other;
        }
    }
}
