//! `test-libcs`: the heap of the C libraries of other Debian releases, downloaded into `target/libcs`, never installed.
//!
//! Unpacks the packages of each release; the tests `reads_other_libcs` start programs with its dynamic linker.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    each, nextest,
    process::{build_leaktrace, note, output, run as run_command, target_dir},
    suites::{Lists, Suite},
};

/// A release whose C library is tested.
#[derive(Debug)]
struct Release {
    name: &'static str,
    suite: Suite,
    /// What of it is needed: to run programs, and to link those that this machine's library is too new for.
    packages: &'static [&'static str],
}

const fn debian(name: &'static str) -> Suite {
    Suite { archive: "Debian", name }
}

/// The releases, oldest first: with plain links in caches, the next one, and the newest there is.
const RELEASES: [Release; 3] = [
    Release {
        name: "bullseye",
        suite: debian("bullseye main"),
        packages: &["libc6", "libc6-dev", "linux-libc-dev"],
    },
    Release { name: "trixie", suite: debian("trixie main"), packages: &["libc6"] },
    Release { name: "sid", suite: debian("sid main"), packages: &["libc6"] },
];

/// Tests one release, or all, and prints a line for each.
pub(crate) fn run(wanted: &str) -> Result<()> {
    let chosen = each::choose("release", &RELEASES, |one| one.name, wanted)?;
    nextest::install()?;
    build_leaktrace()?;
    each::test("release", &chosen, |one| one.name.to_owned(), test)
}

fn test(release: &Release) -> Result<String> {
    let version = fetch(release)?;
    let filter = format!("binary(reads_other_libcs) & test(/_{}$/)", release.name);
    ensure!(nextest::run(&filter, &["--run-ignored", "all"])?.passed, "tests failed");
    Ok(format!("{}, glibc {version}", release.name))
}

/// Downloads and unpacks the newest packages of a release; returns the C library's version.
fn fetch(release: &Release) -> Result<String> {
    let folder = target_dir().join("libcs").join(release.name);
    let lists = Lists::of(&release.suite, &folder.join("apt"))?;
    lists.update_own()?;
    let (packages, root) = (folder.join("packages"), folder.join("root"));
    for folder in [&packages, &root] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    note(&format!("$ apt-get download {}", release.packages.join(" ")));
    output(lists.apt("apt-get").arg("download").args(release.packages).current_dir(&packages))?;
    let mut version = None;
    for package in fs::read_dir(&packages)? {
        let path = package?.path();
        run_command(Command::new("dpkg-deb").arg("--extract").args([&path, &root]))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        version = version.or(name.strip_prefix("libc6_").map(str::to_owned));
    }
    // Links to absolute paths would lead out of it.
    let linker = linker(&root)?;
    let link = root.join("lib64/ld-linux-x86-64.so.2");
    fs::create_dir_all(root.join("lib64"))?;
    drop(fs::remove_file(&link));
    std::os::unix::fs::symlink(linker, link)?;
    let version = version.context("apt-get left no libc6")?;
    Ok(version.split(['-', '_']).next().unwrap_or_default().to_owned())
}

/// The dynamic linker's own file.
fn linker(root: &Path) -> Result<PathBuf> {
    let folders = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|one| root.join(one));
    let files = folders.iter().flat_map(fs::read_dir).flatten().flatten();
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ld-") && name.contains(".so") && path.is_file() && !path.is_symlink()
    };
    files.map(|file| file.path()).find(is_it).context("libc6 has no dynamic linker")
}
