//! Compiles the victims that demo and bench use, as the tests do.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Result;

use crate::process::{output, target_dir, workspace};

/// Path of the compiled victim.
pub(crate) fn victim(name: &str) -> Result<PathBuf> {
    let folder = target_dir().join("victims");
    fs::create_dir_all(&folder)?;
    let product = folder.join(name);
    let unfinished = folder.join(format!("{name}.{}", std::process::id()));
    let mut command = Command::new("gcc");
    command
        .args(["-std=gnu17", "-O2", "-g", "-fno-omit-frame-pointer", "-fno-builtin", "-pthread"])
        .args(["-fno-optimize-sibling-calls", "-fno-ipa-icf"])
        .arg(workspace().join("tests/victims").join(name).with_extension("c"))
        .arg("-o")
        .arg(&unfinished);
    if ["http_server", "deep"].contains(&name) {
        command.arg("-levent");
    }
    output(&mut command)?;
    fs::rename(&unfinished, &product)?;
    Ok(product)
}
