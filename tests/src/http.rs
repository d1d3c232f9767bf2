//! Load over HTTP/1.1 and memcached's text protocol, on loopback: each answer is checked.

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

    /// The port it leads to.
    pub fn port(&self) -> Result<u16> {
        Ok(self.stream.get_ref().peer_addr()?.port())
    }

    /// One GET request; its body, if the answer's status is 200.
    pub fn get(&mut self, path: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        if !status.starts_with("HTTP/1.1 200 ") {
            bail!("`{path}` was answered `{status}`");
        }
        let mut length = None;
        loop {
            let header = self.line()?;
            if header.is_empty() {
                break;
            }
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

    /// Stores a value in memcached and reads it back; it must be the same.
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

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}
