//! Real servers as targets: started on a free port, awaited until they listen, stopped by their own pid.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    net::{TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{Report, child::Running, compile, programs::certified, uwebsockets, wait_until};

/// The breakpoint instruction.
const INT3: u8 = 0xcc;

/// A server that listens on loopback; killed when dropped.
#[derive(Debug)]
pub struct Service {
    running: Running,
    /// The port that it listens on.
    pub port: u16,
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Service {
    /// Starts `command`, which must listen on `port`, and waits until it does.
    pub fn start(command: &mut Command, port: u16) -> Result<Self> {
        let running = Running::start(command)?;
        wait_until("the server listens", Duration::from_secs(20), || {
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        Ok(Self { running, port })
    }

    /// The demo's HTTP server, which prints its port.
    pub fn http_server(options: &[&str]) -> Result<Self> {
        Self::that_says_its_port(
            Command::new(compile::victim("http_server")?).arg("0").args(options),
        )
    }

    /// The HTTP server that passes its connections to a pool of threads.
    pub fn pool_server(options: &[&str]) -> Result<Self> {
        Self::that_says_its_port(
            Command::new(compile::victim("pool_server")?).arg("0").args(options),
        )
    }

    /// The HTTPS server on libevent and OpenSSL.
    pub fn tls_server(options: &[&str]) -> Result<Self> {
        let (key, certificate) = certified()?;
        Self::that_says_its_port(
            Command::new(compile::victim("tls_server")?)
                .args([certificate, key])
                .arg("0")
                .args(options),
        )
    }

    /// The server on uWebSockets.
    pub fn uws_server(options: &[&str]) -> Result<Self> {
        Self::that_says_its_port(Command::new(uwebsockets::server()?).arg("0").args(options))
    }

    /// Starts `command`, whose first line on stdout contains the port.
    pub fn that_says_its_port(command: &mut Command) -> Result<Self> {
        let running = Running::start(command)?;
        let line = running.line(Duration::from_secs(10))?;
        let port = line.strip_prefix("listening ").context("it says where it listens")?.parse()?;
        Ok(Self { running, port })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Resident memory, bytes.
    pub fn rss_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 =
            line.and_then(|text| text.split_whitespace().next()).context("no VmRSS")?.parse()?;
        Ok(kib * 1024)
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.running.wait(Duration::ZERO).is_err()
    }
}

/// Waits until the kernel has removed every breakpoint of `report` from the target: the bytes in memory equal the
/// file's.
pub fn no_breakpoint_remains(pid: u32, report: &Report) -> Result<()> {
    let probes = report.list("/probes")?;
    wait_until("breakpoints are taken out", Duration::from_secs(30), || {
        for probe in probes {
            if breakpoint_at(pid, probe)? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Whether the target has a breakpoint at this probe's location.
pub fn breakpoint_at(pid: u32, probe: &Value) -> Result<bool> {
    let object = probe.get("object").and_then(Value::as_str);
    let (Some(object), Some(offset)) = (object, offset_of(probe)?) else { return Ok(false) };
    let Some(address) = address_of(pid, object, offset)? else { return Ok(false) };
    let memory = byte_at(&format!("/proc/{pid}/mem"), address)?;
    let file = byte_at(&format!("/proc/{pid}/root{object}"), offset)?;
    Ok(memory == INT3 && file != INT3)
}

/// Files whose executable mappings in the target differ from their content: they contain a probe.
pub fn changed_code(pid: u32) -> Result<Vec<String>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut changed = Vec::new();
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, access, offset, _, _, path] = fields.as_slice() else { continue };
        if !access.contains('x') || !path.starts_with('/') {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range of addresses")?;
        let start = u64::from_str_radix(start, 16)?;
        let size = u64::from_str_radix(end, 16)? - start;
        let offset = u64::from_str_radix(offset, 16)?;
        // Past the end of the file, the mapping contains zeros.
        let file = format!("/proc/{pid}/root{path}");
        let size = size.min(fs::metadata(&file)?.len().saturating_sub(offset));
        if bytes_at(&format!("/proc/{pid}/mem"), start, size)? != bytes_at(&file, offset, size)? {
            changed.push((*path).to_owned());
        }
    }
    Ok(changed)
}

fn bytes_at(path: &str, offset: u64, size: u64) -> Result<Vec<u8>> {
    let mut file = File::open(path).with_context(|| format!("could not open `{path}`"))?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; usize::try_from(size)?];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The offset of a probe in its file; `None` if the probe is not attached.
pub fn offset_of(probe: &Value) -> Result<Option<u64>> {
    let Some(offset) = probe.get("offset").and_then(Value::as_str) else { return Ok(None) };
    Ok(Some(u64::from_str_radix(offset.trim_start_matches("0x"), 16)?))
}

fn byte_at(path: &str, offset: u64) -> Result<u8> {
    let mut file = File::open(path).with_context(|| format!("could not open `{path}`"))?;
    file.seek(SeekFrom::Start(offset))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(u8::from_le_bytes(byte))
}

/// The executable address in the target that maps the byte at `offset` of `object`.
pub fn address_of(pid: u32, object: &str, offset: u64) -> Result<Option<u64>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    for line in maps.lines().filter(|line| line.ends_with(object)) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, access, mapped, ..] = fields.as_slice() else { continue };
        let (start, end) = range.split_once('-').context("a range of addresses")?;
        let start = u64::from_str_radix(start, 16)?;
        let size = u64::from_str_radix(end, 16)? - start;
        let mapped = u64::from_str_radix(mapped, 16)?;
        if access.contains('x') && (mapped..mapped + size).contains(&offset) {
            return Ok(Some(start + offset - mapped));
        }
    }
    Ok(None)
}
