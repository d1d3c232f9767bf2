//! Rule of `tidy`: no circles among the files and folders of a folder.
//!
//! Takes the modules of a crate, passes on a fault for each circle. A file needs another if it names something that the
//! other defines, also by way of a re-export; a folder counts as one file for its neighbors. The file that a folder
//! belongs to (`mod.rs`) is not a neighbor: it puts its files together, and defines what they share.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use crate::tidy_modules::{Crate, Meaning, Name, line_of};

/// Circles that are there today, each by the file that should not name another, and that other file. An entry that is
/// no longer needed is a fault, so this list only shrinks.
pub(crate) const KNOWN: &[(&str, &str)] = &[];

/// Where one module first names something of another.
type Edges = BTreeMap<(Name, Name), Place>;
/// File and line.
type Place = (PathBuf, usize);
/// What each file or folder of one folder needs of the others.
type Neighbors = BTreeMap<Name, BTreeMap<Name, Place>>;

/// Checks a crate, apart from `known` circles.
pub(crate) fn check(all: &Crate, known: &[(&str, &str)]) -> Vec<String> {
    let edges = edges(all);
    let is_known = |edge: &(Name, Name)| known.iter().find(|entry| is(all, edge, entry));
    let mut kept = edges.clone();
    kept.retain(|edge, _| is_known(edge).is_none());
    let mut faults = Vec::new();
    for folder in folders(all) {
        let neighbors = neighbors(&folder, &kept);
        let mut seen = BTreeSet::new();
        for node in neighbors.keys() {
            if seen.contains(node) {
                continue;
            }
            if let Some(circle) = path(&neighbors, node, node) {
                // One circle of those that overlap: mending it often mends the others.
                seen.extend(circle.iter().cloned());
                faults.push(fault(&folder, &neighbors, &circle));
            }
        }
    }
    for entry in known.iter().filter(|(from, _)| all.would_have(from)) {
        let needed = edges.iter().any(|(edge, place)| {
            let mut with = kept.clone();
            with.insert(edge.clone(), place.clone());
            is(all, edge, entry) && closes_a_circle(&with, edge)
        });
        if !needed {
            let (from, to) = entry;
            let line = line_of(include_str!("tidy_circles.rs"), &[from, to]);
            faults.push(format!(
                "xtask/src/tidy_circles.rs:{line}: `KNOWN` has a circle through {from} and {to} that is gone: remove its entry"
            ));
        }
    }
    faults
}

/// What each file names of others.
fn edges(all: &Crate) -> Edges {
    let mut edges = Edges::new();
    for (name, module) in all.modules.iter().filter(|(_, module)| !module.is_test) {
        let from = all.with_file(name);
        for (path, line) in &module.found.paths {
            let Meaning::Here(to, _) = all.meaning(name, path) else { continue };
            let to = all.with_file(&to);
            if from != to {
                edges.entry((from.clone(), to)).or_insert((module.file.clone(), *line));
            }
        }
    }
    edges
}

/// Whether an edge is that of a known circle.
fn is(all: &Crate, (from, to): &(Name, Name), (left, right): &(&str, &str)) -> bool {
    let file = |name: &Name| all.modules.get(name).map(|module| module.file.as_path());
    file(from) == Some(Path::new(left)) && file(to) == Some(Path::new(right))
}

/// The modules that have files below them, and the root.
fn folders(all: &Crate) -> BTreeSet<Name> {
    let files = all.modules.iter().filter(|(_, module)| !module.is_inline && !module.is_test);
    files.filter_map(|(name, _)| name.split_last().map(|(_, folder)| folder.to_vec())).collect()
}

/// The file or folder of `folder` that a module belongs to; `None` for the folder's own file.
fn node(folder: &Name, module: &Name) -> Option<Name> {
    let inside = module.starts_with(folder) && module.len() > folder.len();
    inside.then(|| module.iter().take(folder.len() + 1).cloned().collect())
}

fn neighbors(folder: &Name, edges: &Edges) -> Neighbors {
    let mut neighbors = Neighbors::new();
    for ((from, to), place) in edges {
        if let (Some(from), Some(to)) = (node(folder, from), node(folder, to))
            && from != to
        {
            neighbors.entry(from).or_default().entry(to).or_insert_with(|| place.clone());
        }
    }
    neighbors
}

/// The shortest way from one node to another: at least one step.
fn path(neighbors: &Neighbors, from: &Name, to: &Name) -> Option<Vec<Name>> {
    let mut came_from: BTreeMap<&Name, &Name> = BTreeMap::new();
    let mut waiting = VecDeque::from([from]);
    while let Some(node) = waiting.pop_front() {
        for next in neighbors.get(node).into_iter().flat_map(BTreeMap::keys) {
            if next == to {
                let mut path = vec![to.clone(), node.clone()];
                let mut node = node;
                while node != from {
                    node = came_from.get(node)?;
                    path.push(node.clone());
                }
                path.reverse();
                return Some(path);
            }
            if next != from && !came_from.contains_key(next) {
                came_from.insert(next, node);
                waiting.push_back(next);
            }
        }
    }
    None
}

/// Whether an edge is a part of a circle in the folder that both of its files are in.
fn closes_a_circle(edges: &Edges, (from, to): &(Name, Name)) -> bool {
    let shared = from.iter().zip(to).take_while(|(left, right)| left == right).count();
    let folder: Name = from.iter().take(shared).cloned().collect();
    let (Some(from), Some(to)) = (node(&folder, from), node(&folder, to)) else { return false };
    path(&neighbors(&folder, edges), &to, &from).is_some()
}

fn fault(folder: &Name, neighbors: &Neighbors, circle: &[Name]) -> String {
    let title = |node: &Name| node.last().cloned().unwrap_or_default();
    let mut steps = Vec::new();
    for pair in circle.windows(2) {
        let [from, to] = pair else { continue };
        if let Some((file, line)) = neighbors.get(from).and_then(|of| of.get(to)) {
            let names = format!("{} names {}", title(from), title(to));
            steps.push((format!("{}:{line}", file.display()), names));
        }
    }
    let (first, _) = steps.first().cloned().unwrap_or_default();
    let steps: Vec<String> = steps.iter().map(|(at, names)| format!("{names} at {at}")).collect();
    format!(
        "{first}: a circle in {}: {}; neither file can be read or tested without the other: move what both need into a \
         file that names neither, or pass it as an argument",
        if folder.is_empty() {
            "the crate's root".to_owned()
        } else {
            format!("{}/", folder.join("/"))
        },
        steps.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(files: &[(&str, &str)], known: &[(&str, &str)]) -> Vec<String> {
        check(&Crate::of(files), known)
    }

    #[test]
    fn two_files_that_name_each_other_are_a_circle() {
        let files = [
            ("", "mod x;"),
            ("x", "mod a; mod b; mod c;"),
            ("x::a", "\nuse super::b::f;"),
            ("x::b", "use crate::x::c::g; pub fn f() {}"),
            ("x::c", "pub fn g() { super::a::h() }"),
        ];
        let found = faults(&files, &[]);
        let start = "x/a.rs:2: a circle in x/: a names b at x/a.rs:2, b names c at x/b.rs:1, c names a at x/c.rs:1; ";
        assert!(found.len() == 1 && found.iter().all(|one| one.starts_with(start)), "{found:?}");
    }

    #[test]
    fn a_circle_of_folders_is_found_at_the_folder_that_holds_both() {
        let files = [
            ("", "mod x; mod y;"),
            ("x", "mod a;"),
            ("x::a", "use crate::y::b::f;"),
            ("y", "mod b; mod c;"),
            ("y::b", "pub fn f() {}"),
            ("y::c", "use crate::x;"),
        ];
        let found = faults(&files, &[]);
        assert!(found.len() == 1 && found.iter().all(|one| one.contains("the crate's root: x")));
    }

    #[test]
    fn the_file_of_a_folder_is_in_no_circle() {
        let files = [
            ("", "mod x;"),
            ("x", "mod a; mod b; pub use a::A;"),
            ("x::a", "pub struct A;"),
            ("x::b", "use super::A;"),
        ];
        assert_eq!(faults(&files, &[]), Vec::<String>::new());
        let files = [
            ("", "mod x;"),
            ("x", "mod a; pub struct X; use a::A; fn f(_: A) {}"),
            ("x::a", "use super::X; pub struct A;"),
        ];
        assert_eq!(faults(&files, &[]), Vec::<String>::new());
    }

    #[test]
    fn a_reexport_counts_for_the_file_that_defines_the_name() {
        let files = [
            ("", "mod x;"),
            ("x", "mod a; mod b; pub use a::A;"),
            ("x::a", "pub struct A; use super::b::f;"),
            ("x::b", "use super::A; pub fn f() {}"),
        ];
        assert_eq!(faults(&files, &[]).len(), 1);
    }

    #[test]
    fn a_known_circle_is_no_fault_until_it_is_gone() {
        let circle = [("", ""), ("a", "use crate::b;"), ("b", "use crate::a;")];
        assert_eq!(faults(&circle, &[("a.rs", "b.rs")]), Vec::<String>::new());
        let line = [("", ""), ("a", "use crate::b;"), ("b", "")];
        for gone in [("a.rs", "b.rs"), ("c.rs", "a.rs")] {
            let found = faults(&line, &[gone]);
            assert!(found.len() == 1 && found.iter().all(|one| one.contains("remove its entry")));
        }
    }

    #[test]
    fn tests_may_name_anything() {
        let files = [
            ("", ""),
            ("a", "use crate::b; #[cfg(test)] mod tests { use crate::c; }"),
            ("b", "fn f() { crate::c::g() }"),
            ("c", "pub fn g() {} #[cfg(test)] mod tests { use crate::a; }"),
        ];
        assert_eq!(faults(&files, &[]), Vec::<String>::new());
    }
}
