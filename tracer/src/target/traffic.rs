//! Bytes that TCP connections have carried, as the kernel counts them: `sock_diag(7)`.

use std::{collections::HashMap, io};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

/// Bytes taken from the kernel at once: it fills 32 KiB at most.
const AT_ONCE: usize = 1 << 16;

/// What a connection has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub received: u64,
    /// Bytes that the other side has confirmed. For the side that connected, the kernel counts its first packet as
    /// one; for the side that closed, its last one.
    pub sent: u64,
}

/// What the TCP connections of our own network namespace have carried, by inode. Those of others are in no list:
/// numbers of inodes are the whole kernel's, so none is taken for another.
pub fn list() -> io::Result<HashMap<u64, Traffic>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // A list is there when it was asked for; what is not will never come.
    socket.set_non_blocking(true)?;
    let mut found = HashMap::new();
    for (family, any) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        ask(&socket, family, any)?;
        while receive(&socket, &mut found)? {}
    }
    Ok(found)
}

fn ask(socket: &Socket, family: u8, socket_id: SocketId) -> io::Result<()> {
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::all() - StateFlags::LISTEN - StateFlags::TIME_WAIT,
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).map(drop)
}

/// Takes some of the answer; `false` at its end.
fn receive(socket: &Socket, found: &mut HashMap<u64, Traffic>) -> io::Result<bool> {
    let mut bytes = Vec::with_capacity(AT_ONCE);
    socket.recv(&mut bytes, 0)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let length = usize::try_from(message.header.length).unwrap_or(rest.len());
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(one)) => {
                found.extend(traffic(&one));
            }
            NetlinkPayload::Done(_) => return Ok(false),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            _ => {}
        }
        // Each begins at a multiple of four bytes.
        rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    Ok(true)
}

fn traffic(one: &InetResponse) -> Option<(u64, Traffic)> {
    let info = one.nlas.iter().find_map(|part| match part {
        Nla::TcpInfo(info) => Some(info),
        _ => None,
    })?;
    let traffic = Traffic { received: info.bytes_received, sent: info.bytes_acked };
    (one.header.inode != 0).then_some((u64::from(one.header.inode), traffic))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
    };

    use super::*;
    use crate::target::{Pid, descriptors, sockets};

    fn of(open: &impl AsRawFd) -> Traffic {
        let fd = u32::try_from(open.as_raw_fd()).unwrap();
        let link = descriptors::list(Pid::own()).unwrap()[&fd].clone();
        list().unwrap()[&sockets::inode(&link).unwrap()]
    }

    #[test]
    fn what_two_sides_have_exchanged_is_known_of_both() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[1; 1_000]).unwrap();
            server.read_exact(&mut [0; 1_000]).unwrap();
            // With the answer the question is confirmed.
            server.write_all(&[2; 30]).unwrap();
            client.read_exact(&mut [0; 30]).unwrap();
            client.write_all(&[3; 5]).unwrap();
            server.read_exact(&mut [0; 5]).unwrap();
            assert_eq!(of(&server), Traffic { received: 1_005, sent: 30 });
            let seen = of(&client);
            assert_eq!(seen.received, 30);
            // The last bytes may not be confirmed yet.
            assert!([1_001, 1_006].contains(&seen.sent), "{seen:?}");
        }
    }
}
