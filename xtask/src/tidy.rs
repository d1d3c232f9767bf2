//! `tidy`: checks the house rules that a machine can check, and reports each violation with its location.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{note, workspace},
    tidy_arch,
    tidy_edges::{EDGES, FENCES},
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
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        note(fault);
    }
    bail!("{} house rules are broken", faults.len())
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
        edges(path, inside, code, faults);
    }
}

/// The names that a file of `tracer` may use.
fn edges(path: &Path, inside: &Path, code: &str, faults: &mut Vec<String>) {
    let first = inside.iter().next().unwrap_or_default().to_string_lossy();
    let folder = first.trim_end_matches(".rs");
    for (library, home) in FENCES {
        let named = [format!("use {library}::"), format!("{library}::")];
        if folder != home && code.lines().any(|line| names(line, &named)) {
            faults.push(format!("{}: names {library}, which is for {home}/", path.display()));
        }
    }
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == folder) else {
        faults.push(format!("{}: `{folder}` is not in the table of edges", path.display()));
        return;
    };
    if allowed.contains(&"*") {
        return;
    }
    for (at, _) in code.match_indices("crate::") {
        let after = code.get(at + "crate::".len()..).unwrap_or_default();
        for used in first_names(after) {
            if used != folder && used.starts_with(char::is_lowercase) && !allowed.contains(&used) {
                faults.push(format!("{}: {folder} may not know {used}", path.display()));
            }
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

/// The modules named directly after `crate::`: one, or each of a braced list.
fn first_names(after: &str) -> Vec<&str> {
    let word =
        |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(list) = after.strip_prefix('{') else {
        return after.get(..word(after)).into_iter().collect();
    };
    let (mut depth, mut start, mut found) = (0_u32, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let item = list.get(start..at).unwrap_or_default().trim();
                found.extend(item.get(..word(item)).filter(|name| !name.is_empty()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_braced_import_names_each_module() {
        assert_eq!(first_names("{a::{b, c}, d, e::F};"), ["a", "d", "e"]);
        assert_eq!(first_names("report::Report;"), ["report"]);
    }

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
