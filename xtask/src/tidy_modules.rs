//! The modules of a crate, as the rules of `tidy` see them.
//!
//! Takes the root file of a crate, follows its `mod` declarations, and passes on what each file defines, imports and
//! names, with line numbers. Names are resolved through imports and re-exports to the file that defines them. Knows no
//! rule. Does not expand macros: it reads their arguments as tokens.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::tidy_names::{self, Found};

/// Longest chain of re-exports that is followed: more is a circle of `use` declarations.
const HOPS: u32 = 8;

/// The name of a module: the segments after `crate`.
pub(crate) type Name = Vec<String>;

/// The modules of one crate.
pub(crate) struct Crate {
    /// The folder of its root file.
    folder: PathBuf,
    /// Every module that has a file, and those within files.
    pub(crate) modules: BTreeMap<Name, Module>,
}

/// One module.
pub(crate) struct Module {
    /// Its file, relative to the workspace.
    pub(crate) file: PathBuf,
    /// Whether it is compiled for tests only.
    pub(crate) is_test: bool,
    /// Whether it stands within the file of another module.
    pub(crate) is_inline: bool,
    /// What its text contains.
    pub(crate) found: Found,
}

/// What a name refers to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Something in this crate: the module that defines it, and the rest of the path, if any.
    Here(Name, Name),
    /// Something in another crate, by its full path.
    Elsewhere(Name),
}

impl Crate {
    /// Reads the crate with this root file.
    pub(crate) fn read(workspace: &Path, root: &str) -> Result<Self> {
        let mut modules = BTreeMap::new();
        let mut waiting = vec![(Name::new(), PathBuf::from(root), false)];
        while let Some((name, file, is_test)) = waiting.pop() {
            let text = fs::read_to_string(workspace.join(&file))
                .with_context(|| format!("could not read `{}`", file.display()))?;
            let parsed = syn::parse_file(&text)
                .with_context(|| format!("could not parse `{}`", file.display()))?;
            for (inner, found) in tidy_names::find(&parsed) {
                let is_inline = !inner.is_empty();
                let name = [name.clone(), inner].concat();
                for child in &found.children {
                    let at = beside(workspace, &file, &child.name, child.path.as_deref())?;
                    let mut name = name.clone();
                    name.push(child.name.clone());
                    waiting.push((name, at, is_test || child.is_test));
                }
                let file = file.clone();
                modules.insert(name, Module { file, is_test, is_inline, found });
            }
        }
        let folder = Path::new(root).parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(Self { folder, modules })
    }

    /// A crate of these files, for tests of rules: module names with `::`, and their text.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut modules = BTreeMap::new();
        for (name, text) in files {
            let segments: Name =
                name.split("::").filter(|one| !one.is_empty()).map(str::to_owned).collect();
            for (inner, found) in tidy_names::find(&syn::parse_file(text).unwrap()) {
                let is_inline = !inner.is_empty();
                let name = [segments.clone(), inner].concat();
                let file = PathBuf::from(format!("{}.rs", segments.join("/")));
                modules.insert(name, Module { file, is_test: false, is_inline, found });
            }
        }
        Self { folder: PathBuf::new(), modules }
    }

    /// What `path`, written in the module `at`, refers to.
    pub(crate) fn meaning(&self, at: &Name, path: &[String]) -> Meaning {
        self.follow(at, path, HOPS)
    }

    fn follow(&self, at: &Name, path: &[String], hops: u32) -> Meaning {
        let Some((first, rest)) = path.split_first() else {
            return Meaning::Here(at.clone(), Name::new());
        };
        let mut module = match first.as_str() {
            "crate" => Name::new(),
            "self" => at.clone(),
            "super" => at.split_last().map(|(_, above)| above.to_vec()).unwrap_or_default(),
            _ if self.is_known_in(at, first) => return self.walk(at.clone(), path, hops),
            _ => return Meaning::Elsewhere(path.to_vec()),
        };
        let mut rest = rest;
        while let Some((_, after)) = rest.split_first().filter(|(next, _)| *next == "super") {
            module.pop();
            rest = after;
        }
        self.walk(module, rest, hops)
    }

    /// Whether a path that begins with `first` in module `at` begins with something of this crate or an import.
    fn is_known_in(&self, at: &Name, first: &str) -> bool {
        self.modules.get(at).is_some_and(|module| {
            let found = &module.found;
            found.items.contains(first) || found.imports.contains_key(first) || {
                let mut child = at.clone();
                child.push(first.to_owned());
                self.modules.contains_key(&child)
            }
        })
    }

    /// Goes from `module` along `path`, through submodules and imports.
    fn walk(&self, mut module: Name, path: &[String], hops: u32) -> Meaning {
        for (at, segment) in path.iter().enumerate() {
            let rest = path.get(at + 1..).unwrap_or_default();
            let mut child = module.clone();
            child.push(segment.clone());
            if self.modules.contains_key(&child) {
                module = child;
                continue;
            }
            let found = self.modules.get(&module).map(|module| &module.found);
            let import = found
                .filter(|found| !found.items.contains(segment))
                .and_then(|found| found.imports.get(segment));
            if let Some(import) = import.filter(|_| hops > 0) {
                let path = [import.path.as_slice(), rest].concat();
                return self.follow(&module, &path, hops - 1);
            }
            return Meaning::Here(module, path.get(at..).unwrap_or_default().to_vec());
        }
        Meaning::Here(module, Name::new())
    }

    /// Whether a path is that of a file of this crate, even of one that is gone.
    pub(crate) fn would_have(&self, path: &str) -> bool {
        Path::new(path).starts_with(&self.folder)
    }

    /// The module of the file that a module stands in.
    pub(crate) fn with_file(&self, name: &Name) -> Name {
        let mut name = name.clone();
        while self.modules.get(&name).is_none_or(|module| module.is_inline) && name.pop().is_some()
        {
        }
        name
    }
}

/// The line of a text where an entry with these words begins; entries may take several lines.
pub(crate) fn line_of(text: &str, words: &[&str]) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let all = |text: &str| words.iter().all(|word| text.contains(word));
    let begins = |at: usize| {
        let first = lines.get(at).zip(words.first());
        first.is_some_and(|(line, word)| line.contains(word))
            && all(&lines.get(at..lines.len().min(at + 3)).unwrap_or_default().concat())
    };
    let one_line = lines.iter().position(|line| all(line));
    one_line.or_else(|| (0..lines.len()).find(|at| begins(*at))).map_or(1, |at| at + 1)
}

/// The file of the module `name`, declared in `file`.
fn beside(workspace: &Path, file: &Path, name: &str, path: Option<&str>) -> Result<PathBuf> {
    let folder = file.parent().unwrap_or(Path::new(""));
    if let Some(path) = path {
        return Ok(folder.join(path));
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let inside = match &*stem {
        "mod" | "lib" | "main" => folder.to_path_buf(),
        stem => folder.join(stem),
    };
    [inside.join(format!("{name}.rs")), inside.join(name).join("mod.rs")]
        .into_iter()
        .find(|file| workspace.join(file).is_file())
        .with_context(|| format!("`{}` declares `mod {name}`, which has no file", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str) -> Name {
        path.split("::").filter(|one| !one.is_empty()).map(str::to_owned).collect()
    }

    fn here(module: &str, rest: &str) -> Meaning {
        Meaning::Here(words(module), words(rest))
    }

    #[test]
    fn names_are_resolved_to_the_file_that_defines_them() {
        let all = Crate::of(&[
            ("", "mod a; mod b;"),
            ("a", "mod c; mod d; pub use self::c::Thing; pub fn f() {} use std::fs;"),
            ("a::c", "pub struct Thing; use super::d; use std::time::Instant;"),
            ("a::d", "use crate::a::Thing as Other;"),
            ("b", ""),
        ]);
        let means = |at: &str, path: &str| all.meaning(&words(at), &words(path));
        assert_eq!(means("b", "crate::a::Thing"), here("a::c", "Thing"));
        assert_eq!(means("a::d", "Other::new"), here("a::c", "Thing::new"));
        assert_eq!(means("a::d", "super::f"), here("a", "f"));
        assert_eq!(means("a::c", "d::x"), here("a::d", "x"));
        assert_eq!(means("a::c", "super::super::b::x"), here("b", "x"));
        assert_eq!(means("a", "c::Thing"), here("a::c", "Thing"));
        assert_eq!(means("a", "fs::read"), Meaning::Elsewhere(words("std::fs::read")));
        let now = Meaning::Elsewhere(words("std::time::Instant::now"));
        assert_eq!(means("a::c", "Instant::now"), now);
    }

    #[test]
    fn an_entry_is_found_by_its_words() {
        let text = "const A: &[(&str, &str)] = &[\n    (\"a\", \"b\"),\n    (\n        \"a\",\n        \"c\",\n    ),\n];";
        assert_eq!(line_of(text, &["\"a\"", "\"b\""]), 2);
        assert_eq!(line_of(text, &["\"a\"", "\"c\""]), 4);
        assert_eq!(line_of(text, &["\"x\""]), 1);
    }

    #[test]
    fn a_circle_of_imports_ends() {
        let all =
            Crate::of(&[("", ""), ("a", "pub use crate::b::X;"), ("b", "pub use crate::a::X;")]);
        assert!(matches!(all.meaning(&words("a"), &words("X")), Meaning::Here(..)));
    }

    #[test]
    fn a_module_within_a_file_belongs_to_that_file() {
        let all = Crate::of(&[("", ""), ("a", "mod inner { use super::x; }")]);
        assert_eq!(all.meaning(&words("a::inner"), &words("x")), here("a", "x"));
        assert_eq!(all.with_file(&words("a::inner")), words("a"));
    }
}
