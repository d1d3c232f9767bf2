//! The heap of the C libraries of other Debian releases: a census is exact, block by block and in its sums, and every
//! outstanding block of a trace is verified. `cargo xtask test-libcs` downloads the libraries.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Trace, Victim, census::Census, compile, target_dir};

/// An unpacked release.
struct Release {
    root: PathBuf,
}

impl Release {
    fn named(name: &str) -> Result<Self> {
        let root = target_dir().join("libcs").join(name).join("root");
        ensure!(
            root.is_dir(),
            "{} is missing\nhelp: cargo xtask test-libcs {name}",
            root.display()
        );
        Ok(Self { root })
    }

    /// The folder of its libraries, where its dynamic linker is.
    fn libraries(&self) -> Result<PathBuf> {
        let folders = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
        let mut paths = folders.iter().map(|folder| self.root.join(folder));
        paths.find(|path| path.join("libc.so.6").exists()).context("no libc.so.6")
    }

    /// Starts a program, with this C library instead of the machine's.
    fn start(&self, program: &Path, arguments: &[&str]) -> Result<Victim> {
        let mut linker = Command::new(self.root.join("lib64/ld-linux-x86-64.so.2"));
        linker.arg("--library-path").arg(self.libraries()?).arg(program).args(arguments);
        Victim::start_command(&mut linker)
    }

    /// The victim, linked with this C library: it may be older than the machine's.
    fn old_victim(&self, name: &str) -> Result<PathBuf> {
        let (root, libraries) = (self.root.display(), self.libraries()?);
        let folder = format!("{root}/usr/lib/x86_64-linux-gnu");
        let flags = [
            "-Dmallinfo2=mallinfo".to_owned(),
            format!("--sysroot={root}"),
            format!("-B{folder}"),
            format!("-L{folder}"),
            format!("-L{}", libraries.display()),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let threads = libraries.join("libpthread.so.0").display().to_string();
        compile::victim_by("gcc", name, &format!("{name}_old"), &flags, &[&threads])
    }
}

/// What eight threads hold is what a census finds, by the C library's own sums too, and what a trace verifies.
fn holds(release: &Release, program: &Path) -> Result<()> {
    let mut victim = release.start(program, &["5000"])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "heap"])?;
    victim.go()?;
    let truth = victim.answer()?;
    let census = Census::take(victim.pid(), &[])?;
    let held = census.contains_all(&truth)?;
    // Per thread: its cache, and the table of its thread-local storage; and what the dynamic linker holds.
    let others = census.blocks.len() - held.len();
    assert!(others <= 3 * 9, "{others} other blocks");
    assert_eq!(census.doubts(), &Value::Array(Vec::new()));
    census.sums_equal(&truth)?;

    let report = trace.stop()?;
    let number = |path: &str| report.at(path).map(Value::as_u64);
    let outstanding = number("/totals/heap/outstanding_count")?;
    assert!(outstanding >= Some(held.len() as u64), "{outstanding:?} of {}", held.len());
    assert_eq!(number("/accounting/verified/blocks")?, outstanding);
    assert_eq!(number("/accounting/verified/missed_releases")?, Some(0));
    assert_eq!(report.lost_by_target()?, "");
    victim.exit()
}

#[test]
#[ignore = "only when asked for: cargo xtask test-libcs"]
fn the_heap_of_bullseye() -> Result<()> {
    let release = Release::named("bullseye")?;
    holds(&release, &release.old_victim("heap_state")?)
}

#[test]
#[ignore = "only when asked for: cargo xtask test-libcs"]
fn the_heap_of_trixie() -> Result<()> {
    holds(&Release::named("trixie")?, &compile::victim("heap_state")?)
}

#[test]
#[ignore = "only when asked for: cargo xtask test-libcs"]
fn the_heap_of_sid() -> Result<()> {
    holds(&Release::named("sid")?, &compile::victim("heap_state")?)
}
