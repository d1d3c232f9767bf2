"""A server on socketify: PORT. `/` answers a page, `/echo` is a WebSocket that echoes each message.

It prints `ready`, and creates no object of uSockets before it reads a line; then it prints `listening PORT`. At the
next line it stops listening, frees its objects, prints `ended`, and waits for the end of its input.
"""

import sys
import threading

from socketify import App


def say(line):
    print(line, flush=True)


def page(answer, request):
    answer.end("hello, you asked for " + request.get_url() + "\n")


def serve(port):
    app = App()
    app.get("/", page)
    app.ws("/echo", {"message": lambda socket, message, code: socket.send(message, code)})
    app.listen({"host": "127.0.0.1", "port": port}, lambda _: None)

    def stop_on_command():
        sys.stdin.readline()
        app.loop.loop.call_soon_threadsafe(app.close)

    say(f"listening {port}")
    stopper = threading.Thread(target=stop_on_command)
    stopper.start()
    app.run()
    stopper.join()
    app.dispose()


say("ready")
sys.stdin.readline()
serve(int(sys.argv[1]))
say("ended")
sys.stdin.readline()
