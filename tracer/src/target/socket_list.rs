//! Lists the sockets of a process's network namespace: TCP sockets by `sock_diag`, else by `/proc/PID/net`, which also
//! lists the others.
//!
//! Takes a process, hands on its sockets by inode. A protocol that cannot be read is left out: it fails nobody.

use std::collections::HashMap;

use procfs::{
    net::{TcpNetEntry, UdpNetEntry, UnixNetEntry, UnixState},
    process::Process,
};

use super::{
    Pid, sock_diag,
    sockets::{Socket, address, state_name},
};

/// The sockets of a process's network namespace by inode; without those of protocols that cannot be read.
pub fn list(pid: Pid) -> HashMap<u64, Socket> {
    let mut found = HashMap::new();
    let Some(process) = i32::try_from(pid.0).ok().and_then(|pid| Process::new(pid).ok()) else {
        return found;
    };
    match sock_diag::list(pid) {
        Ok(listed) => found.extend(listed),
        Err(error) => {
            log::debug!("could not list the sockets of process {pid} by sock_diag: {error}");
            for entries in [process.tcp(), process.tcp6()] {
                found.extend(entries.unwrap_or_default().iter().map(|one| (one.inode, tcp(one))));
            }
        }
    }
    for entries in [process.udp(), process.udp6()] {
        found.extend(entries.unwrap_or_default().iter().map(|one| (one.inode, udp(one))));
    }
    found.extend(process.unix().unwrap_or_default().iter().map(|one| (one.inode, unix(one))));
    // A socket without a descriptor has inode 0.
    found.remove(&0);
    found
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
    use crate::target::{descriptors, sockets::inode};

    fn socket_of(open: &impl AsRawFd) -> Socket {
        let fd = u32::try_from(open.as_raw_fd()).unwrap();
        let link = descriptors::list(Pid::own()).unwrap()[&fd].clone();
        list(Pid::own())[&inode(&link).unwrap()].clone()
    }

    #[test]
    fn both_ends_of_a_connection_and_its_half_closed_state_are_reported() {
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
        // `FIN_WAIT1` until the peer has acknowledged the FIN.
        let state = socket_of(&client).state.unwrap();
        assert!(["FIN_WAIT1", "FIN_WAIT2"].contains(&state), "{state}");
    }

    #[test]
    fn udp_and_unix_sockets_are_listed() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let seen = socket_of(&udp);
        let own = udp.local_addr().unwrap().to_string();
        assert_eq!((seen.protocol, seen.local, seen.state), ("udp", Some(own), None));
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let seen = socket_of(&one);
        assert_eq!((seen.protocol, seen.local, seen.state), ("unix", None, Some("CONNECTED")));
        assert!(list(Pid(u32::MAX)).is_empty());
    }
}
