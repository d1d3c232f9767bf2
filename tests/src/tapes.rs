//! Tapes: records a run and replays it, as an ordinary user.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::{
    child::Running,
    trace::{Refusal, TRACING, leaktrace},
};

/// For a run, and for a replay, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// An ordinary user.
const NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// A folder that every user may read, wherever build products are; removed when dropped.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// A new one, with a copy of leaktrace.
    pub fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("leaktrace-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        let program = path.join("leaktrace");
        fs::copy(leaktrace()?, &program)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        Ok(Self(path))
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// Runs leaktrace as an ordinary user.
    pub fn run(&self, arguments: &[&str]) -> Result<Refusal> {
        Refusal::of_program(&[&NOBODY[..], &["env"]].concat(), &self.file("leaktrace"), arguments)
    }

    /// The report of a tape, made by an ordinary user.
    pub fn replay(&self, format: &str) -> Result<Vec<u8>> {
        let (tape, output) = (self.file("tape"), self.file("replayed"));
        let mode = fs::metadata(&tape)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "a tape with mode {mode:o}");
        fs::set_permissions(&tape, Permissions::from_mode(0o644))?;
        // The user may write this one file.
        fs::write(&output, "")?;
        fs::set_permissions(&output, Permissions::from_mode(0o666))?;
        let run = self.run(&["replay", &tape, "-f", format, "-o", &output])?;
        ensure!(run.code == Some(0) && run.stderr.is_empty(), "{run:?}");
        Ok(fs::read(&output)?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Records a run, which ends after `work`, or with its command. Returns the report of the live run.
pub fn record(
    folder: &Folder,
    arguments: &[&str],
    format: &str,
    work: impl FnOnce() -> Result<()>,
) -> Result<Vec<u8>> {
    let (live, tape) = (folder.file("live"), folder.file("tape"));
    let record = ["-f", format, "-o", &live, "--record", &tape];
    let mut running = Running::start(Command::new(leaktrace()?).args(record).args(arguments))?;
    running.stderr_line(TRACING, LIMIT)?;
    work()?;
    // With a command, leaktrace ends by itself.
    if !arguments.contains(&"--") {
        running.signal("INT")?;
    }
    let status = running.wait(LIMIT)?;
    ensure!(status.success(), "{status}: {:?}", running.rest_of_stderr());
    Ok(fs::read(live)?)
}

/// Fails unless the two are equal; names the first lines that differ.
pub fn same(live: &[u8], replayed: &[u8]) -> Result<()> {
    if live == replayed {
        return Ok(());
    }
    let lines = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (live, replayed) = (lines(live), lines(replayed));
    let differ = live.iter().zip(&replayed).filter(|(live, replayed)| live != replayed);
    let differ: Vec<_> = differ.take(5).collect();
    anyhow::bail!("{} and {} lines; the first that differ: {differ:#?}", live.len(), replayed.len())
}
