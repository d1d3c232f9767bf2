//! Programs on pyzmq: a Jupyter kernel, and a service that constantly creates and closes sockets.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{RealProgram, Started, constructors, run_load};
use crate::{packages, python};

/// The port of the service, and the first channel of the kernel; each in its own network namespace.
const PORT: u16 = 9201;
/// Requests to the service.
const QUESTIONS: u64 = 300;
/// Cells that the kernel runs.
const CELLS: u64 = 50;

/// A Jupyter kernel on the libzmq that pyzmq bundles.
pub const IPYKERNEL: RealProgram = RealProgram {
    name: "ipykernel",
    start: kernel,
    load: run_cells,
    // OpenSSL signs messages.
    constructors: &[constructors::LIBZMQ, constructors::OPENSSL],
    // Each cell starts a thread that prints, which has a socket for that. Each cell has signed messages: busy, the
    // input, the output twice, the result, the reply, idle.
    least: &[("zmq_socket", CELLS), ("zmq_msg", 7 * CELLS)],
    gone: &["zmq_ctx", "zmq_socket", "zmq_msg"],
};

/// Our service on the libzmq that pyzmq bundles.
pub const PYZMQ: RealProgram = RealProgram {
    name: "pyzmq",
    start: service,
    load: ask,
    constructors: &[constructors::LIBZMQ],
    least: &ANSWERED,
    gone: &["zmq_ctx", "zmq_socket", "zmq_msg"],
};

/// The same on Debian's pyzmq and libzmq.
pub const PYZMQ_OF_DEBIAN: RealProgram =
    RealProgram { name: "pyzmq_debian", start: service_of_debian, ..PYZMQ };

/// Each answer goes through a socket. Two of three requests create another one, one of three a context with two.
const ANSWERED: [(&str, u64); 3] = [
    ("zmq_ctx", QUESTIONS / 3),
    ("zmq_socket", QUESTIONS + 4 * QUESTIONS / 3),
    ("zmq_msg", 2 * QUESTIONS),
];

fn kernel(folder: &Path) -> Result<Started> {
    let file = folder.join("connection.json");
    let ports: Vec<String> = ["shell", "iopub", "stdin", "control", "hb"]
        .iter()
        .zip(PORT..)
        .map(|(channel, port)| format!("\"{channel}_port\": {port}"))
        .collect();
    let rest = r#""ip": "127.0.0.1", "transport": "tcp", "key": "a key", "signature_scheme": "hmac-sha256""#;
    fs::write(&file, format!("{{ {}, {rest} }}", ports.join(", ")))?;
    let mut command = python::interpreter(&python::packages("ipykernel")?);
    command.args(["-m", "ipykernel_launcher", "-f"]).arg(&file);
    at_home_in(folder, &mut command);
    let mut started = Started::listening(folder, &mut command, PORT)?;
    // A thread of the Jupyter kernel is a client of its own shell channel.
    started.own = 2;
    Ok(started)
}

/// Keeps the kernel and its client away from the user's own files.
fn at_home_in(folder: &Path, command: &mut Command) {
    for name in ["HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"] {
        command.env(name, folder);
    }
}

fn run_cells(folder: &Path) -> Result<()> {
    let mut command = python::program("ipykernel_client", &python::packages("ipykernel")?);
    command.arg(folder.join("connection.json")).arg(CELLS.to_string());
    at_home_in(folder, &mut command);
    run_load(&mut command, &format!("ran {CELLS}"))
}

fn service(folder: &Path) -> Result<Started> {
    start(folder, &python::packages("pyzmq")?)
}

fn service_of_debian(folder: &Path) -> Result<Started> {
    // Set up for the clients beforehand: nothing can be downloaded in the network namespace.
    python::packages("pyzmq")?;
    let unpacked = packages::debian(&["python3-zmq"])?;
    start(folder, &unpacked.path("usr/lib/python3/dist-packages")?)
}

fn start(folder: &Path, site: &Path) -> Result<Started> {
    let site = fs::canonicalize(site).context("packages of Python")?;
    let mut command = python::program("pyzmq_service", &site);
    Started::listening(folder, command.arg(PORT.to_string()), PORT)
}

fn ask(_: &Path) -> Result<()> {
    let mut command = python::program("pyzmq_clients", &python::packages("pyzmq")?);
    command.args([PORT.to_string(), QUESTIONS.to_string()]);
    run_load(&mut command, &format!("answered {QUESTIONS}"))
}
