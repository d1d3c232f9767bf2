//! The bytes of `churn`'s protocols: messages, and parsers that find the end of an answer or a frame. Pure.

/// Opcodes of final WebSocket frames (RFC 6455, 5.2).
pub(crate) const TEXT: u8 = 0x81;
/// Close.
pub(crate) const CLOSE: u8 = 0x88;
/// Ping.
pub(crate) const PING: u8 = 0x89;
/// Pong.
pub(crate) const PONG: u8 = 0x8a;
/// 1000, the status code of a normal close.
pub(crate) const NORMAL: [u8; 2] = [0x03, 0xe8];

/// Signature, version 3.0, mechanism, as-server, filler.
pub(crate) const GREETING_BYTES: usize = 64;
/// The command that follows the greeting: its name, and one property with its value.
pub(crate) const READY: &[u8; 28] = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER";

/// ZMTP's greeting without security.
pub(crate) fn greeting() -> Vec<u8> {
    let mut bytes = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL".to_vec();
    bytes.resize(GREETING_BYTES, 0);
    bytes
}

/// A short frame of a client: masked with zeros.
pub(crate) fn masked(kind: u8, text: &[u8]) -> Vec<u8> {
    // Below 126 bytes; longer ones are never sent here.
    let length = u8::try_from(text.len()).unwrap_or(125).min(125);
    [&[kind, 0x80 | length, 0, 0, 0, 0], text].concat()
}

/// Removes a complete frame from received bytes; returns its first byte.
pub(crate) fn take_frame(unread: &mut Vec<u8>) -> Option<u8> {
    let (&kind, &length) = (unread.first()?, unread.get(1)?);
    let (head, length) = match length & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*unread.get(2)?, *unread.get(3)?]))),
        // Eight bytes of length: no server answers a handshake with that much.
        127 => (10, usize::MAX / 2),
        short => (2, usize::from(short)),
    };
    let end = head + length;
    (unread.len() >= end).then(|| drop(unread.drain(..end)))?;
    Some(kind)
}

/// Removes a complete HTTP answer from received bytes; returns its status. An answer without a length ends with the
/// connection.
pub(crate) fn take_answer(unread: &mut Vec<u8>, ended: bool) -> Option<u16> {
    const BLANK: &[u8] = b"\r\n\r\n";
    let head = find(unread, BLANK)? + BLANK.len();
    let text = String::from_utf8_lossy(unread.get(..head)?).into_owned();
    let status = text.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let header = |name: &str| {
        text.lines().filter_map(|line| line.split_once(':')).find_map(|(found, value)| {
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
        })
    };
    let body = unread.get(head..)?;
    let length = if let Some(length) = header("content-length") {
        length.parse().ok()?
    } else if header("transfer-encoding").is_some_and(|value| value == "chunked") {
        // The last chunk; these pages never contain it in their body.
        find(body, b"0\r\n\r\n")? + 5
    } else if status == 101 || status == 204 {
        0
    } else if ended {
        body.len()
    } else {
        return None;
    };
    (body.len() >= length).then(|| drop(unread.drain(..head + length)))?;
    Some(status)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body_and_not_before() {
        let whole = b"HTTP/1.1 404 Not Found\r\ncontent-LENGTH: 3\r\n\r\nyesHTTP/1.1 2";
        for end in 0..whole.len() - 10 {
            assert_eq!(take_answer(&mut whole[..end].to_vec(), false), None, "{end}");
        }
        let mut unread = whole.to_vec();
        assert_eq!(take_answer(&mut unread, false), Some(404));
        assert_eq!(unread, b"HTTP/1.1 2");
        assert_eq!(take_answer(&mut unread, true), None);
    }

    #[test]
    fn an_answer_without_a_length_ends_with_the_connection() {
        let mut unread = b"HTTP/1.0 200 OK\r\n\r\nsome".to_vec();
        assert_eq!(take_answer(&mut unread, false), None);
        assert_eq!(take_answer(&mut unread, true), Some(200));
        let mut chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nrest"
                .to_vec();
        assert_eq!(take_answer(&mut chunked, false), Some(200));
        assert_eq!(chunked, b"rest");
    }

    #[test]
    fn a_frame_is_whole_with_its_text_and_not_before() {
        let mut unread = vec![TEXT, 2, b'h'];
        assert_eq!(take_frame(&mut unread), None);
        unread.extend([b'i', PONG, 0]);
        assert_eq!(take_frame(&mut unread), Some(TEXT));
        assert_eq!(take_frame(&mut unread), Some(PONG));
        assert_eq!(take_frame(&mut unread), None);
        let mut long = vec![TEXT, 126, 1, 0];
        long.resize(4 + 256, 0);
        assert_eq!(take_frame(&mut long), Some(TEXT));
        assert!(long.is_empty());
    }

    #[test]
    fn zmtp_says_its_lengths() {
        assert_eq!(greeting().len(), GREETING_BYTES);
        assert_eq!(greeting()[8..16], *b"\x01\x7f\x03\0NULL");
        assert_eq!(READY.len(), 6 + 12 + 4 + 6);
    }
}
