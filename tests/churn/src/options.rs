//! The parameters of a `churn` run: parsed from the command line, and rejected if they would leave this machine.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::SockAddr;

use crate::ways::{WAYS, Way};

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http,
    /// A WebSocket, from its upgrade on.
    Websocket,
    /// HTTP/1.1 over TLS 1.2 or 1.3.
    Tls,
    /// The protocol of `ZeroMQ`, version 3.0, as a `DEALER` without security.
    Zmtp,
    /// No protocol: plain bytes.
    Tcp,
}

/// The protocols' names in options.
const PROTOCOLS: [(&str, Protocol); 5] = [
    ("http", Protocol::Http),
    ("websocket", Protocol::Websocket),
    ("tls", Protocol::Tls),
    ("zmtp", Protocol::Zmtp),
    ("tcp", Protocol::Tcp),
];

impl Protocol {
    /// Its name in options.
    pub(crate) fn name(self) -> &'static str {
        PROTOCOLS.iter().find(|(_, protocol)| *protocol == self).map_or("", |(name, _)| name)
    }
}

/// Upper bounds, so that a typo does not keep a machine busy for days. Each concurrent connection is a thread.
const MOST_CONNECTIONS: u64 = 10_000_000;
const MOST_AT_ONCE: u64 = 1000;
const MOST_SECONDS: u64 = 24 * 60 * 60;

/// Connections per source address. An address has 28,232 ports to one server, and each port stays in `TIME_WAIT` for a
/// minute if we closed first: this leaves ports for the next runs.
const CONNECTIONS_PER_SOURCE: u64 = 5000;
/// The last of 127.0.0.1 … 127.0.0.254.
const MOST_SOURCES: u64 = 254;

/// The parameters of a run.
#[derive(Clone, Debug)]
pub struct Order {
    /// Address of the server.
    pub(crate) target: SockAddr,
    /// The server's name for messages.
    pub(crate) target_name: String,
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// The path of HTTP requests.
    pub(crate) path: String,
    /// Ways to use connections, in turn.
    pub(crate) ways: Vec<&'static Way>,
    /// Number of connections.
    pub(crate) connections: u64,
    /// Number of concurrent connections.
    pub(crate) at_once: u64,
    /// Time limit.
    pub(crate) limit: Duration,
    /// Source addresses, in turn; without an address the kernel chooses.
    pub(crate) sources: Vec<(String, Option<SockAddr>)>,
    /// The random seed.
    pub(crate) seed: u64,
    /// JSON instead of a table.
    pub json: bool,
}

/// The options as typed, before validation.
#[derive(Clone, Debug, Default)]
struct Typed<'a> {
    port: Option<&'a str>,
    address: Option<&'a str>,
    unix: Option<&'a str>,
    protocol: Option<&'a str>,
    path: Option<&'a str>,
    ways: Option<&'a str>,
    connections: Option<&'a str>,
    at_once: Option<&'a str>,
    seconds: Option<&'a str>,
    from: Option<&'a str>,
    seed: Option<&'a str>,
    json: bool,
}

impl Order {
    /// Parses the words after `churn`.
    pub fn read(words: &[&str]) -> Result<Self> {
        let typed = typed(words)?;
        let protocol = match typed.protocol {
            None => Protocol::Http,
            Some(name) => PROTOCOLS
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, protocol)| *protocol)
                .with_context(|| {
                    format!(
                        "no protocol `{name}`\nhelp: {}",
                        PROTOCOLS.map(|(name, _)| name).join(", ")
                    )
                })?,
        };
        let connections = number("--connections", typed.connections, 1000, MOST_CONNECTIONS)?;
        let (target, target_name, ip) = target(&typed)?;
        Ok(Self {
            sources: sources(typed.from, ip, connections)?,
            ways: ways(typed.ways.unwrap_or("all"), protocol, ip.is_some())?,
            target,
            target_name,
            protocol,
            path: path(typed.path.unwrap_or("/"))?,
            connections,
            at_once: number("--at-once", typed.at_once, 50, MOST_AT_ONCE)?,
            limit: Duration::from_secs(number("--seconds", typed.seconds, 30, MOST_SECONDS)?),
            seed: match typed.seed {
                None => 1,
                Some(word) => {
                    word.parse().with_context(|| format!("`--seed {word}` is not a number"))?
                }
            },
            json: typed.json,
        })
    }
}

fn typed<'a>(words: &[&'a str]) -> Result<Typed<'a>> {
    let mut typed = Typed::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let place = match *word {
            "--json" => {
                typed.json = true;
                continue;
            }
            "--port" => &mut typed.port,
            "--address" => &mut typed.address,
            "--unix" => &mut typed.unix,
            "--protocol" => &mut typed.protocol,
            "--path" => &mut typed.path,
            "--ways" => &mut typed.ways,
            "--connections" => &mut typed.connections,
            "--at-once" => &mut typed.at_once,
            "--seconds" => &mut typed.seconds,
            "--from" => &mut typed.from,
            "--seed" => &mut typed.seed,
            other => bail!("unknown option `{other}`\nhelp: cargo xtask churn --help"),
        };
        *place = Some(words.next().with_context(|| format!("`{word}` without a value"))?);
    }
    Ok(typed)
}

/// Parses a number from 1 to `most`.
fn number(name: &str, word: Option<&str>, default: u64, most: u64) -> Result<u64> {
    let Some(word) = word else { return Ok(default) };
    let value = word.parse().with_context(|| format!("`{name} {word}` is not a whole number"))?;
    ensure!((1..=most).contains(&value), "`{name} {word}` is not in 1 … {most}");
    Ok(value)
}

/// Parses an address of this machine.
fn loopback(word: &str) -> Result<IpAddr> {
    let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
    let address: IpAddr = bare.parse().with_context(|| format!("`{word}` is not an IP address"))?;
    ensure!(
        address.is_loopback(),
        "churn stays on loopback: `{word}` is another address\nhelp: 127.0.0.1 … 127.255.255.254, or [::1]"
    );
    Ok(address)
}

/// The server's address, its name, and its IP address unless it is a path.
fn target(typed: &Typed<'_>) -> Result<(SockAddr, String, Option<IpAddr>)> {
    if let Some(path) = typed.unix {
        ensure!(
            typed.port.is_none() && typed.address.is_none() && typed.from.is_none(),
            "`--unix` has neither `--port`, `--address` nor `--from`"
        );
        let address = SockAddr::unix(path).with_context(|| format!("could not use `{path}`"))?;
        return Ok((address, path.to_owned(), None));
    }
    let ip = loopback(typed.address.unwrap_or("127.0.0.1"))?;
    let word = typed.port.context("where is the server?\nhelp: --port N, or --unix PATH")?;
    let port: u16 = word.parse().with_context(|| format!("`--port {word}` is not a port"))?;
    ensure!(port != 0, "`--port 0` is not a port");
    let address = SocketAddr::new(ip, port);
    Ok((address.into(), address.to_string(), Some(ip)))
}

fn sources(
    from: Option<&str>,
    target: Option<IpAddr>,
    connections: u64,
) -> Result<Vec<(String, Option<SockAddr>)>> {
    let bound = |ip: IpAddr| (ip.to_string(), Some(SocketAddr::new(ip, 0).into()));
    match (from, target) {
        (_, None) => Ok(vec![("unix".to_owned(), None)]),
        (Some(list), Some(target)) => list
            .split(',')
            .map(|word| {
                let ip = loopback(word)?;
                ensure!(ip.is_ipv4() == target.is_ipv4(), "`--from {word}` cannot reach {target}");
                Ok(bound(ip))
            })
            .collect(),
        (None, Some(IpAddr::V6(target))) => Ok(vec![bound(target.into())]),
        (None, Some(IpAddr::V4(_))) => {
            let count = connections.div_ceil(CONNECTIONS_PER_SOURCE).min(MOST_SOURCES);
            let last = u8::try_from(count).unwrap_or(u8::MAX);
            Ok((1..=last).map(|last| bound(Ipv4Addr::new(127, 0, 0, last).into())).collect())
        }
    }
}

fn path(word: &str) -> Result<String> {
    let plain = word.starts_with('/') && word.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(plain, "`--path {word}` is not a path");
    Ok(word.to_owned())
}

/// The ways of this list that the protocol supports; a Unix socket has no reset.
fn ways(list: &str, protocol: Protocol, tcp: bool) -> Result<Vec<&'static Way>> {
    let fits = |way: &&Way| way.protocols.contains(&protocol) && (tcp || way.name != "reset");
    if list == "all" {
        return Ok(WAYS.iter().filter(fits).collect());
    }
    let known = || WAYS.iter().filter(fits).map(|way| way.name).collect::<Vec<_>>().join(", ");
    list.split(',')
        .map(|name| {
            WAYS.iter().filter(fits).find(|way| way.name == name).with_context(|| {
                let name = protocol.name().to_owned() + &format!(" has no way `{name}`");
                format!("{name}\nhelp: {}", known())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(words: &[&str]) -> String {
        format!("{:#}", Order::read(words).unwrap_err())
    }

    #[test]
    fn other_machines_are_refused() {
        for address in
            ["10.0.0.1", "0.0.0.0", "[::]", "192.168.1.1", "2001:db8::1", "::ffff:8.8.8.8"]
        {
            let words = ["--port", "80", "--address", address];
            assert!(refusal(&words).starts_with("churn stays on loopback"), "{address}");
            let words = ["--port", "80", "--from", address];
            assert!(refusal(&words).starts_with("churn stays on loopback"), "{address}");
        }
        assert!(refusal(&["--port", "80", "--address", "localhost"]).contains("not an IP address"));
        assert!(Order::read(&["--port", "80", "--address", "[::1]"]).is_ok());
    }

    #[test]
    fn an_invalid_option_is_named() {
        assert!(refusal(&[]).contains("--port N"));
        assert!(refusal(&["--port", "0"]).contains("not a port"));
        assert!(refusal(&["--port", "1", "--at-once", "0"]).contains("1 … 1000"));
        assert!(
            refusal(&["--port", "1", "--ways", "unmasked"]).contains("http has no way `unmasked`")
        );
        assert!(refusal(&["--unix", "a", "--ways", "reset"]).contains("has no way `reset`"));
        assert!(refusal(&["--unix", "a", "--port", "1"]).contains("`--unix` has neither"));
        assert!(refusal(&["--port", "1", "--from", "::1"]).contains("cannot reach"));
        assert!(refusal(&["--port"]).contains("without a value"));
    }

    #[test]
    fn many_connections_come_from_many_addresses() {
        let order = |connections: &str| {
            Order::read(&["--port", "1", "--connections", connections]).unwrap().sources
        };
        assert_eq!(order("5000").len(), 1);
        assert_eq!(order("5001").last().unwrap().0, "127.0.0.2");
        assert_eq!(order("10000000").last().unwrap().0, "127.0.0.254");
    }

    #[test]
    fn every_way_has_a_name_of_its_own_and_a_protocol() {
        for (at, way) in WAYS.iter().enumerate() {
            assert!(!way.protocols.is_empty(), "{}", way.name);
            assert!(WAYS[at + 1..].iter().all(|other| other.name != way.name), "{}", way.name);
        }
    }
}
