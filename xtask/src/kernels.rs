//! Kernels for `test-vm`: the newest of each series that Debian offers, downloaded into `target/vm`, never installed.
//!
//! Does not download a kernel that is present; without a network, an older one is used. Series that the machine's
//! package lists lack come from lists of our own, whose signatures apt checks as usual: the machine's configuration
//! stays unchanged.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    packages::update_lists,
    process::{note, output, run, target_dir},
};

/// Kernels of one series.
#[derive(Debug)]
pub(crate) struct Series {
    /// Prefix of its releases.
    pub(crate) name: &'static str,
    /// Its suite, or `None` if the machine's own lists contain it.
    source: Option<Source>,
    /// Prefix of the packages that contain its kernels.
    package: &'static str,
}

/// A suite that the machine's own lists lack, of an archive that they contain.
#[derive(Debug)]
struct Source {
    /// The label of the archive's suites.
    archive: &'static str,
    /// The suite, and the component.
    suite: &'static str,
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
        source: Some(Source { archive: "Debian-Security", suite: "bullseye-security main" }),
        package: "linux-image-",
    },
    Series { name: "6.1", source: None, package: "linux-image-" },
    Series { name: "6.12", source: None, package: "linux-image-" },
    Series {
        name: "7.2",
        // This suite keeps a series after `sid` has moved on to the next, and its list is small.
        source: Some(Source { archive: "Debian", suite: "trixie-backports main" }),
        // Since 7.2, the linux-image package contains no kernel.
        package: "linux-binary-",
    },
];

/// The keys that Debian signs its lists with.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

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
    let lists = Lists::of(series, &folder)?;
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

/// Package lists: the machine's, or our own.
struct Lists {
    /// Options that restrict apt to our own folders.
    options: Vec<String>,
}

impl Lists {
    /// The lists that contain a series.
    fn of(series: &Series, folder: &Path) -> Result<Self> {
        let Some(Source { archive, suite }) = &series.source else {
            return Ok(Self { options: Vec::new() });
        };
        let address = address(archive)?;
        let root = folder.join("apt").join(series.name);
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(name))?;
        }
        let (sources, status) = (root.join("sources.list"), root.join("status"));
        fs::write(&sources, format!("deb [arch=amd64 signed-by={KEYS}] {address} {suite}\n"))?;
        // Nothing is installed in this folder.
        fs::write(&status, "")?;
        let options = [
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={}", root.join("lists").display()),
            format!("Dir::State::status={}", status.display()),
            format!("Dir::Cache={}", root.join("cache").display()),
            "APT::Get::AllowUnauthenticated=false".to_owned(),
            "Acquire::AllowInsecureRepositories=false".to_owned(),
            // Makes an unavailable list an error instead of a warning.
            "APT::Update::Error-Mode=any".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        Ok(Self { options: options.into_iter().flat_map(|one| ["-o".to_owned(), one]).collect() })
    }

    /// Downloads our own lists, which are small and which nothing else updates.
    fn update_own(&self) -> Result<()> {
        if self.options.is_empty() { Ok(()) } else { self.update() }
    }

    fn update(&self) -> Result<()> {
        if self.options.is_empty() {
            return update_lists();
        }
        output(self.apt("apt-get").args(["--quiet", "update"])).map(drop)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }
}

/// The machine's mirror of an archive: its other suites come from there, too.
fn address(archive: &str) -> Result<String> {
    let list = || {
        output(
            Command::new("apt-get")
                .args(["indextargets", "--format", "$(LABEL) $(SITE)"])
                .arg("Created-By: Packages"),
        )
    };
    if let Some(site) = site(&list()?, archive) {
        return Ok(site);
    }
    // A suite's label is known only after its list was downloaded.
    update_lists()?;
    site(&list()?, archive).with_context(|| {
        format!(
            "apt is not set up for the archive `{archive}`\nhelp: add it to /etc/apt/sources.list"
        )
    })
}

/// The address with this label.
fn site(listed: &str, archive: &str) -> Option<String> {
    let rows = listed.lines().filter_map(|line| line.rsplit_once(' '));
    rows.filter(|(label, _)| *label == archive).map(|(_, site)| site.to_owned()).next()
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
    use super::{newest_of, site};

    #[test]
    fn an_archive_comes_from_the_machines_mirror() {
        let listed = ". nodistro https://node.example\nDebian http://mirror.example/debian\n\
            Debian http://other.example/debian\nDebian-Security http://mirror.example/security";
        assert_eq!(site(listed, "Debian").as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(
            site(listed, "Debian-Security").as_deref(),
            Some("http://mirror.example/security")
        );
        assert_eq!(site(listed, "Ubuntu"), None);
    }

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
