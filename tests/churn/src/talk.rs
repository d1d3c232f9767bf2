//! The protocol exchange of a `churn` connection: sends requests and checks answers.

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use crate::{
    figures::Figures,
    line::Line,
    options::{Order, Protocol},
    tls::Tls,
    words::{
        CLOSE, GREETING_BYTES, NORMAL, PING, PONG, READY, TEXT, greeting, masked, take_answer,
        take_frame,
    },
};

/// Time limit of a required answer.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Time that the server is given to close where it need not.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// We closed it first.
    ByUs,
    /// The server closed it first.
    ByServer,
    /// We reset it.
    ResetByUs,
    /// The server reset it.
    ResetByServer,
}

/// Why a connection deviated from its way.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server closed it.
    Closed,
    /// The server reset it.
    Reset,
    /// The time limit expired.
    Late,
    /// Anything else.
    Wrong(String),
}

impl Fault {
    /// The end of the connection that this fault implies.
    pub(crate) fn end(&self) -> End {
        match self {
            Self::Closed => End::ByServer,
            Self::Reset => End::ResetByServer,
            Self::Late | Self::Wrong(_) => End::ByUs,
        }
    }

    /// As text.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Closed => "closed by the server too early".to_owned(),
            Self::Reset => "reset by the server too early".to_owned(),
            Self::Late => "the server did not answer or close in time".to_owned(),
            Self::Wrong(words) => words,
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
                Self::Reset
            }
            ErrorKind::UnexpectedEof => Self::Closed,
            ErrorKind::TimedOut => Self::Late,
            _ => Self::Wrong(error.to_string()),
        }
    }
}

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Talk<'a> {
    /// The connection.
    pub(crate) line: Line<'a>,
    /// The run's parameters.
    pub(crate) order: &'a Order,
    /// TLS client configurations.
    pub(crate) tls: &'a Tls,
    /// Random numbers, the same for the same seed.
    pub(crate) rng: fastrand::Rng,
    /// The index among the connections of this way.
    pub(crate) number: u64,
    /// The counts.
    pub(crate) figures: &'a mut Figures,
    /// Received bytes that are not parsed yet.
    pub(crate) unread: Vec<u8>,
}

impl Talk<'_> {
    /// Performs the steps before the first request: TLS's handshake, WebSocket's upgrade, ZMTP's greeting and `READY`.
    pub(crate) fn open(&mut self) -> Result<(), Fault> {
        self.line.allow(ANSWER_LIMIT);
        match self.order.protocol {
            Protocol::Http | Protocol::Tcp => Ok(()),
            Protocol::Tls => {
                let client = self.tls.client(true).map_err(|why| Fault::Wrong(why.to_string()))?;
                Ok(self.line.handshake(client)?)
            }
            Protocol::Websocket => {
                self.line.send(&self.upgrade())?;
                match self.answer()? {
                    101 => Ok(()),
                    status => Err(Fault::Wrong(format!("no upgrade: answered {status}"))),
                }
            }
            Protocol::Zmtp => self.introduce(),
        }
    }

    /// Sends one request and reads its answer; the last request announces the close if the protocol can.
    pub(crate) fn ask(&mut self, last: bool) -> Result<(), Fault> {
        self.line.allow(ANSWER_LIMIT);
        let request = self.request(last);
        self.line.send(&request)?;
        match self.order.protocol {
            Protocol::Http | Protocol::Tls => match self.answer()? {
                status @ 400.. => Err(Fault::Wrong(format!("answered {status}"))),
                _ => Ok(()),
            },
            Protocol::Websocket => self.frame(PONG).map(|()| self.figures.answered += 1),
            // Whether and how the server answers is up to the program.
            Protocol::Zmtp | Protocol::Tcp => Ok(()),
        }
    }

    /// The bytes of one request.
    pub(crate) fn request(&self, last: bool) -> Vec<u8> {
        match self.order.protocol {
            Protocol::Http | Protocol::Tls => {
                let end = if last { "Connection: close\r\n" } else { "" };
                self.http("GET", end)
            }
            // A text, and a ping, which any server must answer (RFC 6455, 5.5.2).
            Protocol::Websocket => [masked(TEXT, b"hello"), masked(PING, b"there?")].concat(),
            // A message of two parts, as a `DEALER` sends it to a `REP`: an empty one, then the content.
            Protocol::Zmtp => b"\x01\x00\x00\x05hello".to_vec(),
            Protocol::Tcp => b"hello\r\n".to_vec(),
        }
    }

    /// An HTTP request with extra headers.
    pub(crate) fn http(&self, method: &str, headers: &str) -> Vec<u8> {
        let path = &self.order.path;
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes()
    }

    /// The request that upgrades to a WebSocket; the key is the example of RFC 6455.
    pub(crate) fn upgrade(&self) -> Vec<u8> {
        self.http(
            "GET",
            "Upgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        )
    }

    /// Performs the protocol's own closing handshake, if it has one.
    pub(crate) fn end_protocol(&mut self) -> Result<(), Fault> {
        if self.order.protocol == Protocol::Websocket {
            self.line.send(&masked(CLOSE, &NORMAL))?;
            self.frame(CLOSE)?;
        }
        Ok(self.line.close_notify()?)
    }

    /// Waits until the server closes, which it must do.
    pub(crate) fn expect_close(&mut self) -> Result<End, Fault> {
        match self.drain(ANSWER_LIMIT)? {
            End::ByUs => Err(Fault::Late),
            end => Ok(end),
        }
    }

    /// Reads until the server closes or resets, or `patience` expires; counts answers.
    pub(crate) fn drain(&mut self, patience: Duration) -> Result<End, Fault> {
        self.line.allow(patience);
        loop {
            while let Some(status) = take_answer(&mut self.unread, false) {
                self.count(status);
            }
            match self.more() {
                Ok(()) => {}
                Err(Fault::Closed) => {
                    if let Some(status) = take_answer(&mut self.unread, true) {
                        self.count(status);
                    }
                    return Ok(End::ByServer);
                }
                Err(Fault::Reset) => return Ok(End::ResetByServer),
                Err(Fault::Late) => return Ok(End::ByUs),
                Err(fault) => return Err(fault),
            }
        }
    }

    fn count(&mut self, status: u16) {
        let figure =
            if status < 400 { &mut self.figures.answered } else { &mut self.figures.refused };
        *figure += 1;
    }

    /// Reads one HTTP answer; returns its status.
    pub(crate) fn answer(&mut self) -> Result<u16, Fault> {
        loop {
            if let Some(status) = take_answer(&mut self.unread, false) {
                self.count(status);
                return Ok(status);
            }
            self.more()?;
        }
    }

    /// Reads WebSocket frames until one of this kind.
    fn frame(&mut self, kind: u8) -> Result<(), Fault> {
        loop {
            match take_frame(&mut self.unread) {
                Some(found) if found == kind => return Ok(()),
                Some(_) => {}
                None => self.more()?,
            }
        }
    }

    /// Sends a greeting as a `DEALER` without security (RFC 23, ZMTP 3.0), and waits for the server's.
    fn introduce(&mut self) -> Result<(), Fault> {
        self.line.send(&greeting())?;
        self.take(GREETING_BYTES)?;
        self.line.send(&[b"\x04\x1c", &READY[..]].concat())?;
        // A short command: flags, length, text.
        let command = self.take(2)?;
        let text = self.take(usize::from(command.last().copied().unwrap_or(0)))?;
        if !text.starts_with(b"\x05READY") {
            let said = String::from_utf8_lossy(&text).into_owned();
            return Err(Fault::Wrong(format!("not READY: {said:?}")));
        }
        self.figures.answered += 1;
        Ok(())
    }

    /// Reads this many bytes.
    fn take(&mut self, count: usize) -> Result<Vec<u8>, Fault> {
        while self.unread.len() < count {
            self.more()?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    /// Receives more bytes; the server's close is a fault.
    fn more(&mut self) -> Result<(), Fault> {
        let mut bytes = [0; 4096];
        let count = self.line.receive(&mut bytes)?;
        self.unread.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if count == 0 { Err(Fault::Closed) } else { Ok(()) }
    }
}
