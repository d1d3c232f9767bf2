//! Kernels for `test-vm`: the newest of each series that Debian has, fetched into `target/vm`, never installed.
//!
//! What is there already is not fetched again; without a network, what is there has to do. Series that the
//! machine's package lists do not have come by lists of our own, whose signatures apt checks as ever: the machine's
//! configuration stays as it is.

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
    /// First numbers of its releases.
    pub(crate) name: &'static str,
    /// Where Debian has it. `None` where the machine's own lists have it.
    source: Option<Source>,
    /// How the packages that hold its kernels begin.
    package: &'static str,
}

/// A suite that the machine's own lists do not have, of an archive that they do have.
#[derive(Debug)]
struct Source {
    /// What the archive calls itself: the label of its suites.
    archive: &'static str,
    /// The suite, and the component.
    suite: &'static str,
}

impl Series {
    /// Whether it is part of `test`, and not of `test-vm` alone.
    pub(crate) const fn is_always_tried(&self) -> bool {
        self.source.is_none()
    }
}

/// The series that leaktrace is tried on besides the host's kernel, oldest first: the least that is needed,
/// Debian 12's own, the next one's, and the newest long-lived one of Debian.
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
        // Keeps a series after `sid` has gone on to the next, and its list is small.
        source: Some(Source { archive: "Debian", suite: "trixie-backports main" }),
        // Since 7.2 the package of the image's name is empty.
        package: "linux-binary-",
    },
];

/// The keys that Debian signs its lists with.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Set to 1, there are no virtual machines.
pub(crate) const NO_VM: &str = "LEAKTRACE_NO_VM";

/// Whether there are to be no virtual machines.
pub(crate) fn unwanted() -> bool {
    env::var_os(NO_VM).is_some_and(|value| value == "1")
}

/// Fetches those that are always tried.
pub(crate) fn fetch_always_tried() -> Result<()> {
    SERIES.iter().filter(|series| series.is_always_tried()).try_for_each(|series| {
        fetch(series).with_context(|| format!("help: {NO_VM}=1 goes without"))
    })
}

/// Fetches the newest of one series, unless it is there.
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
    let Err(error) = lists.make_do().and_then(|()| fetch_listed(series, &lists, &folder)) else {
        return Ok(());
    };
    if is_there {
        note(&format!(
            "kernel {}: an older one has to do, the newest cannot be had: {error:#}",
            series.name
        ));
        return Ok(());
    }
    // The mirror may have dropped what an old list names.
    lists.update()?;
    fetch_listed(series, &lists, &folder)
}

/// Package lists: the machine's, or some of our own.
struct Lists {
    /// Options that have apt read and write there and nowhere else.
    options: Vec<String>,
}

impl Lists {
    /// Those that a series is in.
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
        // Nothing is installed in there.
        fs::write(&status, "")?;
        let options = [
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={}", root.join("lists").display()),
            format!("Dir::State::status={}", status.display()),
            format!("Dir::Cache={}", root.join("cache").display()),
            "APT::Get::AllowUnauthenticated=false".to_owned(),
            "Acquire::AllowInsecureRepositories=false".to_owned(),
            // A list that cannot be had is a failure, and no warning.
            "APT::Update::Error-Mode=any".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        Ok(Self { options: options.into_iter().flat_map(|one| ["-o".to_owned(), one]).collect() })
    }

    /// Own lists are small and nobody else keeps them new.
    fn make_do(&self) -> Result<()> {
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

/// Where this machine gets an archive from: its other suites come from there, too.
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
    // A suite's label is known when its list has been fetched.
    update_lists()?;
    site(&list()?, archive).with_context(|| {
        format!(
            "apt is not set up for the archive `{archive}`\nhelp: add it to /etc/apt/sources.list"
        )
    })
}

/// The address behind the first label that is this one.
fn site(listed: &str, archive: &str) -> Option<String> {
    let rows = listed.lines().filter_map(|line| line.rsplit_once(' '));
    rows.filter(|(label, _)| *label == archive).map(|(_, site)| site.to_owned()).next()
}

/// Fetches the newest that the lists have, unless it is there.
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

/// The newest of packages that begin so: the kernel for clouds has what a virtual machine has, and is small.
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

/// Downloads a package and keeps of it the kernel alone, as `name`.
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

/// Where a package had its kernel: in `boot`, since 7.2 with its modules.
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
    fn an_archive_comes_from_where_the_machine_gets_it() {
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
