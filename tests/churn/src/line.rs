//! One connection of `churn`: counts every byte; no wait exceeds its limit or continues after the run is over.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt::IpBindAddressNoPort},
};
use rustls::ClientConnection;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Timeout of a system call, after which it checks whether the run is over.
const SLICE: Duration = Duration::from_millis(100);
/// Time limit of a handshake: on loopback only a full queue of the server is slow, and a packet that it dropped is sent
/// again after one second and after three.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);

/// When the run ends.
#[derive(Debug)]
pub(crate) struct Limits {
    /// A signal requested the end.
    pub(crate) stop: Arc<AtomicBool>,
    /// The deadline.
    pub(crate) until: Instant,
}

impl Limits {
    /// Whether the run is over.
    pub(crate) fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= self.until
    }
}

/// A socket that counts bytes.
#[derive(Debug)]
struct Wire<'a> {
    socket: Socket,
    tcp: bool,
    limits: &'a Limits,
    /// Deadline of the current wait.
    until: Instant,
    sent: u64,
    received: u64,
}

impl Wire<'_> {
    /// Repeats the call until it is done, the deadline has passed, or the run is over.
    fn wait<T>(&self, mut attempt: impl FnMut(&Socket) -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt(&self.socket) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
                {
                    if self.limits.over() || Instant::now() >= self.until {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                done => return done,
            }
        }
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.wait(|mut socket| socket.read(into))?;
        self.received += count as u64;
        Ok(count)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let count = self.wait(|mut socket| socket.write(from))?;
        self.sent += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Connects in slices: a repeated `connect` continues to wait.
fn connect(socket: &Socket, target: &SockAddr, limits: &Limits) -> io::Result<()> {
    let mut start = None;
    loop {
        let Err(error) = socket.connect(target) else { return Ok(()) };
        let waits = [Errno::EINPROGRESS, Errno::EALREADY, Errno::EINTR, Errno::EAGAIN];
        if !error.raw_os_error().is_some_and(|code| waits.contains(&Errno::from_raw(code))) {
            return Err(error);
        }
        let start = start.get_or_insert_with(Instant::now);
        if limits.over() || start.elapsed() >= CONNECT_LIMIT {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}

/// A connection, with or without TLS.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    wire: Wire<'a>,
    tls: Option<Box<ClientConnection>>,
}

impl<'a> Line<'a> {
    /// Connects, from `source` if given.
    pub(crate) fn open(
        target: &SockAddr,
        source: Option<&SockAddr>,
        limits: &'a Limits,
    ) -> io::Result<Self> {
        let tcp = target.domain() != Domain::UNIX;
        let socket = Socket::new(target.domain(), Type::STREAM, tcp.then_some(Protocol::TCP))?;
        if let Some(source) = source {
            // `connect` then chooses the port: it is free if no connection to this very server uses it.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(source)?;
        }
        // It also limits `connect`.
        socket.set_write_timeout(Some(SLICE))?;
        connect(&socket, target, limits)?;
        socket.set_read_timeout(Some(SLICE))?;
        let wire = Wire { socket, tcp, limits, until: limits.until, sent: 0, received: 0 };
        Ok(Self { wire, tls: None })
    }

    /// Sets the deadline of all waits from now, until the next call.
    pub(crate) fn allow(&mut self, patience: Duration) {
        self.wire.until = Instant::now() + patience;
    }

    /// Whether the run is over.
    pub(crate) fn over(&self) -> bool {
        self.wire.limits.over()
    }

    /// Bytes sent and received so far, below TLS.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.wire.sent, self.wire.received)
    }

    /// Performs the TLS handshake; on failure, an alert was sent to the server.
    pub(crate) fn handshake(&mut self, mut client: ClientConnection) -> io::Result<()> {
        while client.is_handshaking() {
            client.complete_io(&mut self.wire)?;
        }
        self.tls = Some(Box::new(client));
        Ok(())
    }

    /// Sends only the `ClientHello`.
    pub(crate) fn hello(&mut self, mut client: ClientConnection) -> io::Result<()> {
        client.write_tls(&mut self.wire).map(drop)
    }

    /// Sends all bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.wire.write_all(bytes),
            Some(tls) => {
                let mut stream = rustls::Stream::new(&mut **tls, &mut self.wire);
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    /// Receives some bytes; 0 means that the server has closed, with or without TLS's `close_notify`.
    pub(crate) fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.wire.read(into) };
        match rustls::Stream::new(&mut **tls, &mut self.wire).read(into) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            done => done,
        }
    }

    /// Sends TLS's `close_notify`, if there is TLS.
    pub(crate) fn close_notify(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            tls.write_tls(&mut self.wire)?;
        }
        Ok(())
    }

    /// Sends each byte at once.
    pub(crate) fn no_delay(&self) -> io::Result<()> {
        // A Unix socket never delays data, and has no such option.
        if self.wire.tcp { self.wire.socket.set_tcp_nodelay(true) } else { Ok(()) }
    }

    /// Shuts down our half.
    pub(crate) fn half_close(&self) -> io::Result<()> {
        self.wire.socket.shutdown(Shutdown::Write)
    }

    /// Makes closing reset the connection.
    pub(crate) fn reset(&self) -> io::Result<()> {
        self.wire.socket.set_linger(Some(Duration::ZERO))
    }

    /// Sets a small receive buffer.
    pub(crate) fn small_buffer(&self) -> io::Result<()> {
        // The kernel rounds it up to its minimum, about 2 kB.
        self.wire.socket.set_recv_buffer_size(1)
    }
}
