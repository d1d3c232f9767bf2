//! Kernels for `test-vm`: the newest of each series that Debian offers, downloaded into `target/vm`, never installed.
//!
//! Does not download a kernel that is present; without a network, an older one is used.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{note, output, run, target_dir},
    suites::{Lists, Suite},
};

/// Kernels of one series.
#[derive(Debug)]
pub(crate) struct Series {
    /// Prefix of its releases.
    pub(crate) name: &'static str,
    /// Its suite, or `None` if the machine's own lists contain it.
    source: Option<Suite>,
    /// Prefix of the packages that contain its kernels.
    package: &'static str,
}

impl Series {
    /// Whether it is part of `test`, not only of `test-vm`.
    pub(crate) const fn is_always_tested(&self) -> bool {
        self.source.is_none()
    }
}

/// The series that leaktrace is tested on besides the host's kernel, oldest first: the minimum, Debian 12's own, the
/// next release's, and Debian's newest long-lived one.
pub(crate) const SERIES: [Series; 4] = [
    Series {
        name: "5.10",
        source: Some(Suite { archive: "Debian-Security", name: "bullseye-security main" }),
        package: "linux-image-",
    },
    Series { name: "6.1", source: None, package: "linux-image-" },
    Series { name: "6.12", source: None, package: "linux-image-" },
    Series {
        name: "7.2",
        // This suite keeps a series after `sid` has moved on to the next, and its list is small.
        source: Some(Suite { archive: "Debian", name: "trixie-backports main" }),
        // Since 7.2, the linux-image package contains no kernel.
        package: "linux-binary-",
    },
];

/// If set to 1, no virtual machine is started.
pub(crate) const NO_VM: &str = "LEAKTRACE_NO_VM";

/// Whether virtual machines are disabled.
pub(crate) fn disabled() -> bool {
    env::var_os(NO_VM).is_some_and(|value| value == "1")
}

/// Downloads the series that `test` needs.
pub(crate) fn fetch_always_tested() -> Result<()> {
    SERIES.iter().filter(|series| series.is_always_tested()).try_for_each(|series| {
        fetch(series).with_context(|| format!("help: {NO_VM}=1 skips virtual machines"))
    })
}

/// Downloads the newest kernel of a series, unless it is present.
pub(crate) fn fetch(series: &Series) -> Result<()> {
    fetch_newest(series).with_context(|| format!("no kernel {} for a virtual machine", series.name))
}

fn fetch_newest(series: &Series) -> Result<()> {
    let folder = target_dir().join("vm");
    fs::create_dir_all(&folder)?;
    let start = format!("vmlinuz-{}.", series.name);
    let is_there = fs::read_dir(&folder)?
        .flatten()
        .any(|one| one.file_name().to_string_lossy().starts_with(&start));
    let lists = match &series.source {
        None => Lists::of_the_machine(),
        Some(suite) => Lists::of(suite, &folder.join("apt").join(series.name))?,
    };
    let Err(error) = lists.update_own().and_then(|()| fetch_listed(series, &lists, &folder)) else {
        return Ok(());
    };
    if is_there {
        note(&format!(
            "kernel {}: using an older one, since the newest is not available: {error:#}",
            series.name
        ));
        return Ok(());
    }
    // The mirror may have dropped a package that an old list names.
    lists.update()?;
    fetch_listed(series, &lists, &folder)
}

/// Downloads the newest kernel in the lists, unless it is present.
fn fetch_listed(series: &Series, lists: &Lists, folder: &Path) -> Result<()> {
    let start = format!("{}{}.", series.package, series.name);
    let listed = output(lists.apt("apt-cache").args(["pkgnames", &start]))?;
    let package =
        newest_of(&listed, &start).context("the package lists have none of its series")?;
    let name = package.replacen(series.package, "vmlinuz-", 1);
    if folder.join(&name).exists() {
        return Ok(());
    }
    download(lists, &package, &name, folder)
}

/// The newest package with this prefix: the cloud kernel supports virtual machines, and is small.
fn newest_of(listed: &str, start: &str) -> Option<String> {
    let numbers = |name: &str| -> Vec<u32> {
        let parts = name.split(|sign: char| !sign.is_ascii_digit());
        parts.filter_map(|number| number.parse().ok()).collect()
    };
    listed
        .lines()
        .filter(|name| name.starts_with(start) && name.ends_with("-cloud-amd64"))
        .max_by_key(|name| numbers(name))
        .map(str::to_owned)
}

/// Downloads a package and keeps only its kernel, as `name`.
fn download(lists: &Lists, package: &str, name: &str, folder: &Path) -> Result<()> {
    let room = folder.join("package");
    if room.exists() {
        fs::remove_dir_all(&room)?;
    }
    fs::create_dir_all(&room)?;
    note(&format!("$ apt-get download {package}"));
    output(lists.apt("apt-get").args(["download", package]).current_dir(&room))?;
    let archive = fs::read_dir(&room)?.next().context("apt-get left nothing")??.path();
    let mut tar = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(&archive)
        .stdout(Stdio::piped())
        .spawn()
        .context("could not run `dpkg-deb`")?;
    let stream = tar.stdout.take().context("stdout is piped")?;
    let unpacked = run(Command::new("tar")
        .args(["--extract", "--directory"])
        .arg(&room)
        .args(["--wildcards", "*/vmlinuz*"])
        .stdin(stream));
    let status = tar.wait()?;
    unpacked?;
    if !status.success() {
        bail!("`{}` cannot be unpacked: {status}", archive.display());
    }
    fs::rename(unpacked_kernel(&room, name)?, folder.join(name))?;
    Ok(fs::remove_dir_all(&room)?)
}

/// Path of the kernel in a package: in `boot`, since 7.2 next to its modules.
fn unpacked_kernel(room: &Path, name: &str) -> Result<PathBuf> {
    let release = name.replacen("vmlinuz-", "", 1);
    [room.join("boot").join(name), room.join("usr/lib/modules").join(release).join("vmlinuz")]
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("the package has no `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::newest_of;

    #[test]
    fn the_newest_is_chosen_by_its_numbers_and_signed() {
        let listed = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64\n\
            linux-image-6.1.0-60-cloud-amd64-unsigned\nlinux-image-6.1.0-61-amd64\n\
            linux-image-6.12.117+deb12-cloud-amd64\nlinux-image-6.12.9+deb12-cloud-amd64";
        let newest = |start| newest_of(listed, start);
        assert_eq!(newest("linux-image-6.1.").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(
            newest("linux-image-6.12.").as_deref(),
            Some("linux-image-6.12.117+deb12-cloud-amd64")
        );
        assert_eq!(newest("linux-image-5.10."), None);
    }
}
