//! The server on uWebSockets, compiled from the sources that a crate carries.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    compile::{build, is_current},
    fetched, target_dir, workspace,
};

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
    let header = source.with_file_name("connections.h");
    if is_current(&product, &[&source, &header, &lock]) {
        return Ok(product);
    }
    let sources = fetched::sources("uwebsockets", "libuwebsockets-sys")?;
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
