"""A service on pyzmq: a ROUTER that clients ask over tcp, and workers that make and close sockets for each question.

PORT is where it listens on loopback. A question is two frames: what to do, and a text that comes back.

- `echo`: a worker asks a thread of the service's over inproc with a REQ of its own, and hands the answer to the ROUTER's
  thread by a PUSH of its own;
- `zero-copy`: the same, and the text goes both ways without being copied;
- `context`: a worker makes a context with a pair of sockets in it, sends the text through, and terminates it.

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
    """Answers each question with its text."""
    while True:
        socket.send(socket.recv())


def through_inproc(text, copy):
    """Asks the responder by a socket that lives for this question alone."""
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
    """Takes one question after the other."""
    while True:
        client, task, text = tasks.get()
        copy = task != b"zero-copy"
        answer = through_context(text) if task == b"context" else through_inproc(text, copy)
        with context.socket(zmq.PUSH) as socket:
            socket.connect("inproc://answers")
            socket.send_multipart([client, b"", answer], copy=copy)


def main():
    """Hands questions to workers, and their answers to clients."""
    # Texts of any length go without a copy if they are to.
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
