//! Daemons with protocols of their own: mosquitto (MQTT), transmission-daemon (JSON over HTTP), tor (SOCKS and its
//! control port). None reaches another host.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    HealthyServer, USUAL,
    traffic::{Ask, Traffic},
    version_of,
};
use crate::{
    packages,
    real::{Started, TOR as TOR_RELAY, TRANSMISSION as TRANSMISSION_DAEMON},
};

/// mosquitto's port, in its own network namespace.
const MQTT: u16 = 1883;
/// The ports that `real/transmission.rs` and `real/tor.rs` configure.
const RPC: u16 = 9091;
const SOCKS: u16 = 9050;
const CONTROL: u16 = 9051;
/// Time limit for an answer: a traced server on a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Requests after which a client reconnects.
const PER_CONNECTION: u64 = 200;

/// mosquitto: publishes with and without a wish to keep the message, received by the same client.
pub(super) const MOSQUITTO: HealthyServer = HealthyServer {
    name: "mosquitto",
    packages: &[&["mosquitto"]],
    version: || {
        let unpacked = packages::debian(&["mosquitto"])?;
        let mut command = Command::new(unpacked.path("usr/sbin/mosquitto")?);
        version_of(command.arg("-h").env("LD_LIBRARY_PATH", unpacked.libraries()?))
    },
    start: |folder| {
        let unpacked = packages::debian(&["mosquitto"])?;
        let file = folder.join("mosquitto.conf");
        let lines = format!(
            "listener {MQTT} 127.0.0.1\nallow_anonymous true\nuser root\nset_tcp_nodelay true\n"
        );
        fs::write(&file, lines + "log_dest none\n")?;
        let mut command = Command::new(unpacked.path("usr/sbin/mosquitto")?);
        command.arg("-c").arg(&file).env("LD_LIBRARY_PATH", unpacked.libraries()?);
        Started::listening(folder, &mut command, MQTT)
    },
    load: |_| Traffic::clients(8, 800, mqtt_client),
    ..USUAL
};

/// transmission-daemon without torrents, polled as its web interface does.
pub(super) const TRANSMISSION: HealthyServer = HealthyServer {
    name: "transmission",
    packages: &[&["transmission-daemon"]],
    version: || {
        let unpacked = packages::debian(&["transmission-daemon"])?;
        let mut command = Command::new(unpacked.path("usr/bin/transmission-daemon")?);
        version_of(command.arg("--version").env("LD_LIBRARY_PATH", unpacked.libraries()?))
    },
    start: TRANSMISSION_DAEMON.start,
    load: |_| Traffic::clients(4, 200, rpc_client),
    ..USUAL
};

/// tor as a relay that is not published: SOCKS requests that it refuses, and questions to its control port.
pub(super) const TOR: HealthyServer = HealthyServer {
    name: "tor",
    packages: &[&["tor"]],
    version: || {
        let unpacked = packages::debian(&["tor"])?;
        let mut command = Command::new(unpacked.path("usr/bin/tor")?);
        version_of(command.arg("--version").env("LD_LIBRARY_PATH", unpacked.libraries()?))
    },
    start: TOR_RELAY.start,
    load: |folder| {
        let cookie = fs::read(folder.join("data/control_auth_cookie"))?;
        let cookie: Vec<String> = cookie.iter().map(|byte| format!("{byte:02x}")).collect();
        let cookie = cookie.concat();
        Traffic::clients(4, 200, move |_| tor_client(cookie.clone()))
    },
    ..USUAL
};

fn connect(port: u16) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    ensure!(stream.read_line(&mut line)? > 0, "the server closed the connection");
    Ok(line.trim_end().to_owned())
}

/// An MQTT 3.1.1 packet: its first byte, and a body whose length is below 16,384.
fn packet(first: u8, body: &[u8]) -> Result<Vec<u8>> {
    let length = body.len();
    let mut packet = vec![first];
    if length >= 128 {
        packet.push(u8::try_from(length % 128)? | 128);
        packet.push(u8::try_from(length / 128)?);
    } else {
        packet.push(u8::try_from(length)?);
    }
    packet.extend_from_slice(body);
    Ok(packet)
}

/// A string of MQTT: its length in two bytes before it.
fn string(text: &str) -> Result<Vec<u8>> {
    Ok([&u16::try_from(text.len())?.to_be_bytes()[..], text.as_bytes()].concat())
}

/// The next packet: its type and its body.
fn read_packet(stream: &mut BufReader<TcpStream>) -> Result<(u8, Vec<u8>)> {
    let mut first = [0];
    stream.read_exact(&mut first)?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 127) << shift;
        shift += 7;
        if byte[0] & 128 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((first[0] >> 4, body))
}

/// Connects and subscribes to the topics of this client.
fn mqtt_connect(client: u32) -> Result<BufReader<TcpStream>> {
    let mut stream = connect(MQTT)?;
    // Protocol level 4, a clean session, a keep-alive of 60 s.
    let hello = [string("MQTT")?, vec![4, 2, 0, 60], string(&format!("client-{client}"))?].concat();
    stream.get_mut().write_all(&packet(0x10, &hello)?)?;
    let (kind, body) = read_packet(&mut stream)?;
    ensure!(kind == 2 && body.get(1) == Some(&0), "CONNECT was answered {kind} {body:?}");
    let topics = [vec![0, 1], string(&format!("sensors/{client}/#"))?, vec![0]].concat();
    stream.get_mut().write_all(&packet(0x82, &topics)?)?;
    // Kept messages may come first.
    while read_packet(&mut stream)?.0 != 9 {}
    Ok(stream)
}

/// Publishes with acknowledgment, and waits for it and for the message itself.
fn mqtt_client(client: u32) -> Result<Ask> {
    let mut stream = mqtt_connect(client)?;
    let mut asked = 0_u64;
    Ok(Box::new(move || {
        asked += 1;
        if asked.is_multiple_of(PER_CONNECTION) {
            stream.get_mut().write_all(&packet(0xe0, &[])?)?;
            stream = mqtt_connect(client)?;
        }
        let topic = string(&format!("sensors/{client}/{}", asked % 50))?;
        let text = "21.5 degrees ".repeat(usize::try_from(1 + asked % 20)?);
        let id = u16::try_from(1 + asked % 60_000)?.to_be_bytes();
        let body = [&topic, &id[..], text.as_bytes()].concat();
        let keep = u8::from(asked.is_multiple_of(10));
        stream.get_mut().write_all(&packet(0x32 | keep, &body)?)?;
        let (mut acknowledged, mut received) = (false, false);
        while !(acknowledged && received) {
            let (kind, body) = read_packet(&mut stream)?;
            acknowledged |= kind == 4 && body == id;
            received |= kind == 3 && body.ends_with(text.as_bytes());
        }
        Ok(())
    }))
}

/// What the web interface asks for again and again.
const QUESTIONS: [&str; 3] = [
    r#"{"method":"session-get"}"#,
    r#"{"method":"session-stats"}"#,
    r#"{"method":"torrent-get","arguments":{"fields":["id","name","status"]}}"#,
];

/// Sends a question; returns the status line, the headers and the answer.
fn rpc(
    stream: &mut BufReader<TcpStream>,
    session: &str,
    question: &str,
) -> Result<(String, Vec<String>, String)> {
    let request = format!(
        "POST /transmission/rpc HTTP/1.1\r\nHost: localhost\r\nX-Transmission-Session-Id: \
         {session}\r\nContent-Length: {}\r\n\r\n{question}",
        question.len()
    );
    stream.get_mut().write_all(request.as_bytes())?;
    let status = line(stream)?;
    let mut headers = Vec::new();
    loop {
        let header = line(stream)?;
        if header.is_empty() {
            break;
        }
        headers.push(header);
    }
    let length = header(&headers, "content-length").context("a Content-Length")?.parse()?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok((status, headers, String::from_utf8_lossy(&answer).into_owned()))
}

fn header<'a>(headers: &'a [String], name: &str) -> Option<&'a str> {
    headers.iter().find_map(|header| {
        let (key, value) = header.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Learns the session's number from the refusal of a first request, as every client does.
fn rpc_client(_: u32) -> Result<Ask> {
    let mut stream = connect(RPC)?;
    let (status, headers, _) = rpc(&mut stream, "", QUESTIONS[0])?;
    let session = header(&headers, "x-transmission-session-id")
        .with_context(|| format!("no session: {status}"))?
        .to_owned();
    let (mut asked, mut questions) = (0_u64, QUESTIONS.iter().cycle());
    // The server closes a connection after a refusal.
    stream = connect(RPC)?;
    Ok(Box::new(move || {
        asked += 1;
        if asked.is_multiple_of(PER_CONNECTION) {
            stream = connect(RPC)?;
        }
        let question = questions.next().context("an endless cycle")?;
        let (status, _, answer) = rpc(&mut stream, &session, question)?;
        ensure!(answer.contains("\"result\":\"success\""), "{question}: {status}\n{answer}");
        Ok(())
    }))
}

/// Logs in to the control port.
fn tor_controller(cookie: &str) -> Result<BufReader<TcpStream>> {
    let mut control = connect(CONTROL)?;
    control.get_mut().write_all(format!("AUTHENTICATE {cookie}\r\n").as_bytes())?;
    let said = line(&mut control)?;
    ensure!(said == "250 OK", "AUTHENTICATE was answered `{said}`");
    Ok(control)
}

/// Asks the controller, or requests a connection to a closed port of the host itself, which tor refuses.
fn tor_client(cookie: String) -> Result<Ask> {
    let mut control = tor_controller(&cookie)?;
    let mut asked = 0_u64;
    Ok(Box::new(move || {
        asked += 1;
        if asked.is_multiple_of(PER_CONNECTION) {
            control = tor_controller(&cookie)?;
        }
        if asked.is_multiple_of(2) {
            control.get_mut().write_all(b"GETINFO version traffic/read circuit-status\r\n")?;
            while line(&mut control)? != "250 OK" {}
            return Ok(());
        }
        let mut program = connect(SOCKS)?;
        // SOCKS 5, one method, none: RFC 1928.
        program.get_mut().write_all(&[5, 1, 0])?;
        let mut chosen = [0; 2];
        program.read_exact(&mut chosen)?;
        // CONNECT to port 1 of 127.0.0.1.
        program.get_mut().write_all(&[5, 1, 0, 1, 127, 0, 0, 1, 0, 1])?;
        let mut answer = [0; 10];
        program.read_exact(&mut answer)?;
        ensure!(chosen == [5, 0] && answer[1] != 0, "SOCKS was answered {chosen:?} {answer:?}");
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_lengths_as_mqtt_writes_them() -> Result<()> {
        assert_eq!(packet(0xe0, &[])?, [0xe0, 0]);
        assert_eq!(packet(0x30, &[7; 127])?[..2], [0x30, 127]);
        // 321 is 65 + 2 x 128: the example of the standard, 2.2.3.
        assert_eq!(packet(0x30, &[7; 321])?[..3], [0x30, 65 + 128, 2]);
        assert_eq!(string("a/b")?, [0, 3, b'a', b'/', b'b']);
        Ok(())
    }

    #[test]
    fn a_header_is_found_in_any_case() {
        let headers = ["Content-Length: 12".to_owned()];
        assert_eq!(header(&headers, "content-length"), Some("12"));
        assert_eq!(header(&headers, "x"), None);
    }
}
