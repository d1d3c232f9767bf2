//! Rule of `tidy`: the methods of a type stand in at most two files.
//!
//! Takes the modules of a crate, passes on a fault for each type whose `impl` blocks without a trait stand in more files.

use std::collections::BTreeMap;

use crate::tidy_modules::{Crate, Meaning, Name, line_of};

/// Files that may hold methods of one type: the one that defines it, and one more.
const MOST_FILES: usize = 2;

/// Types that stand in too many files today, by the file that defines them. An entry that is no longer needed is a
/// fault, so this list only shrinks.
pub(crate) const KNOWN: &[(&str, &str)] = &[];

/// Checks a crate, apart from `known` types.
pub(crate) fn check(all: &Crate, known: &[(&str, &str)]) -> Vec<String> {
    // By type: files, with the line of the first block.
    let mut blocks: BTreeMap<(Name, String), BTreeMap<String, usize>> = BTreeMap::new();
    for (name, module) in all.modules.iter().filter(|(_, module)| !module.is_test) {
        for (path, line) in &module.found.impls {
            let Meaning::Here(home, rest) = all.meaning(name, path) else { continue };
            let Some(of) = rest.last() else { continue };
            let files = blocks.entry((home, of.clone())).or_default();
            files.entry(module.file.display().to_string()).or_insert(*line);
        }
    }
    let mut faults = Vec::new();
    let mut needed = Vec::new();
    for ((home, of), files) in blocks.iter().filter(|(_, files)| files.len() > MOST_FILES) {
        let defined = all.modules.get(home).map(|module| module.file.display().to_string());
        let defined = defined.unwrap_or_default();
        if known.contains(&(defined.as_str(), of.as_str())) {
            needed.push((defined, of));
            continue;
        }
        let places: Vec<String> =
            files.iter().map(|(file, line)| format!("{file}:{line}")).collect();
        let first = files.get(&defined).map_or(0, |line| *line);
        faults.push(format!(
            "{defined}:{first}: `impl {of}` stands in {} files ({}), {MOST_FILES} at most: every file sees every field; \
             give a part that has work of its own a type of its own, which takes what it needs as arguments",
            files.len(),
            places.join(", ")
        ));
    }
    for (file, of) in known.iter().filter(|(file, _)| all.would_have(file)) {
        if !needed.iter().any(|(defined, one)| defined == file && one == of) {
            let line = line_of(include_str!("tidy_impls.rs"), &[file, of]);
            faults.push(format!(
                "xtask/src/tidy_impls.rs:{line}: `KNOWN` has `{of}` of {file}, which is in few files now: remove its entry"
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &str); 4] = [
        ("", "mod a;"),
        ("a", "pub struct A; impl A {} impl Drop for A {}"),
        ("a::b", "use super::A; impl A {} #[cfg(test)] impl A {}"),
        ("a::c", "impl crate::a::A {} impl A {} struct A;"),
    ];

    #[test]
    fn two_files_are_enough() {
        let found = check(&Crate::of(&FILES), &[]);
        let start = "a.rs:1: `impl A` stands in 3 files (a.rs:1, a/b.rs:1, a/c.rs:1), 2 at most: ";
        assert!(found.len() == 1 && found.iter().all(|one| one.starts_with(start)), "{found:?}");
        assert_eq!(check(&Crate::of(FILES.get(..3).unwrap()), &[]), Vec::<String>::new());
    }

    #[test]
    fn a_known_type_is_no_fault_until_it_is_mended() {
        let known = [("a.rs", "A")];
        assert_eq!(check(&Crate::of(&FILES), &known), Vec::<String>::new());
        let found = check(&Crate::of(FILES.get(..3).unwrap()), &known);
        assert!(found.len() == 1 && found.iter().all(|one| one.contains("remove its entry")));
    }
}
