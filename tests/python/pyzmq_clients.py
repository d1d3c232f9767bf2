"""Clients of pyzmq_service.py: PORT QUESTIONS. Send requests of all kinds in turn over tcp, each from a new REQ socket.

Prints `answered QUESTIONS` if each answer was right.
"""

import sys

import zmq

port, questions = map(int, sys.argv[1:])
context = zmq.Context()
for number in range(questions):
    task = [b"echo", b"zero-copy", b"context"][number % 3]
    # Some texts are stored inline in the message's structure, most are not.
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
