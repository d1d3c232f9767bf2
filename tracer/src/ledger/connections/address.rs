//! Addresses of connections, from records and from `/proc`. Pure.

use std::{
    fmt::{self, Display, Formatter},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use tracer_common::{
    connection::{INET, INET6, Role, TCP, UNIX},
    record::Connected,
};

/// The address of one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Address and port.
    Internet(SocketAddr),
    /// Name of a unix socket; an abstract one begins with `@`.
    Unix(Arc<str>),
}

impl Address {
    /// Parses an address: `10.0.0.7:443`, or the name of a unix socket.
    pub(super) fn parse(text: &str) -> Self {
        match text.parse::<SocketAddr>() {
            Ok(address) => Self::Internet(canonical(address.ip(), address.port())),
            Err(_) => Self::Unix(Arc::from(text)),
        }
    }
}

impl Display for Address {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(out),
            Self::Unix(name) => out.write_str(name),
        }
    }
}

/// Converts an IPv4-mapped IPv6 address to IPv4.
fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

/// The ends of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) local: Option<Address>,
    pub(super) peer: Option<Address>,
    /// The name of a unix connection, if it is unknown which end it belongs to.
    pub(super) via: Option<Address>,
}

/// The addresses in a record.
pub(super) fn ends(record: &Connected) -> Ends {
    if record.family == UNIX {
        let name = name(record);
        return match Role::from_number(record.role) {
            Role::Accepted => Ends { local: name.clone(), peer: None, via: name },
            Role::Connected => Ends { local: None, peer: name, via: None },
            Role::Before => Ends { local: None, peer: None, via: name },
        };
    }
    let address = |bytes: [u8; 16], port: u16| {
        let [a, b, c, d, ..] = bytes;
        let ip = match record.family {
            INET => IpAddr::from([a, b, c, d]),
            INET6 => IpAddr::V6(Ipv6Addr::from(bytes)),
            _ => return None,
        };
        // The unspecified address means no address.
        let none = port == 0 && ip.is_unspecified();
        (!none).then(|| Address::Internet(canonical(ip, port)))
    };
    let local = address(record.local, record.local_port);
    Ends { local, peer: address(record.peer, record.peer_port), via: None }
}

fn name(record: &Connected) -> Option<Address> {
    let length = usize::try_from(record.path_length).ok()?;
    let bytes = record.path.get(..length.min(record.path.len()))?;
    let (mark, bytes) = match bytes {
        [] => return None,
        // In an abstract name, all bytes count.
        [0, rest @ ..] => ("@", rest),
        path => ("", path.split(|byte| *byte == 0).next().unwrap_or_default()),
    };
    Some(Address::Unix(format!("{mark}{}", String::from_utf8_lossy(bytes)).into()))
}

/// The name of a connection's protocol, as in reports.
pub(super) const fn protocol(record: &Connected) -> &'static str {
    /// `IPPROTO_UDP` and `IPPROTO_SCTP` of `ip(7)`.
    const UDP: u8 = 17;
    const SCTP: u8 = 132;
    match (record.family, record.protocol) {
        (UNIX, _) => "unix",
        (_, TCP) => "tcp",
        (_, UDP) => "udp",
        (_, SCTP) => "sctp",
        _ => "socket",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::connections::tests::record;

    fn written(record: &Connected) -> [Option<String>; 2] {
        let ends = ends(record);
        [ends.local.map(|one| one.to_string()), ends.peer.map(|one| one.to_string())]
    }

    fn named(path: &[u8], role: Role) -> Connected {
        let mut record = Connected { family: UNIX, role: role as u8, ..record(1) };
        record.path[..path.len()].copy_from_slice(path);
        record.path_length = u32::try_from(path.len()).unwrap();
        record
    }

    #[test]
    fn internet_addresses_have_the_standard_notation() {
        let mut four = Connected { family: INET, local_port: 80, peer_port: 50122, ..record(1) };
        four.local[..4].copy_from_slice(&[10, 0, 0, 1]);
        four.peer[..4].copy_from_slice(&[10, 0, 0, 7]);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(written(&four), [text("10.0.0.1:80"), text("10.0.0.7:50122")]);
        let mut six = Connected { family: INET6, ..four };
        six.peer = "::ffff:10.0.0.9".parse::<Ipv6Addr>().unwrap().octets();
        six.local = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(written(&six), [text("[2001:db8::7]:80"), text("10.0.0.9:50122")]);
        let none = Connected { peer_port: 0, peer: [0; 16], ..four };
        assert_eq!(written(&none)[1], None);
    }

    #[test]
    fn a_name_belongs_to_the_side_that_was_connected_to() {
        let text = |text: &str| Some(text.to_owned());
        let path = b"/run/bus.sock\0";
        assert_eq!(written(&named(path, Role::Accepted)), [text("/run/bus.sock"), None]);
        assert_eq!(written(&named(path, Role::Connected)), [None, text("/run/bus.sock")]);
        let abstracted = named(b"\0bus", Role::Connected);
        assert_eq!(written(&abstracted), [None, text("@bus")]);
        let before = named(path, Role::Before);
        assert_eq!(written(&before), [None, None]);
        assert_eq!(ends(&before).via, Some(Address::Unix(Arc::from("/run/bus.sock"))));
        assert_eq!(written(&named(b"", Role::Accepted)), [None, None]);
        let long = Connected { path_length: u32::MAX, ..named(path, Role::Connected) };
        assert_eq!(written(&long), [None, text("/run/bus.sock")]);
    }
}
