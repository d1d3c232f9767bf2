//! C and C++ sources that are distributed as crates.
//!
//! Cargo fetches a crate and checks it against the lock file of a manifest that only names it; cargo builds none of it.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace;

/// Where cargo has put the files of the crate `name`, which `tests/FOLDER/Cargo.toml` names.
pub(crate) fn sources(folder: &str, name: &str) -> Result<PathBuf> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(workspace().join("tests").join(folder).join("Cargo.toml"))
        .output()
        .context("could not run `cargo metadata`")?;
    if !output.status.success() {
        bail!("could not fetch `{name}`:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("packages")?;
    let manifest = packages
        .iter()
        .find(|package| package.get("name").and_then(Value::as_str) == Some(name))
        .and_then(|package| package.get("manifest_path").and_then(Value::as_str))
        .with_context(|| format!("cargo knows no `{name}`"))?;
    Ok(PathBuf::from(manifest).parent().context("a folder")?.to_owned())
}

/// The cargo that runs the tests, ready to run again.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Variables that cargo sets for the tests' package: build scripts that depend on them (ring's) would all run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}
