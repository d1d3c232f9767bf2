//! Packages of suites that the machine's own package lists lack.
//!
//! Takes a suite, passes on apt with lists of our own, whose signatures it checks as usual. Must not change the machine's
//! configuration, and must not install anything.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{packages::update_lists, process::output};

/// The keys that Debian signs its lists with.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A suite that the machine's own lists lack, of an archive that they contain.
#[derive(Debug)]
pub(crate) struct Suite {
    /// The label of the archive's suites.
    pub(crate) archive: &'static str,
    /// The suite, and the component.
    pub(crate) name: &'static str,
}

/// Package lists: the machine's, or our own.
#[derive(Debug)]
pub(crate) struct Lists {
    /// Options that restrict apt to our own folders.
    options: Vec<String>,
}

impl Lists {
    /// The machine's lists.
    pub(crate) const fn of_the_machine() -> Self {
        Self { options: Vec::new() }
    }

    /// Lists of a suite, in a folder of their own.
    pub(crate) fn of(Suite { archive, name }: &Suite, root: &Path) -> Result<Self> {
        let address = address(archive)?;
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let (sources, status) = (root.join("sources.list"), root.join("status"));
        fs::write(&sources, format!("deb [arch=amd64 signed-by={KEYS}] {address} {name}\n"))?;
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
    pub(crate) fn update_own(&self) -> Result<()> {
        if self.options.is_empty() { Ok(()) } else { self.update() }
    }

    /// Downloads the lists.
    pub(crate) fn update(&self) -> Result<()> {
        if self.options.is_empty() {
            return update_lists();
        }
        output(self.apt("apt-get").args(["--quiet", "update"])).map(drop)
    }

    /// A program of apt with these lists.
    pub(crate) fn apt(&self, program: &str) -> Command {
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

#[cfg(test)]
mod tests {
    use super::site;

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
}
