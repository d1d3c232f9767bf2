//! Lists the TCP sockets of a network namespace by `sock_diag(7)`.
//!
//! `sock_diag` can omit sockets in `TIME_WAIT`. `/proc/PID/net/tcp` lists them: after a hundred thousand short
//! connections it has as many lines, reading it takes seconds, and in that time nothing drains the maps.

use std::{
    collections::HashMap, fs::File, io, net::SocketAddr as Address, os::fd::AsFd as _, thread,
};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket as Netlink, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{
    Pid,
    sockets::{Socket, Traffic, address, namespace, tcp_state},
};

/// Size of the receive buffer, bytes: the kernel fills 32 KiB at most.
const AT_ONCE: usize = 1 << 16;

/// The TCP sockets of a process's network namespace by inode, without those in `TIME_WAIT`, which have no descriptor.
/// Fails if the kernel was built without `tcp_diag`, or if we may not enter that namespace.
pub(super) fn list(pid: Pid) -> io::Result<HashMap<u64, Socket>> {
    let socket = open(pid)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // The kernel answers a request at once; what is not there then will never come.
    socket.set_non_blocking(true)?;
    let mut found = HashMap::new();
    for (family, any) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        send_request(&socket, family, any)?;
        while receive(&socket, &mut found)? {}
    }
    Ok(found)
}

/// Opens a netlink socket in a process's network namespace.
fn open(pid: Pid) -> io::Result<Netlink> {
    let open = || {
        let mut socket = Netlink::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        Ok(socket)
    };
    let name = namespace(pid);
    if name.is_some() && name == namespace(Pid::own()) {
        return open();
    }
    let theirs = File::open(pid.proc_path("ns/net"))?;
    // A socket stays in the namespace in which it was opened; the thread that enters the namespace ends at once.
    let opener = thread::Builder::new().name("namespace".to_owned()).spawn(move || {
        move_into_link_name_space(theirs.as_fd(), Some(LinkNameSpaceType::Network))?;
        open()
    })?;
    opener
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace has failed")))
}

fn send_request(socket: &Netlink, family: u8, socket_id: SocketId) -> io::Result<()> {
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::all() - StateFlags::TIME_WAIT,
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

/// Receives a part of the answer; `false` at its end.
fn receive(socket: &Netlink, found: &mut HashMap<u64, Socket>) -> io::Result<bool> {
    let mut bytes = Vec::with_capacity(AT_ONCE);
    socket.recv(&mut bytes, 0)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let length = usize::try_from(message.header.length).unwrap_or(rest.len());
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(one))
                if one.header.inode != 0 =>
            {
                found.insert(one.header.inode.into(), socket_of(&one));
            }
            NetlinkPayload::Done(_) => return Ok(false),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            _ => {}
        }
        // Messages are aligned to four bytes.
        rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    Ok(true)
}

fn socket_of(one: &InetResponse) -> Socket {
    let state = tcp_state(one.header.state);
    let traffic = one.nlas.iter().find_map(|part| match part {
        Nla::TcpInfo(info) => Some(Traffic::of(state, info.bytes_received, info.bytes_acked)),
        _ => None,
    });
    let ends = &one.header.socket_id;
    Socket {
        protocol: "tcp",
        local: address(Address::new(ends.source_address, ends.source_port)),
        peer: address(Address::new(ends.destination_address, ends.destination_port)),
        state,
        traffic,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
    };

    use super::*;
    use crate::target::{descriptors, sockets};

    fn traffic_of(open: &impl AsRawFd) -> Traffic {
        let fd = u32::try_from(open.as_raw_fd()).unwrap();
        let link = descriptors::list(Pid::own()).unwrap()[&fd].clone();
        list(Pid::own()).unwrap()[&sockets::inode(&link).unwrap()].traffic.unwrap()
    }

    #[test]
    fn traffic_is_reported_for_both_ends() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[1; 1_000]).unwrap();
            server.read_exact(&mut [0; 1_000]).unwrap();
            // The reply acknowledges the request.
            server.write_all(&[2; 30]).unwrap();
            client.read_exact(&mut [0; 30]).unwrap();
            client.write_all(&[3; 5]).unwrap();
            server.read_exact(&mut [0; 5]).unwrap();
            assert_eq!(traffic_of(&server), Traffic { received: 1_005, sent: 30 });
            let seen = traffic_of(&client);
            assert_eq!(seen.received, 30);
            // The last bytes may not be acknowledged yet.
            assert!([1_001, 1_006].contains(&seen.sent), "{seen:?}");
        }
    }
}
