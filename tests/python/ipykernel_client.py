"""Client of an ipykernel: CONNECTION_FILE CELLS. Runs that many cells, as a notebook does; in each, a thread prints,
and the cell has a result.

Prints `ran CELLS` if each output was right, and the kernel has closed the sockets of those threads.
"""

import sys

from jupyter_client import BlockingKernelClient

file, cells = sys.argv[1], int(sys.argv[2])
client = BlockingKernelClient(connection_file=file)
client.load_connection_file()
client.start_channels()
client.wait_for_ready(timeout=60)
for number in range(cells):
    said = []
    code = f"""import threading
thread = threading.Thread(target=print, args=['cell {number}', 'x' * {number * 40}])
thread.start()
thread.join()
{number} * 2"""

    def hear(message):
        """Collects the output and the result of the cell."""
        content = message["content"]
        if message["msg_type"] == "stream":
            said.append(content["text"])
        if message["msg_type"] == "execute_result":
            said.append(content["data"]["text/plain"])

    reply = client.execute_interactive(code, output_hook=hear, timeout=60)
    if reply["content"]["status"] != "ok" or "".join(said) != f"cell {number} {'x' * (number * 40)}\n{number * 2}":
        sys.exit(f"cell {number}: {reply} {said}")
# The kernel closes sockets of ended threads every ten seconds; from now on, more often.
code = """import time
output = get_ipython().kernel.iopub_thread
output._event_pipe_gc_seconds = 0.5
until = time.monotonic() + 15
while not all(thread.is_alive() for thread in list(output._event_pipes)):
    assert time.monotonic() < until
    time.sleep(0.05)"""
reply = client.execute_interactive(code, timeout=60)
if reply["content"]["status"] != "ok":
    sys.exit(f"sockets of threads: {reply}")
client.stop_channels()
print(f"ran {cells}")
