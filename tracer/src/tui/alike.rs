//! What distinguishes rows with the same headline: a caller, the line of a call, the function below, the file of the
//! library, the acquiring function.
//!
//! Pure: takes the stacks of a list, returns what differs for those that would look alike.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use crate::report::{Finding, Frame, Resource, Site};

/// As many rows are compared, the worst ones: nobody reads more, and comparing a million would delay a report.
const COMPARED: usize = 2_000;

/// What distinguishes a row from others with the same headline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// A frame above the headline.
    Caller {
        /// Its index.
        at: usize,
        /// Whether its name alone does not distinguish it.
        line: bool,
    },
    /// The frame at this index, below the headline.
    Callee(usize),
    /// The object file of the headline.
    Module,
    /// The place in the headline's function, whose lines are not known.
    Offset,
    /// The acquiring function.
    AcquiredBy,
}

/// What distinguishes rows, by their index.
pub type Differences = HashMap<usize, Difference>;

/// A row's stack, and what its columns show beside it.
#[derive(Clone, Copy, Debug)]
struct Item<'a> {
    kind: &'a Resource,
    acquired_by: &'a str,
    frames: &'a [Frame],
    headline: usize,
}

/// The differences of call sites; none for those that look like no other.
pub fn of_sites(all: &[Site]) -> Differences {
    let items = all.iter().take(COMPARED).map(|site| {
        let Site { kind, acquired_by, frames, headline, .. } = site;
        Item { kind, acquired_by, frames, headline: *headline }
    });
    differences(&items.collect::<Vec<_>>())
}

/// The same of findings.
pub fn of_findings(all: &[Finding]) -> Differences {
    let items = all.iter().take(COMPARED).map(|finding| {
        let Finding { kind, frames, headline, .. } = finding;
        Item { kind, acquired_by: "", frames, headline: *headline }
    });
    differences(&items.collect::<Vec<_>>())
}

type Text<'a> = Option<&'a Arc<str>>;
type Name<'a> = (Text<'a>, Option<u64>);

/// What a list shows of a frame: its function, or its address in its object.
fn name(frame: &Frame) -> Name<'_> {
    let nameless = if frame.symbol.is_none() { frame.module_offset } else { None };
    (frame.symbol.as_ref(), nameless)
}

type Place<'a> = (Name<'a>, Text<'a>, Option<u32>, Option<u64>);

/// Name and line; without a line, the place in the function.
fn place(frame: &Frame) -> Place<'_> {
    (name(frame), frame.file.as_ref(), frame.line, offset(frame))
}

/// The place in a function whose lines are not known.
fn offset(frame: &Frame) -> Option<u64> {
    frame.offset.filter(|_| frame.line.is_none() && frame.symbol.is_some())
}

/// What a list shows of a headline.
fn shown(frame: &Frame) -> Place<'_> {
    (name(frame), frame.file.as_ref(), frame.line, None)
}

fn differences(items: &[Item<'_>]) -> Differences {
    let mut found = Differences::new();
    let all: Vec<usize> = (0..items.len()).collect();
    for group in split(items, &all, |item| (item.kind, item.frames.get(item.headline).map(shown))) {
        let modules = split(items, &group, |item| {
            item.frames.get(item.headline).map(|frame| frame.module.as_ref())
        });
        if modules.len() > 1 {
            found.extend(group.iter().map(|one| (*one, Difference::Module)));
        }
        for group in modules {
            let offsets =
                split(items, &group, |item| item.frames.get(item.headline).and_then(offset));
            if offsets.len() > 1 {
                found.extend(group.iter().map(|one| (*one, Difference::Offset)));
            }
            for group in offsets {
                callers(items, &group, 1, &mut found);
            }
        }
    }
    found
}

/// Parts of a group, each with an equal key, in their order.
fn split<'a, K: Eq + Hash>(
    items: &[Item<'a>],
    group: &[usize],
    key: impl Fn(&Item<'a>) -> K,
) -> Vec<Vec<usize>> {
    if group.len() < 2 {
        return vec![group.to_vec()];
    }
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut at: HashMap<K, usize> = HashMap::new();
    for one in group {
        let Some(item) = items.get(*one) else { continue };
        let part = *at.entry(key(item)).or_insert(parts.len());
        match parts.get_mut(part) {
            Some(part) => part.push(*one),
            None => parts.push(vec![*one]),
        }
    }
    parts
}

/// Distinguishes rows whose stacks are equal from the headline to `above` frames over it.
fn callers(items: &[Item<'_>], group: &[usize], above: usize, found: &mut Differences) {
    if group.len() < 2 {
        return;
    }
    let members = group.iter().filter_map(|one| items.get(*one));
    if members.clone().all(|item| item.headline + above >= item.frames.len()) {
        return below(items, group, found);
    }
    let parts = split(items, group, |item| item.frames.get(item.headline + above).map(place));
    let names = split(items, group, |item| item.frames.get(item.headline + above).map(name));
    // How many have this caller's name.
    let same: HashMap<usize, usize> =
        names.iter().flat_map(|part| part.iter().map(|one| (*one, part.len()))).collect();
    for part in parts.iter().filter(|_| parts.len() > 1) {
        for one in part {
            let Some(item) = items.get(*one) else { continue };
            let at = item.headline + above;
            let line = same.get(one).is_some_and(|same| *same > part.len());
            if at < item.frames.len() {
                found.insert(*one, Difference::Caller { at, line });
            }
        }
    }
    for part in parts {
        callers(items, &part, above + 1, found);
    }
}

/// Distinguishes rows whose stacks are equal from the headline on.
fn below(items: &[Item<'_>], group: &[usize], found: &mut Differences) {
    let deepest = group.iter().filter_map(|one| items.get(*one)).map(|item| item.headline).max();
    for down in 1..=deepest.unwrap_or(0) {
        let at = |item: &Item<'_>| item.headline.checked_sub(down);
        let parts =
            split(items, group, |item| at(item).and_then(|at| item.frames.get(at)).map(place));
        if parts.len() > 1 {
            let of = |one: &usize| Some((*one, Difference::Callee(at(items.get(*one)?)?)));
            found.extend(group.iter().filter_map(of));
            return;
        }
    }
    if split(items, group, |item| item.acquired_by).len() > 1 {
        found.extend(group.iter().map(|one| (*one, Difference::AcquiredBy)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::sample;

    fn frame(name: &str, line: u32) -> Frame {
        let mut frame = sample::site(1).frames.first().cloned().unwrap();
        frame.symbol = Some(name.into());
        frame.file = Some("/src/a.cpp".into());
        frame.line = Some(line);
        frame.module = Some("/srv/a".into());
        frame
    }

    fn site(headline: usize, frames: &[(&str, u32)]) -> Site {
        let frames: Vec<Frame> = frames.iter().map(|(name, line)| frame(name, *line)).collect();
        Site { headline, frames: frames.into(), ..sample::site(1) }
    }

    #[test]
    fn callers_lines_callees_and_modules_distinguish() {
        let all = [
            site(0, &[("make", 9), ("serve", 31), ("main", 42)]),
            site(0, &[("make", 9), ("serve", 33), ("main", 42)]),
            site(0, &[("make", 9), ("upgrade", 50), ("main", 42)]),
            site(0, &[("other", 9), ("serve", 31), ("main", 42)]),
            site(0, &[("make", 9), ("upgrade", 50), ("main", 43)]),
            site(1, &[("grow", 1), ("push", 7), ("main", 42)]),
            site(1, &[("insert", 2), ("push", 7), ("main", 42)]),
            site(0, &[("one", 1)]),
        ];
        let found = of_sites(&all);
        let caller = |at, line| Some(Difference::Caller { at, line });
        let expected = [
            caller(1, true),
            caller(1, true),
            caller(2, true),
            None,
            caller(2, true),
            Some(Difference::Callee(0)),
            Some(Difference::Callee(0)),
            None,
        ];
        for (at, expected) in expected.into_iter().enumerate() {
            assert_eq!(found.get(&at).copied(), expected, "{at}");
        }
    }

    #[test]
    fn versions_and_functions_distinguish_equal_stacks() {
        let plain = site(0, &[("SSL_new", 1), ("main", 2)]);
        let mut other = plain.clone();
        let mut frames = other.frames.to_vec();
        frames[0].module = Some("/usr/lib/libssl.so.1.1".into());
        other.frames = frames.into();
        let found = of_sites(&[plain.clone(), other]);
        assert_eq!(found.get(&1), Some(&Difference::Module));
        let zeroed = Site { acquired_by: "calloc".to_owned(), ..plain.clone() };
        let found = of_sites(&[plain.clone(), zeroed]);
        assert_eq!(found.get(&0), Some(&Difference::AcquiredBy));
        // Two calls in a function without lines.
        let at = |offset| {
            let mut frames = plain.frames.to_vec();
            frames[0].line = None;
            frames[0].file = None;
            frames[0].offset = Some(offset);
            Site { frames: frames.into(), ..plain.clone() }
        };
        let found = of_sites(&[at(0x20), at(0x3c)]);
        assert_eq!(found.get(&1), Some(&Difference::Offset));
        // Of the same kind only: the kind has a column.
        assert!(of_sites(&[plain.clone(), plain]).is_empty());
    }
}
