//! nginx with TLS: OpenSSL's objects, without libevent.

use std::{fs, path::Path, process::Command};

use anyhow::Result;

use super::{RealProgram, Started, at_once, constructors, fail_tls, get_over_tls};
use crate::{http::Connection, programs::certified};

/// The server's port, in its own network namespace.
pub(super) const PORT: u16 = 8443;
/// Connections that request a page.
const WHOLE: u64 = 64;
/// Connections that end before a handshake, and connections whose handshake fails.
const CUT: u64 = 16;

/// One process that serves a page with a hello.
pub const NGINX_TLS: RealProgram = RealProgram {
    name: "nginx-tls",
    start,
    load,
    constructors: &[constructors::OPENSSL],
    least: &[("SSL", WHOLE + CUT), ("SSL_SESSION", WHOLE), ("BIO", WHOLE)],
    gone: &["SSL", "BIO", "EVP_MD_CTX", "EVP_CIPHER_CTX"],
};

/// The command that starts nginx.
pub(super) fn command(folder: &Path) -> Result<Command> {
    let (key, certificate) = certified()?;
    let file = folder.join("nginx.conf");
    fs::write(
        &file,
        format!(
            "daemon off; master_process off; pid {}/nginx.pid; error_log stderr crit;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; server {{ listen 127.0.0.1:{PORT} ssl;\n\
             ssl_certificate {}; ssl_certificate_key {};\n\
             location / {{ return 200 'hello'; }} }} }}\n",
            folder.display(),
            certificate.display(),
            key.display(),
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file);
    Ok(command)
}

fn start(folder: &Path) -> Result<Started> {
    Started::listening(folder, &mut command(folder)?, PORT)
}

fn load(_: &Path) -> Result<()> {
    at_once(WHOLE, || get_over_tls(PORT))?;
    at_once(CUT, || {
        drop(Connection::open(PORT)?);
        fail_tls(PORT)
    })
}
