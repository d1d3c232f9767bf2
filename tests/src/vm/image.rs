//! The guest's files: busybox, leaktrace, victims, the libraries they load, and the cases to run.
//!
//! Takes cases, passes on a cpio archive that the kernel unpacks into its first file system.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{Action, Case, DONE};
use crate::{compile, trace};

/// The script of the guest: functions first; each case appends a line that calls one.
const INIT: &str = include_str!("../../vm/init.sh");

/// Mount points of the guest.
const MOUNTED: [&str; 4] = ["proc", "sys", "dev", "tmp"];

/// Creates the archive in `folder`.
pub(super) fn make(folder: &Path, cases: &[Case]) -> Result<PathBuf> {
    let root = folder.join("root");
    for name in MOUNTED {
        fs::create_dir_all(root.join(name))?;
    }
    let mut init = INIT.to_owned();
    let mut programs = BTreeSet::new();
    for Case { name, action, .. } in cases {
        match action {
            Action::Doctor => writeln!(init, "ask_doctor {name}")?,
            Action::Trace { victim, lines, options } => {
                let (program, arguments) = victim.split_first().context("a victim")?;
                programs.insert(*program);
                let arguments = arguments.join(" ");
                writeln!(init, "trace {name} '{options}' {lines} {program} {arguments}")?;
            }
        }
    }
    writeln!(init, "echo {DONE}\npoweroff -f")?;
    put(&root, Path::new("/bin/busybox"), Path::new("/bin/busybox"))
        .context("help: cargo xtask packages installs busybox-static")?;
    let leaktrace = folder.join("leaktrace");
    // Half of a debug build is debug information, which would only use the guest's memory.
    run(Command::new("objcopy").arg("--strip-debug").arg(trace::leaktrace()?).arg(&leaktrace))?;
    put_with_libraries(&root, &leaktrace, Path::new("/bin/leaktrace"))?;
    for name in programs {
        put_with_libraries(&root, &compile::victim(name)?, &Path::new("/bin").join(name))?;
    }
    let start = root.join("init");
    fs::write(&start, init)?;
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755))?;
    let image = folder.join("image.cpio");
    let pack = "find . | cpio --quiet --create --format=newc >\"$0\"";
    run(Command::new("sh").args(["-c", pack]).arg(&image).current_dir(&root))?;
    Ok(image)
}

/// Copies a program and the libraries that it is linked with, which keep their paths.
fn put_with_libraries(root: &Path, program: &Path, inside: &Path) -> Result<()> {
    put(root, program, inside)?;
    for line in run(Command::new("ldd").arg(program))?.lines() {
        // `libc.so.6 => /lib/… (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`, `linux-vdso.so.1 (0x…)`
        if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
            put(root, Path::new(path), Path::new(path))?;
        }
    }
    Ok(())
}

fn put(root: &Path, file: &Path, inside: &Path) -> Result<()> {
    let to = root.join(inside.strip_prefix("/")?);
    fs::create_dir_all(to.parent().context("a folder")?)?;
    fs::copy(file, &to).with_context(|| format!("could not copy `{}`", file.display()))?;
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("could not run {command:?}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed: {}\n{}", output.status, text.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
