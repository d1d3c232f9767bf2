//! `tidy`: checks the house rules that a machine can check, and reports each violation with its location.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{note, workspace},
    tidy_arch, tidy_circles,
    tidy_edges::{self, EDGES, FENCES},
    tidy_impls,
    tidy_modules::Crate,
    tidy_waist,
};

/// Maximum lines of code in a file, without tests and comments.
const MOST_LINES: usize = 400;

/// Folders of Rust code.
const CRATES: [&str; 6] =
    ["tracer-common", "tracer-ebpf", "tracer", "tests", "tests/churn", "xtask"];

/// Checks all files.
pub(crate) fn run() -> Result<()> {
    let mut faults = Vec::new();
    for name in CRATES {
        let manifest = fs::read_to_string(workspace().join(name).join("Cargo.toml"))?;
        if !manifest.contains("[lints]\nworkspace = true") {
            faults.push(format!("{name}/Cargo.toml: does not inherit the workspace's lints"));
        }
    }
    for path in files()? {
        let text = fs::read(workspace().join(&path))?;
        let Ok(text) = String::from_utf8(text) else { continue };
        everywhere(&path, &text, &mut faults);
        if path.extension().is_some_and(|end| end == "rs") {
            rust(&path, &text, &mut faults);
            tidy_arch::check(&path, &text, &mut faults);
        }
    }
    faults.extend(modules()?);
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        note(fault);
    }
    bail!("{} house rules are broken", faults.len())
}

/// Checks who names whom.
fn modules() -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for root in ["tracer/src/lib.rs", "tracer-ebpf/src/main.rs"] {
        let all = Crate::read(workspace(), root)?;
        faults.extend(tidy_circles::check(&all, tidy_circles::KNOWN));
        faults.extend(tidy_impls::check(&all, tidy_impls::KNOWN));
        if root.starts_with("tracer/") {
            faults.extend(tidy_edges::check(&all, &EDGES));
            let map = fs::read_to_string(workspace().join("ARCHITECTURE.md"))?;
            faults.extend(tidy_edges::agrees(&map, &EDGES));
            faults.extend(tidy_waist::check(&all, tidy_waist::ALLOWED, tidy_waist::KNOWN));
        }
    }
    Ok(faults)
}

/// Every file that git knows or would add, relative to the workspace.
fn files() -> Result<Vec<PathBuf>> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(workspace())
        .output()
        .context("could not run `git ls-files`")?;
    let names = String::from_utf8(listed.stdout)?;
    let there = |path: &PathBuf| workspace().join(path).is_file();
    Ok(names.lines().map(PathBuf::from).filter(there).collect())
}

fn everywhere(path: &Path, text: &str, faults: &mut Vec<String>) {
    for (line, number) in text.lines().zip(1..) {
        // Assembled here, so that this file does not violate its own rule.
        for folder in ["home", "root", "work", "Users"] {
            let start = format!("/{folder}/");
            let at_start = line.find(&start).is_some_and(|at| {
                let before = line.get(..at).and_then(|before| before.chars().next_back());
                before.is_none_or(|c| !c.is_alphanumeric() && !"./}_-".contains(c))
            });
            if at_start {
                faults.push(format!("{}:{number}: a machine's path", path.display()));
            }
        }
        let todo = ["TO", "DO"].concat();
        if let Some((_, rest)) = line.split_once(&todo)
            && !rest.starts_with("(#")
        {
            faults.push(format!("{}:{number}: {todo} without an issue's number", path.display()));
        }
    }
}

fn rust(path: &Path, text: &str, faults: &mut Vec<String>) {
    if !text.starts_with("//!") {
        faults.push(format!("{}:1: does not begin with `//!`", path.display()));
    }
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines =
        code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    let lines = lines.count();
    // Tests in a file of their own are exempt like tests at the end of a file.
    let tests = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
    if lines > MOST_LINES && !tests {
        faults.push(format!("{}: {lines} lines of code, {MOST_LINES} at most", path.display()));
    }
    if let Ok(inside) = path.strip_prefix("tracer/src") {
        fences(path, inside, code, faults);
    }
}

/// The libraries that a file of `tracer` may name.
fn fences(path: &Path, inside: &Path, code: &str, faults: &mut Vec<String>) {
    let first = inside.iter().next().unwrap_or_default().to_string_lossy();
    let folder = first.trim_end_matches(".rs");
    for (library, home) in FENCES {
        let named = [format!("use {library}::"), format!("{library}::")];
        if folder != home && code.lines().any(|line| names(line, &named)) {
            faults.push(format!("{}: names {library}, which is for {home}/", path.display()));
        }
    }
}

/// Whether a line of code, not of documentation, uses one of these names.
fn names(line: &str, words: &[String]) -> bool {
    let code = line.split("//").next().unwrap_or(line);
    words.iter().any(|word| {
        code.find(word.as_str()).is_some_and(|at| {
            let before = code.get(..at).and_then(|before| before.chars().next_back());
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_in_code_and_not_in_its_documentation() {
        let words = ["aya::".to_owned()];
        assert!(names("use aya::Ebpf;", &words));
        assert!(!names("/// like aya::Ebpf", &words));
        assert!(!names("use maya::x;", &words));
    }

    #[test]
    fn a_machine_path_is_a_fault_and_a_relative_one_is_not() {
        let mut faults = Vec::new();
        everywhere(Path::new("a"), &["see /ho", "me/me/x"].concat(), &mut faults);
        everywhere(Path::new("b"), "see tests/home/x", &mut faults);
        assert_eq!(faults, ["a:1: a machine's path"]);
    }
}
