//! The manifest next to the committed kernel programs: their sources and build tools.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process::output;

/// `KEY VALUE` lines, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// SHA-256 over the sources' names and contents.
    pub sources: String,
    /// Version of the compiler.
    pub rustc: String,
    /// Version of the linker.
    pub linker: String,
    /// SHA-256 of the object.
    pub object: String,
}

impl Manifest {
    /// Parses it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("could not read `{}`", path.display()))?;
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map(|rest| rest.trim().to_owned()).with_context(|| format!("no `{key}` in it"))
        };
        Ok(Self {
            sources: value("sources ")?,
            rustc: value("rustc ")?,
            linker: value("bpf-linker ")?,
            object: value("object ")?,
        })
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        format!(
            "# Written by `cargo xtask bpf`.\nsources {}\nrustc {}\nbpf-linker {}\nobject {}\n",
            self.sources, self.rustc, self.linker, self.object
        )
    }
}

/// SHA-256 of a file.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let line = output(Command::new("sha256sum").arg(path))?;
    Ok(line
        .split_whitespace()
        .next()
        .context("sha256sum prints a hash")?
        .trim_start_matches('\\')
        .to_owned())
}

/// SHA-256 over all inputs of the object: both crates, and the versions that cargo resolves for them. The names are
/// relative, so that the folder does not matter.
pub(crate) fn sources(root: &Path) -> Result<String> {
    let mut files =
        vec![PathBuf::from("tracer-ebpf/Cargo.toml"), "tracer-common/Cargo.toml".into()];
    for folder in ["tracer-ebpf/src", "tracer-common/src"] {
        list(root, Path::new(folder), &mut files)?;
    }
    files.sort();
    let mut text = String::new();
    for file in &files {
        writeln!(text, "{} {}", file.display(), sha256(&root.join(file))?)?;
    }
    text += &locked(&fs::read_to_string(root.join("Cargo.lock"))?);
    let note = root.join("target/bpf-sources.txt");
    fs::create_dir_all(root.join("target"))?;
    fs::write(&note, text)?;
    sha256(&note)
}

fn list(root: &Path, folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &path, into)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

/// The versions in `Cargo.lock` of `tracer-ebpf`'s dependencies, transitively: an update of the screen library does not
/// make the kernel programs stale.
fn locked(lock: &str) -> String {
    let packages: Vec<&str> = lock.split("[[package]]").skip(1).collect();
    let field = |package: &str, key: &str| -> String {
        let line = package.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
        line.unwrap_or_default().trim_end_matches('"').to_owned()
    };
    let mut wanted = vec!["tracer-ebpf".to_owned()];
    let mut at = 0;
    let mut text = String::new();
    while let Some(name) = wanted.get(at).cloned() {
        at += 1;
        for package in packages.iter().filter(|package| field(package, "name") == name) {
            let sum = field(package, "checksum");
            text.extend([&name, " ", &field(package, "version"), " ", &sum, "\n"]);
            for line in package.lines().filter(|line| line.starts_with(" \"")) {
                // `"name"` or `"name version"`.
                let needed = line.trim_matches([' ', '"', ',']);
                let needed = needed.split(' ').next().unwrap_or(needed).to_owned();
                // The kernel side does not enable tracer-common's feature `user`, which depends on serde.
                if !wanted.contains(&needed) && !needed.starts_with("serde") {
                    wanted.push(needed);
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dependencies_of_the_kernel_programs_count() {
        let lock = "[[package]]\nname = \"tracer-ebpf\"\nversion = \"1\"\ndependencies = [\n \"a\",\n]\n\
            [[package]]\nname = \"a\"\nversion = \"2\"\nchecksum = \"c\"\n\
            [[package]]\nname = \"b\"\nversion = \"3\"\n";
        assert_eq!(locked(lock), "tracer-ebpf 1 \na 2 c\n");
    }
}
