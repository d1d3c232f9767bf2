//! One connection of `churn`: every byte is counted, no wait is longer than its limit or goes on when the
//! run is over.

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

/// How long the kernel waits before it is asked whether the run is over.
const SLICE: Duration = Duration::from_millis(100);
/// What a handshake may take: on loopback only a full queue of the server is slow, and a packet that was
/// dropped there is sent again after one second and after three.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);

/// When everything ends.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Asked to end, by a signal.
    pub(crate) stop: Arc<AtomicBool>,
    /// The time is up.
    pub(crate) until: Instant,
}

impl Limits {
    /// Whether the run is over.
    pub(crate) fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= self.until
    }
}

/// A socket that counts.
#[derive(Debug)]
struct Wire<'a> {
    socket: Socket,
    tcp: bool,
    limits: &'a Limits,
    /// When waiting ends.
    until: Instant,
    sent: u64,
    received: u64,
}

impl Wire<'_> {
    /// Does it again until it is done, late, or the run is over.
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

/// Connects in slices: called again, `connect` waits on.
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

/// A connection, in TLS or not.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    wire: Wire<'a>,
    tls: Option<Box<ClientConnection>>,
}

impl<'a> Line<'a> {
    /// Connects, from `source` if that is given.
    pub(crate) fn open(
        target: &SockAddr,
        source: Option<&SockAddr>,
        limits: &'a Limits,
    ) -> io::Result<Self> {
        let tcp = target.domain() != Domain::UNIX;
        let socket = Socket::new(target.domain(), Type::STREAM, tcp.then_some(Protocol::TCP))?;
        if let Some(source) = source {
            // A port is then chosen by `connect`: one is free if no connection has it to this very server.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(source)?;
        }
        // It bounds `connect`, too.
        socket.set_write_timeout(Some(SLICE))?;
        connect(&socket, target, limits)?;
        socket.set_read_timeout(Some(SLICE))?;
        let wire = Wire { socket, tcp, limits, until: limits.until, sent: 0, received: 0 };
        Ok(Self { wire, tls: None })
    }

    /// Waits no longer than this, from now, until told otherwise.
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

    /// The handshake; a failure has told the server why.
    pub(crate) fn handshake(&mut self, mut client: ClientConnection) -> io::Result<()> {
        while client.is_handshaking() {
            client.complete_io(&mut self.wire)?;
        }
        self.tls = Some(Box::new(client));
        Ok(())
    }

    /// The `ClientHello` alone.
    pub(crate) fn hello(&mut self, mut client: ClientConnection) -> io::Result<()> {
        client.write_tls(&mut self.wire).map(drop)
    }

    /// Sends all of it.
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

    /// Receives some; 0 is the server's end, with TLS's goodbye or without it.
    pub(crate) fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.wire.read(into) };
        match rustls::Stream::new(&mut **tls, &mut self.wire).read(into) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            done => done,
        }
    }

    /// TLS's own goodbye, where there is TLS.
    pub(crate) fn goodbye(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            tls.write_tls(&mut self.wire)?;
        }
        Ok(())
    }

    /// Sends each byte when it is told to.
    pub(crate) fn no_delay(&self) -> io::Result<()> {
        // A Unix socket never waits for more, and has no such option.
        if self.wire.tcp { self.wire.socket.set_tcp_nodelay(true) } else { Ok(()) }
    }

    /// Ends our half.
    pub(crate) fn half_close(&self) -> io::Result<()> {
        self.wire.socket.shutdown(Shutdown::Write)
    }

    /// Closing it will reset it.
    pub(crate) fn reset(&self) -> io::Result<()> {
        self.wire.socket.set_linger(Some(Duration::ZERO))
    }

    /// Holds little of what was not read yet.
    pub(crate) fn small_buffer(&self) -> io::Result<()> {
        // The kernel makes its least of it, some 2 kB.
        self.wire.socket.set_recv_buffer_size(1)
    }
}
