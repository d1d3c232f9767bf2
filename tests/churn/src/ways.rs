//! The ways in which `churn` uses connections: a table, each with its implementation.

use std::{thread, time::Duration};

use crate::{
    options::Protocol::{self, Http, Tcp, Tls, Websocket, Zmtp},
    talk::{ANSWER_LIMIT, End, Fault, PATIENCE, Talk},
    tls::hello_without_common_cipher,
    words::{TEXT, greeting, masked},
};

/// One way to use a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Its name for `--ways`.
    pub(crate) name: &'static str,
    /// Its description.
    pub(crate) sentence: &'static str,
    /// The protocols that support it.
    pub(crate) protocols: &'static [Protocol],
    /// Runs it on an established connection.
    pub(crate) act: fn(&mut Talk<'_>) -> Result<End, Fault>,
}

/// How long a silent connection stays open.
const HELD: Duration = Duration::from_millis(200);
/// Pause between two bytes of a slow writer.
const BYTE_PAUSE: Duration = Duration::from_millis(1);
/// Pause between two reads of a slow reader.
const READ_PAUSE: Duration = Duration::from_millis(10);
/// Requests on a keep-alive connection.
const KEPT: usize = 3;

const ALL: &[Protocol] = &[Http, Websocket, Tls, Zmtp, Tcp];
const WEB: &[Protocol] = &[Http, Tls];

/// Every way.
#[rustfmt::skip]
pub(crate) const WAYS: [Way; 23] = [
    Way { name: "polite", sentence: "sends a request, reads the answer, ends the protocol; then we and the server close in turn", protocols: ALL, act: polite },
    Way { name: "we-first", sentence: "sends a request, reads the answer, closes without ending the protocol", protocols: ALL, act: we_first },
    Way { name: "server-first", sentence: "sends a request, reads the answer, has the server close and waits for that", protocols: &[Http, Websocket, Tls], act: server_first },
    Way { name: "keep-alive", sentence: "three requests on one connection, then closes", protocols: &[Http, Websocket, Tls], act: keep_alive },
    Way { name: "reset", sentence: "sends a request, and resets the connection without reading", protocols: ALL, act: reset },
    Way { name: "half-close", sentence: "sends a request, shuts down our half, reads the rest", protocols: &[Http, Tls, Tcp], act: half_close },
    Way { name: "mid-request", sentence: "closes in the middle of a request's headers", protocols: &[Http, Websocket, Tls], act: mid_request },
    Way { name: "mid-body", sentence: "announces a body, frame or message, sends a part, closes", protocols: &[Http, Websocket, Tls, Zmtp], act: mid_body },
    Way { name: "silent", sentence: "connects, says nothing for 200 ms, closes", protocols: ALL, act: silent },
    Way { name: "connect-close", sentence: "connects and closes at once", protocols: ALL, act: connect_close },
    Way { name: "slow-reader", sentence: "sends forty requests, reads little and slowly, closes with data unread", protocols: WEB, act: slow_reader },
    Way { name: "slow-writer", sentence: "sends a request one byte at a time, then reads the answer and closes", protocols: ALL, act: slow_writer },
    Way { name: "http-malformed", sentence: "sends malformed HTTP, waits for the reaction", protocols: WEB, act: http_malformed },
    Way { name: "bad-upgrade", sentence: "requests a WebSocket without a key", protocols: &[Websocket], act: bad_upgrade },
    Way { name: "reserved-bits", sentence: "opens a WebSocket, sends a frame with reserved bits", protocols: &[Websocket], act: reserved_bits },
    Way { name: "unmasked", sentence: "opens a WebSocket, sends a frame that is not masked", protocols: &[Websocket], act: unmasked },
    Way { name: "bad-greeting", sentence: "sends a greeting with a wrong signature or mechanism", protocols: &[Zmtp], act: bad_greeting },
    Way { name: "cut-greeting", sentence: "closes in the middle of the greeting", protocols: &[Zmtp], act: cut_greeting },
    Way { name: "garbage", sentence: "sends random bytes, waits for the reaction", protocols: &[Tcp, Zmtp], act: garbage },
    Way { name: "tls-no-cipher", sentence: "offers no cipher that the server has", protocols: &[Tls], act: tls_no_cipher },
    Way { name: "tls-garbage", sentence: "sends random bytes instead of a ClientHello", protocols: &[Tls], act: garbage },
    Way { name: "tls-cut", sentence: "closes after the ClientHello", protocols: &[Tls], act: tls_cut },
    Way { name: "tls-untrusted", sentence: "does not trust the certificate and says so", protocols: &[Tls], act: tls_untrusted },
];

fn polite(talk: &mut Talk<'_>) -> Result<End, Fault> {
    if talk.number % 2 == 1 && [Http, Websocket, Tls].contains(&talk.order.protocol) {
        return server_first(talk);
    }
    talk.open()?;
    talk.ask(false)?;
    talk.end_protocol()?;
    Ok(End::ByUs)
}

fn we_first(talk: &mut Talk<'_>) -> Result<End, Fault> {
    talk.open()?;
    talk.ask(false)?;
    Ok(End::ByUs)
}

fn server_first(talk: &mut Talk<'_>) -> Result<End, Fault> {
    talk.open()?;
    talk.ask(true)?;
    if talk.order.protocol == Websocket {
        // A server that has answered a `Close` closes the connection (RFC 6455, 7.1.1).
        talk.end_protocol()?;
    }
    talk.expect_close()
}

fn keep_alive(talk: &mut Talk<'_>) -> Result<End, Fault> {
    talk.open()?;
    for _ in 0..KEPT {
        talk.ask(false)?;
    }
    talk.end_protocol()?;
    Ok(End::ByUs)
}

fn reset(talk: &mut Talk<'_>) -> Result<End, Fault> {
    talk.open()?;
    let request = talk.request(false);
    talk.line.send(&request)?;
    talk.line.reset()?;
    Ok(End::ResetByUs)
}

fn half_close(talk: &mut Talk<'_>) -> Result<End, Fault> {
    talk.open()?;
    let request = talk.request(false);
    talk.line.send(&request)?;
    talk.line.close_notify()?;
    talk.line.half_close()?;
    talk.drain(PATIENCE)
}

fn mid_request(talk: &mut Talk<'_>) -> Result<End, Fault> {
    let bytes = if talk.order.protocol == Websocket {
        talk.upgrade()
    } else {
        talk.open()?;
        talk.request(false)
    };
    cut(talk, &bytes)
}

/// Sends a part of a request, at least one byte and not all, and closes.
fn cut(talk: &mut Talk<'_>, bytes: &[u8]) -> Result<End, Fault> {
    let end = talk.rng.usize(1..bytes.len());
    talk.line.send(bytes.get(..end).unwrap_or_default())?;
    Ok(End::ByUs)
}

fn mid_body(talk: &mut Talk<'_>) -> Result<End, Fault> {
    talk.open()?;
    let bytes = match talk.order.protocol {
        // A text of 1,000 bytes; masked by zeros.
        Websocket => b"\x81\xfe\x03\xe8\0\0\0\0".to_vec(),
        // The last frame of a message, 200 bytes.
        Zmtp => b"\x00\xc8".to_vec(),
        _ => talk.http("POST", "Content-Length: 1000\r\n"),
    };
    talk.line.send(&[bytes, vec![b'x'; 100]].concat())?;
    Ok(End::ByUs)
}

fn silent(talk: &mut Talk<'_>) -> Result<End, Fault> {
    talk.drain(HELD)
}

#[expect(clippy::unnecessary_wraps, reason = "one type for all ways")]
fn connect_close(_: &mut Talk<'_>) -> Result<End, Fault> {
    Ok(End::ByUs)
}

fn slow_reader(talk: &mut Talk<'_>) -> Result<End, Fault> {
    const REQUESTS: usize = 40;
    const READS: usize = 10;
    talk.line.small_buffer()?;
    talk.open()?;
    let requests = talk.request(false).repeat(REQUESTS);
    talk.line.send(&requests)?;
    for _ in 0..READS {
        if talk.line.receive(&mut [0; 16])? == 0 {
            return Err(Fault::Closed);
        }
        thread::sleep(READ_PAUSE);
        if talk.line.over() {
            break;
        }
    }
    Ok(End::ByUs)
}

fn slow_writer(talk: &mut Talk<'_>) -> Result<End, Fault> {
    let protocol = talk.order.protocol;
    let bytes = match protocol {
        Websocket => talk.upgrade(),
        Zmtp => greeting(),
        _ => {
            talk.open()?;
            talk.request(false)
        }
    };
    talk.line.no_delay()?;
    for byte in bytes {
        talk.line.send(&[byte])?;
        thread::sleep(BYTE_PAUSE);
        if talk.line.over() {
            return Err(Fault::Late);
        }
    }
    if matches!(protocol, Http | Tls | Websocket) {
        talk.line.allow(ANSWER_LIMIT);
        talk.answer()?;
    }
    Ok(End::ByUs)
}

fn http_malformed(talk: &mut Talk<'_>) -> Result<End, Fault> {
    const KINDS: [&[u8]; 6] = [
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\n: nothing\r\n\r\n",
    ];
    talk.open()?;
    let kind = talk.rng.choice(KINDS).unwrap_or_default();
    talk.line.send(kind)?;
    talk.drain(PATIENCE)
}

fn bad_upgrade(talk: &mut Talk<'_>) -> Result<End, Fault> {
    let bytes = talk.http("GET", "Upgrade: websocket\r\nConnection: Upgrade\r\n");
    talk.line.send(&bytes)?;
    talk.drain(PATIENCE)
}

fn reserved_bits(talk: &mut Talk<'_>) -> Result<End, Fault> {
    talk.open()?;
    talk.line.send(&masked(TEXT | 0x70, b"hello"))?;
    talk.drain(PATIENCE)
}

fn unmasked(talk: &mut Talk<'_>) -> Result<End, Fault> {
    talk.open()?;
    talk.line.send(b"\x81\x05hello")?;
    talk.drain(PATIENCE)
}

fn bad_greeting(talk: &mut Talk<'_>) -> Result<End, Fault> {
    let mut bytes = greeting();
    // The signature's ends, the version, the mechanism's name.
    let at = talk.rng.choice([0, 9, 10, 12]).unwrap_or_default();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 0x55;
    }
    talk.line.send(&bytes)?;
    talk.drain(PATIENCE)
}

fn cut_greeting(talk: &mut Talk<'_>) -> Result<End, Fault> {
    cut(talk, &greeting())
}

fn garbage(talk: &mut Talk<'_>) -> Result<End, Fault> {
    let mut bytes = vec![0; talk.rng.usize(1..512)];
    talk.rng.fill(&mut bytes);
    talk.line.send(&bytes)?;
    talk.drain(PATIENCE)
}

fn tls_no_cipher(talk: &mut Talk<'_>) -> Result<End, Fault> {
    let mut random = [0; 32];
    talk.rng.fill(&mut random);
    talk.line.send(&hello_without_common_cipher(&random))?;
    talk.expect_close()
}

fn tls_cut(talk: &mut Talk<'_>) -> Result<End, Fault> {
    let client = talk.tls.client(true).map_err(|why| Fault::Wrong(why.to_string()))?;
    talk.line.hello(client)?;
    Ok(End::ByUs)
}

fn tls_untrusted(talk: &mut Talk<'_>) -> Result<End, Fault> {
    let client = talk.tls.client(false).map_err(|why| Fault::Wrong(why.to_string()))?;
    match talk.line.handshake(client) {
        // The client rejects the certificate; the alert is sent.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Ok(End::ByUs),
        Err(error) => Err(error.into()),
        Ok(()) => Err(Fault::Wrong("a certificate was trusted".to_owned())),
    }
}
