"""Asks pyzmq_service.py: PORT QUESTIONS, the kinds of questions in turn, each from a new REQ socket, over tcp.

Says `answered QUESTIONS` if each answer was right.
"""

import sys

import zmq

port, questions = map(int, sys.argv[1:])
context = zmq.Context()
for number in range(questions):
    task = [b"echo", b"zero-copy", b"context"][number % 3]
    # Some lie within the message's own structure, most do not.
    text = b"%d " % number * (1 + number % 50)
    with context.socket(zmq.REQ) as socket:
        socket.rcvtimeo = 20_000
        socket.connect(f"tcp://127.0.0.1:{port}")
        socket.send_multipart([task, text])
        answer = socket.recv()
    if answer != text:
        sys.exit(f"{text} was answered {answer}")
context.term()
print(f"answered {questions}")
