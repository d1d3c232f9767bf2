//! Programs on uWebSockets, compiled from sources that a crate carries.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    compile::{build, is_current},
    fetched, target_dir, workspace,
};

/// Source files of uSockets with epoll and without TLS.
const USOCKETS: [&str; 6] =
    ["bsd.c", "context.c", "loop.c", "socket.c", "udp.c", "eventing/epoll_kqueue.c"];
/// Additional source files for TLS.
const TLS: [&str; 2] = ["crypto/openssl.c", "crypto/sni_tree.cpp"];
/// Compiler flags of release builds: no frame pointers.
const FLAGS: [&str; 3] = ["-O2", "-g", "-DLIBUS_USE_EPOLL"];
const WITH_TLS: &str = "-DLIBUS_USE_OPENSSL";
const LIBRARIES: [&str; 2] = ["-lssl", "-lcrypto"];

/// The compiled server.
pub fn server() -> Result<PathBuf> {
    let (source, product) = names("uws_server", "uws_server");
    let header = source.with_file_name("connections.h");
    if is_current(&product, &[&source, &header, &lock()]) {
        return Ok(product);
    }
    let flags = ["-DLIBUS_NO_SSL"];
    let objects = usockets("usockets", &USOCKETS, &flags)?;
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    program("uws_server", &source, &flags, &objects)
}

/// The same with TLS, which an option enables.
pub fn tls_server() -> Result<PathBuf> {
    let (source, product) = names("uws_server", "uws_server_tls");
    let header = source.with_file_name("connections.h");
    if is_current(&product, &[&source, &header, &lock()]) {
        return Ok(product);
    }
    let objects = usockets("usockets-tls", &[&USOCKETS[..], &TLS].concat(), &[WITH_TLS])?;
    let libraries: Vec<&str> = objects.iter().map(String::as_str).chain(LIBRARIES).collect();
    program("uws_server_tls", &source, &[WITH_TLS], &libraries)
}

/// The program of leaks, with TLS and uSockets linked statically, as usual.
pub fn leaks() -> Result<PathBuf> {
    let (source, product) = names("leaks_uws", "leaks_uws");
    if is_current(&product, &leaks_parts(&source).each_ref().map(PathBuf::as_path)) {
        return Ok(product);
    }
    let objects = usockets("usockets-tls", &[&USOCKETS[..], &TLS].concat(), &[WITH_TLS])?;
    let libraries: Vec<&str> = objects.iter().map(String::as_str).chain(LIBRARIES).collect();
    program("leaks_uws", &source, &[WITH_TLS, "-fno-optimize-sibling-calls"], &libraries)
}

/// The same with uSockets as a shared object, so that a witness can interpose.
pub fn leaks_shared() -> Result<PathBuf> {
    let (source, product) = names("leaks_uws", "leaks_uws_shared");
    if is_current(&product, &leaks_parts(&source).each_ref().map(PathBuf::as_path)) {
        return Ok(product);
    }
    let flags = [WITH_TLS, "-fPIC"];
    let objects = usockets("usockets-shared", &[&USOCKETS[..], &TLS].concat(), &flags)?;
    let [first, rest @ ..] = objects.as_slice() else { anyhow::bail!("no objects of uSockets") };
    let rest: Vec<&str> = rest.iter().map(String::as_str).chain(LIBRARIES).collect();
    let library = build("gcc", "libusockets.so", Path::new(first), &["-shared"], &rest)?;
    let library = library.to_str().context("a path in UTF-8")?;
    let flags = [WITH_TLS, "-fno-optimize-sibling-calls"];
    program("leaks_uws_shared", &source, &flags, &[&[library], &LIBRARIES[..]].concat())
}

/// A program's source and product.
fn names(source: &str, product: &str) -> (PathBuf, PathBuf) {
    let source = workspace().join(format!("tests/victims/{source}.cpp"));
    (source, target_dir().join("victims").join(product))
}

/// A string that identifies the version of the sources.
fn lock() -> PathBuf {
    workspace().join("tests/uwebsockets/Cargo.lock")
}

/// The sources of the program of leaks.
fn leaks_parts(source: &Path) -> [PathBuf; 4] {
    let header = |name| source.with_file_name(name);
    [source.to_owned(), header("leaks.h"), header("victim.h"), lock()]
}

/// Include options of the sources, and the folder of uSockets.
fn includes() -> Result<([String; 2], PathBuf)> {
    let sources = fetched::sources("uwebsockets", "libuwebsockets-sys")?;
    let usockets = sources.join("uWebSockets/uSockets/src");
    let includes = [&sources.join("uWebSockets/src"), &usockets]
        .map(|folder| format!("-I{}", folder.display()));
    Ok((includes, usockets))
}

/// Compiles `files` of uSockets, each to an object whose name begins with `prefix`.
fn usockets(prefix: &str, files: &[&str], flags: &[&str]) -> Result<Vec<String>> {
    let (includes, usockets) = includes()?;
    let includes = includes.each_ref().map(String::as_str);
    let mut objects = Vec::new();
    for file in files {
        let product = format!("{prefix}-{}.o", file.replace('/', "-"));
        let cxx = Path::new(file).extension().is_some_and(|extension| extension == "cpp");
        let compiler = if cxx { "g++" } else { "gcc" };
        let flags = [&FLAGS[..], &includes, flags, &["-c"]].concat();
        let object = build(compiler, &product, &usockets.join(file), &flags, &[])?;
        objects.push(object.into_os_string().into_string().ok().context("a path in UTF-8")?);
    }
    Ok(objects)
}

/// Compiles a program on uWebSockets, linked with `libraries`.
fn program(product: &str, source: &Path, flags: &[&str], libraries: &[&str]) -> Result<PathBuf> {
    let (includes, _) = includes()?;
    let includes = includes.each_ref().map(String::as_str);
    let flags = [&["-std=c++20", "-DUWS_NO_ZLIB"], &FLAGS[..], &includes, flags].concat();
    build("g++", product, source, &flags, libraries)
}
