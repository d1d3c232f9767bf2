//! HTTP/1.1 requests, `WebSockets`, and the text protocols of memcached and redis on loopback; each answer is checked.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

/// A connection that stays open.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to a port on loopback.
    pub fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Closes this connection and opens another one to the same port.
    pub fn reopen(&mut self) -> Result<()> {
        *self = Self::open(self.stream.get_ref().peer_addr()?.port())?;
        Ok(())
    }

    /// Identifies this connection.
    pub fn name(&self) -> Result<String> {
        Ok(self.stream.get_ref().local_addr()?.port().to_string())
    }

    /// Sends one GET request; returns the body if the status is 200.
    pub fn get(&mut self, path: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut length = None;
        for header in self.headers(path, "HTTP/1.1 200 ")? {
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse()?);
            }
        }
        let mut body = vec![0; length.context("an answer has a Content-Length")?];
        self.stream.read_exact(&mut body)?;
        Ok(String::from_utf8(body)?)
    }

    /// Stores a value in memcached, reads it back, and checks that it is the same.
    pub fn store(&mut self, key: &str, value: &str) -> Result<()> {
        let request = format!("set {key} 0 0 {}\r\n{value}\r\nget {key}\r\n", value.len());
        self.stream.get_mut().write_all(request.as_bytes())?;
        let expected = [
            "STORED".to_owned(),
            format!("VALUE {key} 0 {}", value.len()),
            value.to_owned(),
            "END".to_owned(),
        ];
        for line in expected {
            let got = self.line()?;
            if got != line {
                bail!("memcached answered `{got}`, not `{line}`");
            }
        }
        Ok(())
    }

    /// Reads memcached's statistics to the end.
    pub fn statistics(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(b"stats\r\n")?;
        loop {
            let line = self.line()?;
            if line == "END" {
                return Ok(());
            }
            if !line.starts_with("STAT ") {
                bail!("memcached answered `{line}` to `stats`");
            }
        }
    }

    /// Sends one command to redis; returns the first line of its answer.
    pub fn command(&mut self, line: &str) -> Result<String> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.line()
    }

    /// Upgrades the connection to a WebSocket.
    pub fn upgrade(&mut self, path: &str) -> Result<()> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let headers = self.headers(path, "HTTP/1.1 101 ")?;
        // The accept value of the key above: the example of RFC 6455.
        if headers.iter().any(|header| header.ends_with("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) {
            Ok(())
        } else {
            bail!("the WebSocket's key was not accepted")
        }
    }

    /// Sends a text of less than 126 bytes over the WebSocket; the server must echo it.
    pub fn echo(&mut self, text: &str) -> Result<()> {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 126);
        let length = length.context("a short text")?;
        // A final text frame; masked with zeros, as clients must mask.
        let head = [0x81, 0x80 | length, 0, 0, 0, 0];
        self.stream.get_mut().write_all(&[&head, text.as_bytes()].concat())?;
        let mut back = vec![0; 2 + text.len()];
        self.stream.read_exact(&mut back)?;
        if back != [&[0x81, length], text.as_bytes()].concat() {
            bail!("`{text}` came back as {back:?}");
        }
        Ok(())
    }

    /// The headers of an answer about `path`; its status line must start with `status`.
    fn headers(&mut self, path: &str, status: &str) -> Result<Vec<String>> {
        let first = self.line()?;
        if !first.starts_with(status) {
            bail!("`{path}` was answered `{first}`");
        }
        let mut headers = Vec::new();
        loop {
            let header = self.line()?;
            if header.is_empty() {
                return Ok(headers);
            }
            headers.push(header);
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}
