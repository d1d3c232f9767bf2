"""Connects to a server with HTTP at `/` and a WebSocket at `/echo`: PORT CONNECTIONS [tls].

A third of the connections requests two pages; a third becomes a WebSocket with echoed texts; a third disconnects in
the middle of a request. Ten are open at a time. Prints `connected CONNECTIONS` if each answer was right.
"""

import socket
import ssl
import sys

AT_A_TIME = 10
UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def connect(port, tls):
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    return tls.wrap_socket(connection) if tls else connection


def until(stream, end):
    """Reads up to `end`."""
    heard = b""
    while not heard.endswith(end):
        byte = stream.read(1)
        if not byte:
            sys.exit(f"the server closed a connection after {heard}")
        heard += byte
    return heard


def pages(connection, stream):
    for number in range(2):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heard = until(stream, b"you asked for /\n")
        if not heard.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"a page was answered {heard}")


def echo(connection, stream):
    connection.sendall(UPGRADE)
    # The accept value of the key above: the example of RFC 6455.
    heard = until(stream, b"\r\n\r\n")
    if b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" not in heard:
        sys.exit(f"an upgrade was answered {heard}")
    for length in (1, 20, 100):
        # A final text frame; masked with zeros, as clients must mask.
        connection.sendall(bytes([0x81, 0x80 | length, 0, 0, 0, 0]) + b"w" * length)
        expected = bytes([0x81, length]) + b"w" * length
        heard = stream.read(len(expected))
        if heard != expected:
            sys.exit(f"{expected} came back as {heard}")


def cut(connection, _):
    connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")


def main():
    port, count = int(sys.argv[1]), int(sys.argv[2])
    tls = ssl._create_unverified_context() if sys.argv[3:] == ["tls"] else None
    for first in range(0, count, AT_A_TIME):
        numbers = range(first, min(first + AT_A_TIME, count))
        opened = [(number, connect(port, tls)) for number in numbers]
        for number, connection in opened:
            with connection.makefile("rb") as stream:
                [pages, echo, cut][number % 3](connection, stream)
        for _, connection in opened:
            connection.close()
    print(f"connected {count}")


main()
