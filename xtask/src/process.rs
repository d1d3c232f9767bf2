//! Runs programs and prints: helpers of all commands.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints; only here")]

use std::{
    env,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Prints to stdout.
pub(crate) fn print(text: &str) {
    println!("{text}");
}

/// Prints to stderr.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// The root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The build's target directory.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), |folder| workspace().join(folder))
}

/// Path of leaktrace: `LEAKTRACE_BIN`, else the release build.
pub(crate) fn leaktrace() -> PathBuf {
    env::var_os("LEAKTRACE_BIN")
        .map_or_else(|| target_dir().join("release/leaktrace"), PathBuf::from)
}

/// Builds leaktrace, unless `LEAKTRACE_BIN` names one.
pub(crate) fn build_leaktrace() -> Result<()> {
    if env::var_os("LEAKTRACE_BIN").is_some() {
        return Ok(());
    }
    run(cargo().args(["build", "--release", "--package", "leaktrace"]))
}

/// Path of `churn` for the tests: its debug build shares the libraries that the tests' own build has compiled.
pub(crate) fn churn() -> PathBuf {
    target_dir().join("debug/churn")
}

/// Builds `churn` for the tests.
pub(crate) fn build_churn() -> Result<()> {
    run(cargo().args(["build", "--package", "churn"]))
}

/// The cargo that runs this, ready to run again.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Variables that cargo sets for this package: build scripts that depend on them (ring's) would all run again.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Prints the command and runs it in the workspace; a nonzero exit status is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    note(&format!("$ {line}"));
    let status = command
        .current_dir(workspace())
        .status()
        .with_context(|| format!("could not run `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs a program of the workspace in place of this one: signals reach it directly, and its exit status is this command's.
/// `program` are the options of `cargo run` that choose it. Returns only if it cannot be run.
pub(crate) fn exec(program: &[&str], options: &[&str]) -> Result<()> {
    let manifest = workspace().join("Cargo.toml");
    let mut command = cargo();
    command.args(["run", "--quiet"]).args(program).arg("--manifest-path").arg(manifest);
    let error = command.arg("--").args(options).exec();
    Err(error).with_context(|| format!("could not run `cargo run {}`", program.join(" ")))
}

/// Whether the options only ask for help: then nothing needs to be built for the program to use.
pub(crate) fn asks_for_help(options: &[&str]) -> bool {
    options.iter().any(|option| ["-h", "--help"].contains(option))
}

/// Returns a program's stdout; a nonzero exit status is an error that contains its stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line_of(command);
    let output = command.output().with_context(|| format!("could not run `{line}`"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}\n{}", output.status, text.trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn line_of(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether a program is in the PATH.
pub(crate) fn exists(program: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0")
}

/// A child that is ended by its own pid when dropped.
#[derive(Debug)]
pub(crate) struct Background {
    child: Child,
}

impl Background {
    /// Starts it with piped stdin and stdout, and stderr as given.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let line = line_of(command);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start `{line}`"))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its stdin and stdout.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its stdout, line by line; may be taken only once.
    pub(crate) fn lines(&mut self) -> Result<std::io::Lines<BufReader<std::process::ChildStdout>>> {
        Ok(BufReader::new(self.child.stdout.take().context("stdout is already taken")?).lines())
    }

    /// Sends a signal to its pid that asks it to end.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        // The shell's builtin `kill`: a minimal image has no other.
        output(Command::new("sh").args(["-c", &format!("kill -{name} {}", self.pid())])).map(drop)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
