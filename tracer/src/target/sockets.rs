//! The sockets that a process can see: addresses, states and bytes, as `sock_diag` and `/proc/PID/net` tell them.

use std::{collections::HashMap, fs, net::SocketAddr, path::PathBuf};

use procfs::{
    net::{TcpNetEntry, TcpState, UdpNetEntry, UnixNetEntry, UnixState},
    process::Process,
};

use super::{Pid, sock_diag};

/// What the kernel says of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// `tcp`, `udp`, `unix`.
    pub protocol: &'static str,
    /// Its own address, or path; `None` when it has none.
    pub local: Option<String>,
    /// The other end's; `None` when there is none, or it is not told (as of Unix sockets).
    pub peer: Option<String>,
    /// As the kernel names it: `ESTABLISHED`, `CLOSE_WAIT` …; `None` where there are no states.
    pub state: Option<&'static str>,
    /// What a TCP connection has carried; `None` where the kernel does not tell.
    pub traffic: Option<Traffic>,
}

/// What a connection has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub received: u64,
    /// Bytes that the other side has confirmed. For the side that connected, the kernel counts its first packet as
    /// one; for the side that closed, its last one.
    pub sent: u64,
}

/// Which network namespace a process is in; `None` when it is gone, or that may not be known.
pub fn namespace(pid: Pid) -> Option<PathBuf> {
    fs::read_link(pid.proc_path("ns/net")).ok()
}

/// The sockets of a process's network namespace by inode; those of a sort that cannot be read are left out.
pub fn list(pid: Pid) -> HashMap<u64, Socket> {
    let mut found = HashMap::new();
    let Some(process) = i32::try_from(pid.0).ok().and_then(|pid| Process::new(pid).ok()) else {
        return found;
    };
    match sock_diag::list(pid) {
        Ok(listed) => found.extend(listed),
        Err(error) => {
            log::debug!("sock_diag tells nothing of the sockets of process {pid}: {error}");
            for entries in [process.tcp(), process.tcp6()] {
                found.extend(entries.unwrap_or_default().iter().map(|one| (one.inode, tcp(one))));
            }
        }
    }
    for entries in [process.udp(), process.udp6()] {
        found.extend(entries.unwrap_or_default().iter().map(|one| (one.inode, udp(one))));
    }
    found.extend(process.unix().unwrap_or_default().iter().map(|one| (one.inode, unix(one))));
    // What has lost its descriptor has lost its number, too.
    found.remove(&0);
    found
}

/// The inode in what a descriptor leads to: `socket:[4711]`.
pub fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// An address, unless it stands for none.
pub(super) fn address(address: SocketAddr) -> Option<String> {
    let none = address.port() == 0 && address.ip().is_unspecified();
    (!none).then(|| match address {
        // An IPv4 client of an IPv6 socket is an IPv4 client.
        SocketAddr::V6(six) => match six.ip().to_ipv4_mapped() {
            Some(four) => SocketAddr::from((four, six.port())).to_string(),
            None => six.to_string(),
        },
        SocketAddr::V4(four) => four.to_string(),
    })
}

/// What the kernel calls a state of that number, the new ones of younger kernels left out.
pub(crate) fn tcp_state(number: u8) -> Option<&'static str> {
    TcpState::from_u8(number).as_ref().map(state_name)
}

fn state_name(state: &TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTABLISHED",
        TcpState::SynSent => "SYN_SENT",
        TcpState::SynRecv | TcpState::NewSynRecv => "SYN_RECV",
        TcpState::FinWait1 => "FIN_WAIT1",
        TcpState::FinWait2 => "FIN_WAIT2",
        TcpState::TimeWait => "TIME_WAIT",
        TcpState::Close => "CLOSE",
        TcpState::CloseWait => "CLOSE_WAIT",
        TcpState::LastAck => "LAST_ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
    }
}

fn tcp(entry: &TcpNetEntry) -> Socket {
    Socket {
        protocol: "tcp",
        local: address(entry.local_address),
        peer: address(entry.remote_address),
        state: Some(state_name(&entry.state)),
        traffic: None,
    }
}

fn udp(entry: &UdpNetEntry) -> Socket {
    let (local, peer) = (address(entry.local_address), address(entry.remote_address));
    Socket { protocol: "udp", local, peer, state: None, traffic: None }
}

fn unix(entry: &UnixNetEntry) -> Socket {
    let state = match entry.state {
        UnixState::UNCONNECTED => "UNCONNECTED",
        UnixState::CONNECTING => "CONNECTING",
        UnixState::CONNECTED => "CONNECTED",
        UnixState::DISCONNECTING => "DISCONNECTING",
    };
    let local = entry.path.as_ref().map(|path| path.to_string_lossy().into_owned());
    Socket { protocol: "unix", local, peer: None, state: Some(state), traffic: None }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{Shutdown, TcpListener, TcpStream, UdpSocket},
        os::fd::AsRawFd,
    };

    use super::*;
    use crate::target::descriptors;

    fn socket_of(open: &impl AsRawFd) -> Socket {
        let fd = u32::try_from(open.as_raw_fd()).unwrap();
        let link = descriptors::list(Pid::own()).unwrap()[&fd].clone();
        list(Pid::own())[&inode(&link).unwrap()].clone()
    }

    #[test]
    fn both_ends_of_a_connection_are_known_and_a_half_closed_one_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, peer) = listener.accept().unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let seen = socket_of(&listener);
        let listening = (seen.protocol, seen.state, seen.local.as_deref(), seen.peer);
        assert_eq!(listening, ("tcp", Some("LISTEN"), Some(own.as_str()), None));
        let seen = socket_of(&server);
        assert_eq!((seen.peer, seen.state), (Some(peer.to_string()), Some("ESTABLISHED")));
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        assert_eq!(socket_of(&server).state, Some("CLOSE_WAIT"));
        // The first until the other side has confirmed.
        let state = socket_of(&client).state.unwrap();
        assert!(["FIN_WAIT1", "FIN_WAIT2"].contains(&state), "{state}");
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_has_its_own_address() {
        let written = |text: &str| address(text.parse().unwrap());
        assert_eq!(written("[::ffff:10.0.0.7]:443").as_deref(), Some("10.0.0.7:443"));
        assert_eq!(written("[fe80::1]:443").as_deref(), Some("[fe80::1]:443"));
        assert_eq!((written("0.0.0.0:0"), written("[::]:0")), (None, None));
        assert_eq!(written("0.0.0.0:80").as_deref(), Some("0.0.0.0:80"));
    }

    #[test]
    fn other_sockets_are_known_too() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let seen = socket_of(&udp);
        let own = udp.local_addr().unwrap().to_string();
        assert_eq!((seen.protocol, seen.local, seen.state), ("udp", Some(own), None));
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let seen = socket_of(&one);
        assert_eq!((seen.protocol, seen.local, seen.state), ("unix", None, Some("CONNECTED")));
        assert_eq!((inode("socket:[12]"), inode("pipe:[12]")), (Some(12), None));
        assert!(list(Pid(u32::MAX)).is_empty());
    }
}
