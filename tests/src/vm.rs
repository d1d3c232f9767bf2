//! Another kernel, in a virtual machine without hardware support, with leaktrace and victims in it.
//!
//! Takes a kernel that `cargo xtask test-vm` has fetched and test cases; passes on the results of each case. The guest
//! only runs them (`tests/vm/init.sh`); the host checks the results, with the same comparisons as for its own kernel.

mod image;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{Report, child::Running, target_dir};

/// If set to 1, the tests on other kernels are skipped and report that.
pub const NO_VM: &str = "LEAKTRACE_NO_VM";

/// Time limit from power on to power off. Without hardware support it took 10 to 27 s with a release build of leaktrace
/// and 40 to 105 s with a debug build, on two processors that other processes used, too; more than 300 s on busy ones.
const LIMIT: Duration = Duration::from_secs(600);

/// The guest's last line of output.
const DONE: &str = "all cases done";

/// Memory of the guest, in qemu's notation: enough for leaktrace's maps and for the files, which are in memory.
const MEMORY: &str = "1024M";

/// Checks the results of a case; returns a summary, or an error that says what differs.
pub type Check = Box<dyn Fn(&Results, &Guest) -> Result<String>>;

/// A row of a table of cases: what the guest runs, and the check of its results.
pub struct Case {
    /// Name of its folder.
    pub name: String,
    /// What the case shows, for messages.
    pub what: String,
    /// What the guest runs.
    pub action: Action,
    /// Checks the results.
    pub check: Check,
}

/// What the guest runs.
#[derive(Debug, Clone)]
pub enum Action {
    /// `leaktrace doctor` about the host.
    Doctor,
    /// leaktrace on a victim.
    Trace {
        /// Name of the victim and its arguments.
        victim: Vec<&'static str>,
        /// Number of lines that it prints after `ready` until its work is done.
        lines: usize,
        /// Options of leaktrace, separated by spaces.
        options: String,
    },
}

/// The kernel of a guest.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its release, as in the name of the kernel's file.
    pub release: String,
    /// Major and minor version.
    pub version: (u32, u32),
}

/// Runs all `cases` on the newest kernel of a `series` such as `6.1`, and reports all failures. `name` names this set
/// of cases.
#[expect(clippy::print_stdout, reason = "results on other kernels are for people to read")]
pub fn check_all(series: &str, name: &str, cases: &[Case]) -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let Finished { folder, guest } = boot(series, name, cases)?;
    let mut faults = Vec::new();
    for Case { name, what, check, .. } in cases {
        let results = Results { folder: folder.join(name) };
        match check(&results, &guest) {
            Ok(detail) => println!("{}: {what}: ok, {detail}", guest.release),
            Err(error) => faults.push(format!("{what}: {error:#}")),
        }
    }
    if !faults.is_empty() {
        bail!("on {}:\n{}", guest.release, faults.join("\n"));
    }
    Ok(())
}

/// Returns `true` to go on; `false` if the environment asks to skip the test, which is printed.
#[expect(clippy::print_stdout, reason = "this is the test's own outcome")]
fn wanted() -> bool {
    if std::env::var_os(NO_VM).is_some_and(|value| value == "1") {
        println!("skipped: {NO_VM}=1, other kernels were not tried");
        return false;
    }
    true
}

/// The results of a guest.
struct Finished {
    folder: PathBuf,
    guest: Guest,
}

/// The results of one case.
#[derive(Debug)]
pub struct Results {
    folder: PathBuf,
}

/// Boots the newest kernel of a `series` such as `6.1`, has it run all cases, and waits until it has ended.
fn boot(series: &str, name: &str, cases: &[Case]) -> Result<Finished> {
    let (kernel, release) = kernel(series)?;
    let folder = target_dir().join("vm").join(series).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let left = folder.join("left");
    fs::create_dir_all(&left)?;
    let image = image::make(&folder, cases)?;
    let (console, archive) = (folder.join("console.log"), folder.join("left.tar"));
    let file = |path: &Path| format!("file:{}", path.display());
    let mut machine = Running::start(
        Command::new("qemu-system-x86_64")
            // Emulates both processors in one thread: with a thread each, one boot of five ended in an `Oops: int3`
            // where the guest's kernel patches itself; with one thread, none of a dozen did (qemu 7.2).
            .args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", MEMORY])
            .args(["-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"])
            .args(["-serial", &file(&console), "-serial", &file(&archive)])
            // A panic ends the guest, as a restart.
            .args(["-append", "console=ttyS0 quiet panic=-1", "-kernel"])
            .arg(kernel)
            .arg("-initrd")
            .arg(image),
    )
    .context("no virtual machine; help: cargo xtask packages installs qemu-system-x86")?;
    let said = || String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
    // Killed by its pid when it is dropped, if it has not ended.
    let status = machine.wait(LIMIT).with_context(|| format!("its console:\n{}", said()))?;
    if !status.success() {
        bail!("{status}: {}\n{}", machine.rest_of_stderr().join("\n"), said());
    }
    let unpacked = Command::new("tar")
        // Each case is an archive of its own.
        .args(["--extract", "--ignore-zeros", "--file"])
        .arg(&archive)
        .arg("--directory")
        .arg(&left)
        .status()?;
    if !unpacked.success() {
        bail!("`{}` cannot be unpacked; the console:\n{}", archive.display(), said());
    }
    let said = said();
    if !said.contains(DONE) {
        bail!("the guest's kernel {release} ended before the last case:\n{said}");
    }
    Ok(Finished { folder: left, guest: Guest { version: version(series)?, release } })
}

/// The newest fetched kernel of a series, and its release.
fn kernel(series: &str) -> Result<(PathBuf, String)> {
    let folder = target_dir().join("vm");
    let start = format!("vmlinuz-{series}.");
    let mut found: Vec<(Vec<u32>, String)> = Vec::new();
    for entry in fs::read_dir(&folder).into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&start) {
            let numbers = name.split(|sign: char| !sign.is_ascii_digit());
            found.push((numbers.filter_map(|number| number.parse().ok()).collect(), name));
        }
    }
    let (_, name) = found.into_iter().max().with_context(|| {
        format!(
            "no kernel {series} in `{}`; help: cargo xtask test-vm --kernel {series} fetches it; {NO_VM}=1 skips \
             it",
            folder.display()
        )
    })?;
    let release = name.trim_start_matches("vmlinuz-").to_owned();
    Ok((folder.join(name), release))
}

/// A series as two numbers.
fn version(series: &str) -> Result<(u32, u32)> {
    let (major, minor) = series.split_once('.').context("two numbers")?;
    Ok((major.parse()?, minor.parse()?))
}

impl Results {
    fn text(&self, name: &str) -> Result<String> {
        if !self.folder.is_dir() {
            bail!("the guest did not come to `{}`", self.folder.display());
        }
        let path = self.folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("the guest left no `{}`", path.display()))
    }

    fn number(&self, name: &str) -> Result<i32> {
        let text = self.text(name)?;
        text.trim().parse().with_context(|| format!("`{name}` is `{text}`"))
    }

    /// leaktrace's exit status.
    pub fn status(&self) -> Result<i32> {
        self.number("status")
    }

    /// leaktrace's stderr.
    pub fn said(&self) -> Result<String> {
        self.text("said")
    }

    /// The victim's exit status: 128 plus the signal, if a signal ended it.
    pub fn victim_status(&self) -> Result<i32> {
        self.number("victim_status")
    }

    /// The victim's output after `ready`.
    pub fn victim_lines(&self) -> Result<Vec<String>> {
        Ok(self.text("victim")?.lines().skip(1).map(str::to_owned).collect())
    }

    /// The output of `leaktrace doctor`, and its exit status.
    pub fn doctor(&self) -> Result<(String, i32)> {
        Ok((self.text("doctor")?, self.number("doctor_status")?))
    }

    /// The report of a run that succeeded; otherwise, the error contains leaktrace's messages, and what its threads were
    /// waiting for if it did not end.
    pub fn report(&self) -> Result<Report> {
        let status = self.status()?;
        if status != 0 {
            let stuck = self.text("stuck").unwrap_or_default();
            bail!("leaktrace ended with status {status}:\n{}\n{stuck}", self.said()?);
        }
        Report::read(&self.folder.join("report.json"))
    }
}
