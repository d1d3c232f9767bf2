//! Shows a pipeline's reports on the screen until the user quits.
//!
//! Takes a running pipeline, passes on nothing: a key may replace the pipeline of light tracing by one of full tracing.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::watch;

use super::{
    mode_switch::{self, Switch},
    pipeline::Pipeline,
};
use crate::{
    error,
    output::Output,
    preflight::Facts,
    report::{
        Report,
        export::{Options, json},
    },
    settings::Settings,
    suppressions::Suppressions,
    tape::TapeWriter,
    tui::{Actions, Leave, Screen},
};

/// How long a signal may arrive after the error that has the same cause.
const PATIENCE: Duration = Duration::from_millis(100);

/// Shows the pipeline's reports until the user quits or `end` completes.
pub(super) async fn show(
    settings: &Settings,
    facts: &Facts,
    pipeline: &mut Pipeline,
    tape: Option<&Arc<TapeWriter>>,
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    const TERMINAL: &str = "could not use the terminal";
    let mut screen = Screen::enter().context(TERMINAL)?;
    if let Some(path) = pipeline.command_output() {
        screen.remark(&format!("the command's output goes to {}", path.display()));
    }
    let mut switch = None;
    tokio::pin!(end);
    loop {
        let mut files = Files::new(&settings.new_suppressions, pipeline.suppressions());
        tokio::select! {
            left = screen.show(pipeline.reports(), &mut files) => match left {
                Err(error) => {
                    // A closed terminal causes an error and a signal, in any order.
                    let hung_up = tokio::time::timeout(PATIENCE, &mut end).await.is_ok();
                    return if hung_up { Ok(()) } else { Err(error).context(TERMINAL) };
                }
                Ok(Leave::Quit) => return Ok(()),
                Ok(Leave::Full) => match mode_switch::begin(settings, facts, pipeline, tape) {
                    Ok(begun) => {
                        switch = Some(begun);
                        screen.show_switching();
                    }
                    Err(error) => screen.stay(&error::line(&error)),
                },
            },
            full = Switch::finished(&mut switch) => match full {
                Ok(full) => {
                    mode_switch::retire(std::mem::replace(pipeline, full));
                    screen.reset();
                }
                Err(error) => screen.stay(&error::line(&error)),
            },
            () = &mut end => return Ok(()),
        }
    }
}

/// The files that keys of the screen write.
#[derive(Debug)]
pub(super) struct Files {
    /// Where suppressions go.
    suppressions: PathBuf,
    /// The findings that the reporter hides.
    hidden: watch::Sender<Suppressions>,
}

impl Files {
    /// New suppressions go to this file, and to the reporter.
    pub(super) fn new(suppressions: &Path, hidden: watch::Sender<Suppressions>) -> Self {
        Self { suppressions: suppressions.to_owned(), hidden }
    }
}

impl Actions for Files {
    fn save(&mut self, report: &Report) -> Result<PathBuf, String> {
        save(report)
    }

    fn suppress(&mut self, line: &str) -> Result<PathBuf, String> {
        let path = &self.suppressions;
        append(path, line)
            .map_err(|error| format!("could not append to `{}`: {error}", path.display()))?;
        // The line is in the file, whatever it is worth.
        let more = Suppressions::parse(line)
            .map_err(|bad| format!("could not apply the suppression `{line}`: {}", bad.why))?;
        self.hidden.send_modify(|all| all.append(more));
        Ok(path.clone())
    }
}

/// Appends a line to a text file, unless it has it.
fn append(path: &Path, line: &str) -> io::Result<()> {
    // Reading a pipe would wait for its writer.
    let before = match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(_) => fs::read(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    if before.split(|byte| *byte == b'\n').any(|old| old.trim_ascii() == line.as_bytes()) {
        return Ok(());
    }
    // The last line of a file that people edit may lack its end.
    let begin = if before.last().is_some_and(|last| *last != b'\n') { "\n" } else { "" };
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("{begin}{line}\n").as_bytes())
}

/// Saves the report that the screen shows in the current directory; returns its whole path.
fn save(report: &Report) -> Result<PathBuf, String> {
    let folder = env::current_dir()
        .map_err(|error| format!("could not find the current directory: {error}; {ELSEWHERE}"))?;
    save_in(&folder, report)
}

/// What a user can do if the current directory does not take a file.
const ELSEWHERE: &str = "start leaktrace in a directory that takes files, or use -f json -o FILE";

fn save_in(folder: &Path, report: &Report) -> Result<PathBuf, String> {
    let pid = report.targets.first().map_or(0, |target| target.pid);
    let seconds = report.window.duration_s.max(0.0);
    let name = format!("leaktrace-{pid}-{seconds:.0}s.json");
    let mut bytes = Vec::new();
    json::write(report, &Options::default(), &mut bytes).map_err(|error| error.to_string())?;
    let path = folder.join(name);
    let output = Output::prepare(Some(&path), false)
        .map_err(|failure| format!("{}; {ELSEWHERE}", error::line(&failure.into())))?;
    output.deliver(&bytes).map_err(|failure| {
        let help = failure.help().unwrap_or_else(|| ELSEWHERE.to_owned());
        format!("{}; {help}", error::line(&failure.into()))
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::{Actions as _, Files, append, save_in};
    use crate::{report::fixtures, suppressions::Suppressions};

    #[test]
    fn a_saved_report_has_its_whole_path_and_a_failure_says_what_to_do() {
        let folder = std::env::temp_dir().join(format!("leaktrace-save-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = save_in(&folder, &fixtures::sample()).unwrap();
        assert!(path.is_absolute() && path.starts_with(&folder));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"schema\""));
        std::fs::remove_dir_all(&folder).unwrap();
        // Nobody can create a file there, root neither.
        let error = save_in(std::path::Path::new("/proc"), &fixtures::sample()).unwrap_err();
        assert!(error.starts_with("could not open `/proc/leaktrace-"), "{error}");
        assert!(
            error.contains(": No such file or directory") || error.contains("denied"),
            "{error}"
        );
        assert!(error.ends_with("or use -f json -o FILE"), "{error}");
    }

    #[test]
    fn a_suppression_is_one_line_at_the_end_and_is_not_repeated() {
        let folder = std::env::temp_dir().join(format!("leaktrace-append-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("known.supp");
        append(&path, "leak:arena_grow").unwrap();
        std::fs::write(&path, "# known\nleak:arena_grow").unwrap();
        append(&path, "leak:arena_grow").unwrap();
        append(&path, "leak:make_session(int)").unwrap();
        append(&path, "leak:make_session(int)").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "# known\nleak:arena_grow\nleak:make_session(int)\n");
        assert!(append(&folder, "leak:x").is_err(), "a folder is no file of suppressions");
        // The reporter has it at once.
        let (hidden, reporter) = watch::channel(Suppressions::parse("leak:arena_grow").unwrap());
        assert_eq!(Files::new(&path, hidden).suppress("leak:^f$").unwrap(), path);
        let both = Suppressions::parse("leak:arena_grow\nleak:^f$").unwrap();
        assert_eq!(*reporter.borrow(), both);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
