"""A service on pyzmq: a ROUTER for clients over tcp, and workers that create and close sockets for each request.

Argument: PORT, on loopback. A request is two frames: the task, and a text that is sent back.

- `echo`: a worker sends the text to the responder thread through a new REQ over inproc, and passes the answer to the
  ROUTER's thread through a new PUSH;
- `zero-copy`: the same, and the text is not copied in either direction;
- `context`: a worker creates a context with a pair of sockets, sends the text through, and terminates it.

For pyzmq 24 (Debian 12) and later.
"""

import queue
import sys
import threading

import zmq

WORKERS = 3
context = zmq.Context()
tasks = queue.Queue()


def responder(socket):
    """Echoes each request."""
    while True:
        socket.send(socket.recv())


def through_inproc(text, copy):
    """Sends the text to the responder through a socket for this request only."""
    with context.socket(zmq.REQ) as socket:
        socket.connect("inproc://responder")
        socket.send(text, copy=copy)
        return socket.recv()


def through_context(text):
    """Sends the text through a pair of sockets in a context of its own."""
    with zmq.Context() as own:
        with own.socket(zmq.PAIR) as one, own.socket(zmq.PAIR) as other:
            one.bind("inproc://pair")
            other.connect("inproc://pair")
            other.send(text)
            return one.recv()


def worker():
    """Processes requests one after the other."""
    while True:
        client, task, text = tasks.get()
        copy = task != b"zero-copy"
        answer = through_context(text) if task == b"context" else through_inproc(text, copy)
        with context.socket(zmq.PUSH) as socket:
            socket.connect("inproc://answers")
            socket.send_multipart([client, b"", answer], copy=copy)


def main():
    """Passes requests to workers, and their answers to clients."""
    # Zero-copy for texts of any length.
    zmq.COPY_THRESHOLD = 0
    front = context.socket(zmq.ROUTER)
    front.bind(f"tcp://127.0.0.1:{sys.argv[1]}")
    answers = context.socket(zmq.PULL)
    answers.bind("inproc://answers")
    responses = context.socket(zmq.REP)
    responses.bind("inproc://responder")
    threading.Thread(target=responder, args=[responses], daemon=True).start()
    for _ in range(WORKERS):
        threading.Thread(target=worker, daemon=True).start()
    poller = zmq.Poller()
    poller.register(front, zmq.POLLIN)
    poller.register(answers, zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        if front in ready:
            client, _, task, text = front.recv_multipart()
            tasks.put((client, task, text))
        if answers in ready:
            front.send_multipart(answers.recv_multipart())


sys.exit(main())
