//! The server on uWebSockets, compiled from the sources that a crate carries.
//!
//! Cargo fetches the crate (`tests/uwebsockets`) and checks it against the lock file; nothing of it is
//! built by cargo.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    compile::{build, is_current},
    target_dir, workspace,
};

/// The crate.
const CRATE: &str = "libuwebsockets-sys";
/// What uSockets is made of with epoll and without TLS.
const USOCKETS: [&str; 6] =
    ["bsd.c", "context.c", "loop.c", "socket.c", "udp.c", "eventing/epoll_kqueue.c"];
/// As servers are built for use: no frame pointers.
const FLAGS: [&str; 4] = ["-O2", "-g", "-DLIBUS_USE_EPOLL", "-DLIBUS_NO_SSL"];

/// The compiled server.
pub fn server() -> Result<PathBuf> {
    let source = workspace().join("tests/victims/uws_server.cpp");
    let lock = workspace().join("tests/uwebsockets/Cargo.lock");
    let product = target_dir().join("victims/uws_server");
    if is_current(&product, &[&source, &lock]) {
        return Ok(product);
    }
    let sources = sources()?;
    let usockets = sources.join("uWebSockets/uSockets/src");
    let includes = [&sources.join("uWebSockets/src"), &usockets]
        .map(|folder| format!("-I{}", folder.display()));
    let includes = includes.each_ref().map(String::as_str);
    let mut objects = Vec::new();
    for file in USOCKETS {
        let product = format!("usockets-{}.o", file.replace('/', "-"));
        let flags = [&FLAGS[..], &includes, &["-c"]].concat();
        let object = build("gcc", &product, &usockets.join(file), &flags, &[])?;
        objects.push(object.into_os_string().into_string().ok().context("a path in UTF-8")?);
    }
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    let flags = [&["-std=c++20", "-DUWS_NO_ZLIB"], &FLAGS[..], &includes].concat();
    build("g++", "uws_server", &source, &flags, &objects)
}

/// Where cargo has put the crate's files.
fn sources() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(workspace().join("tests/uwebsockets/Cargo.toml"))
        .output()
        .context("could not run `cargo metadata`")?;
    if !output.status.success() {
        bail!("could not fetch `{CRATE}`:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("packages")?;
    let manifest = packages
        .iter()
        .find(|package| package.get("name").and_then(Value::as_str) == Some(CRATE))
        .and_then(|package| package.get("manifest_path").and_then(Value::as_str))
        .with_context(|| format!("cargo knows no `{CRATE}`"))?;
    Ok(PathBuf::from(manifest).parent().context("a folder")?.to_owned())
}
