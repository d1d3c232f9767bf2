//! Rule of `tidy`: the folders of `tracer` name only those that the table here allows, and the table allows no more than
//! they name.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy_modules::{Crate, Name, line_of};

/// A folder or file of `tracer/src`, and the modules that its `use crate::` lines may name.
pub(crate) const EDGES: [(&str, &[&str]); 34] = [
    ("arch", &[]),
    ("cli", &["options", "probes", "report"]),
    ("settings", &["cli", "error", "options", "packs", "probes", "suppressions"]),
    ("error", &["arch", "format"]),
    ("format", &[]),
    ("options", &[]),
    ("output", &["error"]),
    ("preflight", &["arch", "error", "probes", "target"]),
    ("doctor", &["error", "format", "kernel", "preflight"]),
    ("target", &["tape"]),
    ("heap", &["arch", "format", "target"]),
    ("packs", &["arch", "tape"]),
    ("probes", &["arch", "format", "packs", "tape", "target"]),
    ("kernel", &["arch", "options"]),
    ("unwind", &["arch", "kernel", "tape", "target"]),
    ("ledger", &["target"]),
    ("tape", &["error"]),
    ("source", &["kernel", "options", "tape", "target", "unwind"]),
    ("reconcile", &["heap", "ledger", "source", "tape", "target"]),
    ("lib_objects", &["heap", "ledger", "packs", "reconcile", "source", "tape", "target"]),
    ("snapshot", &["ledger", "lib_objects", "reconcile", "target", "unwind"]),
    (
        "collector",
        &[
            "heap",
            "kernel",
            "ledger",
            "lib_objects",
            "options",
            "reconcile",
            "snapshot",
            "source",
            "tape",
            "target",
        ],
    ),
    ("analyze", &["evidence", "format", "ledger", "report", "snapshot"]),
    ("evidence", &["ledger", "snapshot"]),
    ("verdict", &["evidence", "format", "report", "snapshot"]),
    ("symbolize", &["arch", "format", "report", "target"]),
    ("findings", &["evidence", "format", "ledger", "report", "symbolize", "verdict"]),
    ("report", &["format"]),
    ("suppressions", &["report"]),
    (
        "assemble",
        &[
            "analyze",
            "findings",
            "format",
            "ledger",
            "lib_objects",
            "options",
            "packs",
            "probes",
            "reconcile",
            "report",
            "snapshot",
            "suppressions",
            "symbolize",
            "tape",
            "target",
            "verdict",
        ],
    ),
    ("tui", &["format", "report"]),
    // These assemble the pipeline: they may use every stage.
    ("run", &["*"]),
    ("main", &["*"]),
    ("lib", &["*"]),
];

/// A dependency that only one folder may use.
pub(crate) const FENCES: [(&str, &str); 4] =
    [("aya", "kernel"), ("blazesym", "symbolize"), ("ratatui", "tui"), ("crossterm", "tui")];

/// Checks the paths that begin with `crate::` against a table of edges.
pub(crate) fn check(all: &Crate, table: &[(&str, &[&str])]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut used: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut reported = BTreeSet::new();
    for (name, module) in &all.modules {
        let Some(folder) = name.first() else { continue };
        let file = module.file.display();
        let Some((folder, allowed)) = table.iter().find(|(one, _)| one == folder) else {
            faults.push(format!(
                "{file}:1: `{folder}` is not in the table of edges: give it a row in xtask/src/tidy_edges.rs and \
                 ARCHITECTURE.md"
            ));
            continue;
        };
        for (path, line) in module.found.paths.iter().chain(&module.found.exports) {
            let Some(other) = in_the_root(name, path).filter(|other| other != folder) else {
                continue;
            };
            if let Some(other) = allowed.iter().find(|one| **one == other) {
                *used.entry((folder, other)).or_default() += 1;
            } else if !allowed.contains(&"*")
                && other.starts_with(char::is_lowercase)
                && reported.insert((file.to_string(), *line, other))
            {
                faults.push(format!(
                    "{file}:{line}: {folder} may not name {other}: pass what is needed as an argument, or add the edge to \
                     xtask/src/tidy_edges.rs and ARCHITECTURE.md, with its reason in the commit"
                ));
            }
        }
    }
    for (folder, allowed) in table {
        for other in allowed.iter().filter(|other| **other != "*") {
            if !used.contains_key(&(*folder, *other)) {
                let line = line_of(include_str!("tidy_edges.rs"), &[&format!("\"{folder}\", &[")]);
                faults.push(format!(
                    "xtask/src/tidy_edges.rs:{line}: {folder} may name {other}, but does not: remove the edge here and in \
                     ARCHITECTURE.md"
                ));
            }
        }
    }
    faults
}

/// Checks that the table in ARCHITECTURE.md is the same.
pub(crate) fn agrees(text: &str, table: &[(&str, &[&str])]) -> Vec<String> {
    let start = "## Who may name whom";
    let section = text.split(start).nth(1).and_then(|rest| rest.split("\n## ").next());
    let mut written: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in section.unwrap_or_default().lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).skip(1).collect();
        for pair in cells.chunks_exact(2) {
            let [folders, allowed] = pair else { continue };
            let allowed = if *allowed == "everything" { vec!["*"] } else { quoted(allowed) };
            written.extend(quoted(folders).into_iter().map(|folder| (folder, allowed.clone())));
        }
    }
    let here: BTreeMap<&str, Vec<&str>> =
        table.iter().map(|(folder, allowed)| (*folder, allowed.to_vec())).collect();
    let names = here.keys().chain(written.keys()).collect::<BTreeSet<_>>();
    names
        .into_iter()
        .filter(|name| here.get(*name) != written.get(*name))
        .map(|name| {
            let line = line_of(text, &[start]);
            format!("ARCHITECTURE.md:{line}: `{start}`, the row of `{name}` differs from xtask/src/tidy_edges.rs")
        })
        .collect()
}

/// The words in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The module of the root that a path in module `at` goes through.
fn in_the_root<'path>(at: &Name, path: &'path [String]) -> Option<&'path str> {
    let above = path.iter().take_while(|one| *one == "super").count();
    match path.first()?.as_str() {
        "crate" => path.get(1).map(String::as_str),
        "super" if above == at.len() => path.get(above).map(String::as_str),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_is_not_allowed_is_a_fault_and_so_is_one_that_nothing_uses() {
        let all = Crate::of(&[
            ("", "mod a; mod b; mod c; mod d;"),
            ("a", "use crate::{b::X, a::Y};\nfn f() { crate::c::g() }"),
            ("a::inner", "pub use super::super::d::Z;"),
            ("b", ""),
            ("c", "#[cfg(test)] mod tests { use crate::a; }"),
            ("e", ""),
        ]);
        let table: [(&str, &[&str]); 4] =
            [("a", &["b", "d"]), ("b", &["d"]), ("c", &["*"]), ("d", &[])];
        let found = check(&all, &table);
        let starts = [
            "a.rs:2: a may not name c:",
            "e.rs:1: `e` is not in the table",
            ": b may name d, but does not",
        ];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        assert!(found.iter().zip(starts).all(|(one, start)| one.contains(start)), "{found:?}");
    }

    #[test]
    fn the_table_of_the_documentation_is_the_same() {
        let table: [(&str, &[&str]); 4] =
            [("a", &["b", "c"]), ("b", &[]), ("c", &["*"]), ("d", &[])];
        let text = "# X\n\n## Who may name whom\n\n| folder | may | folder | may |\n|---|---|---|---|\n\
                    | `a` | `b`, `c` | `b`, `d` | – |\n| `c` | everything | | |\n\n## Y\n| `z` | `y` |\n";
        assert_eq!(agrees(text, &table), Vec::<String>::new());
        let found = agrees(&text.replace("`b`, `c`", "`b`"), &table);
        assert!(
            found.len() == 1 && found.iter().all(|one| one.contains("the row of `a`")),
            "{found:?}"
        );
    }
}
