//! Kernels for `vm`: the newest of each series that Debian has, fetched into `target/vm`, never installed.
//!
//! What is there already is not fetched again; without a network, what is there has to do.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    packages::update_lists,
    process::{note, output, run, target_dir},
};

/// The series that leaktrace is tried on besides the host's kernel: Debian 12's own, and the next one's.
/// They are the oldest at hand; attach cookies came with 5.15.
pub(crate) const SERIES: [&str; 2] = ["6.1", "6.12"];

/// Set to 1, there are no virtual machines.
pub(crate) const NO_VM: &str = "LEAKTRACE_NO_VM";

/// Whether there are to be no virtual machines.
pub(crate) fn unwanted() -> bool {
    env::var_os(NO_VM).is_some_and(|value| value == "1")
}

/// Fetches those of all series.
pub(crate) fn fetch_all() -> Result<()> {
    SERIES.into_iter().try_for_each(|series| {
        fetch(series).with_context(|| {
            format!("no kernel {series} for a virtual machine\nhelp: {NO_VM}=1 goes without")
        })
    })
}

fn fetch(series: &str) -> Result<()> {
    let folder = target_dir().join("vm");
    fs::create_dir_all(&folder)?;
    let start = file(&start(series));
    let is_there = fs::read_dir(&folder)?
        .flatten()
        .any(|one| one.file_name().to_string_lossy().starts_with(&start));
    let Err(error) = fetch_listed(series, &folder) else { return Ok(()) };
    if is_there {
        note(&format!(
            "kernel {series}: an older one has to do, the newest cannot be had: {error:#}"
        ));
        return Ok(());
    }
    // The mirror may have dropped what an old list names.
    update_lists()?;
    fetch_listed(series, &folder)
}

/// Fetches the newest that the lists have, unless it is there.
fn fetch_listed(series: &str, folder: &Path) -> Result<()> {
    let package = newest(series)?.context("the package lists have none of its series")?;
    if folder.join(file(&package)).exists() {
        return Ok(());
    }
    download(&package, folder)
}

/// Name of the file that a package's kernel is, in the package and in `target/vm`.
fn file(package: &str) -> String {
    package.replacen("linux-image-", "vmlinuz-", 1)
}

/// The newest package of a series: the kernel for clouds has what a virtual machine has, and is small.
fn newest(series: &str) -> Result<Option<String>> {
    let listed = output(Command::new("apt-cache").args(["pkgnames", &start(series)]))?;
    Ok(newest_of(&listed, series))
}

fn start(series: &str) -> String {
    format!("linux-image-{series}.")
}

fn newest_of(listed: &str, series: &str) -> Option<String> {
    let numbers = |name: &str| -> Vec<u32> {
        let parts = name.split(|sign: char| !sign.is_ascii_digit());
        parts.filter_map(|number| number.parse().ok()).collect()
    };
    listed
        .lines()
        .filter(|name| name.starts_with(&start(series)) && name.ends_with("-cloud-amd64"))
        .max_by_key(|name| numbers(name))
        .map(str::to_owned)
}

/// Downloads a package and keeps of it the kernel alone.
fn download(package: &str, folder: &Path) -> Result<()> {
    let room = folder.join("package");
    if room.exists() {
        fs::remove_dir_all(&room)?;
    }
    fs::create_dir_all(&room)?;
    note(&format!("$ apt-get download {package}"));
    output(Command::new("apt-get").args(["download", package]).current_dir(&room))?;
    let archive = fs::read_dir(&room)?.next().context("apt-get left nothing")??.path();
    let name = file(package);
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
        .arg(format!("./boot/{name}"))
        .stdin(stream));
    let status = tar.wait()?;
    unpacked?;
    if !status.success() {
        bail!("`{}` cannot be unpacked: {status}", archive.display());
    }
    fs::rename(room.join("boot").join(&name), folder.join(&name))?;
    Ok(fs::remove_dir_all(&room)?)
}

#[cfg(test)]
mod tests {
    use super::newest_of;

    #[test]
    fn the_newest_is_told_by_its_numbers_and_signed() {
        let listed = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64\n\
            linux-image-6.1.0-60-cloud-amd64-unsigned\nlinux-image-6.1.0-61-amd64\n\
            linux-image-6.12.117+deb12-cloud-amd64\nlinux-image-6.12.9+deb12-cloud-amd64";
        let newest = |series| newest_of(listed, series);
        assert_eq!(newest("6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(newest("6.12").as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(newest("5.10"), None);
    }
}
