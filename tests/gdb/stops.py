"""Stops a live process at given locations, and records its stacks as gdb unwinds them.

Run by gdb itself: `gdb -nx -batch -p PID -x stops.py`. Takes from the environment LEAKTRACE_PLACES
(`function=address` each, at most four: the processor has no more breakpoint registers), LEAKTRACE_STOPS (their
number) and LEAKTRACE_STACKS (the file to write). Writes one line of JSON per stop: the function, and the frames from
the caller outwards, each with its address and gdb's name for it. A call from within another probed call is nested: it
is recorded, but not counted.

Uses hardware breakpoints: they hit before the instruction, so before a uprobe on the same byte, whose return probe
would replace the return address; and they do not modify the code.

Sets no breakpoint at a probed instruction while a thread is stopped there. gdb sees the uprobe's `int3`, takes it
for a breakpoint of the program itself (`set debug infrun on`: "skipping permanent breakpoint"), and lets
the thread continue after it, in the middle of the original instruction: `malloc`'s `push %r12` becomes `push %rsp`, and
its caller crashes. Besides the thread that gdb selects, another one is there if it arrived at the same time and did
not get a processor before the next stop.
"""

import json
import os
import random

import gdb

WANTED = int(os.environ["LEAKTRACE_STOPS"])
# Maximum number of calls between two stops: random, so that stops cover different calls of a request.
MOST_IGNORED = 6
# Frames without a call of their own: they share the address of the real frame around them.
NOT_REAL = (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME)



def trampoline():
    """The address that return probes put in place of the return address of a probed call."""
    with open(f"/proc/{gdb.selected_inferior().pid}/maps", encoding="utf-8") as maps:
        for line in maps:
            if line.rstrip().endswith("[uprobes]"):
                return int(line.split("-")[0], 16)
    return None


TRAMPOLINE = trampoline()
stacks = open(os.environ["LEAKTRACE_STACKS"], "w", encoding="utf-8")
chance = random.Random()


class Stops:
    """State shared by all locations."""

    taken = 0
    ignore = 0


def callers():
    """The real frames except the innermost one, the caller first."""
    frame = gdb.newest_frame()
    while frame is not None and frame.type() in NOT_REAL:
        frame = frame.older()
    found = []
    frame = frame.older()
    while frame is not None:
        if frame.pc() == TRAMPOLINE:
            return found, "nested"
        if frame.type() not in NOT_REAL:
            after_signal = frame.newer().type() == gdb.SIGTRAMP_FRAME
            found.append({"address": frame.pc(), "name": frame.name(), "interrupted": after_signal})
        last, frame = frame, frame.older()
    return found, gdb.frame_stop_reason_string(last.unwind_stop_reason())


def standing():
    """The threads whose next instruction is one of the requested locations, by address."""
    selected = gdb.selected_thread()
    found = {}
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        if (at := gdb.newest_frame().pc()) in functions:
            found[at] = thread
    selected.switch()
    return found


def hardware_breakpoint(address):
    """A breakpoint that does not modify the code and prints nothing when it hits."""
    made = gdb.Breakpoint(f"*{address:#x}", type=gdb.BP_HARDWARE_BREAKPOINT, internal=True)
    made.silent = True
    return made


def go_on():
    """Continues until a breakpoint hits; returns its address."""
    gdb.execute("continue", to_string=True)
    return gdb.newest_frame().pc()


def leave(frames):
    """Continues until a thread reaches the return address of the call with these callers."""
    back = hardware_breakpoint(frames[0]["address"] if frames else TRAMPOLINE)
    go_on()
    back.delete()


functions = {}
for place in os.environ["LEAKTRACE_PLACES"].split():
    function, _, address = place.partition("=")
    functions[int(address, 16)] = function

taken, ignore, waited = 0, 0, 0
while taken < WANTED:
    places = [hardware_breakpoint(address) for address in functions]
    at = go_on()
    # Deleted before any thread continues: one is stopped there.
    for place in places:
        place.delete()
    if at not in functions:
        raise gdb.GdbError(f"stopped at {at:#x}, an unrequested location")
    frames, end = callers()
    if ignore > 0:
        ignore -= 1
    else:
        ignore = chance.randrange(MOST_IGNORED)
        nested = end == "nested"
        stop = {"function": functions[at], "frames": frames, "nested": nested, "end": end}
        stacks.write(json.dumps(stop) + "\n")
        taken += not nested
    # Before the breakpoints are set again, this thread and any other one at a requested location must continue up to
    # its return address.
    leave(frames)
    while others := standing():
        waited += 1
        next(iter(others.values())).switch()
        leave(callers()[0])
stacks.close()
gdb.execute("detach", to_string=True)
print(f"waited {waited}")
print(f"stops {taken}")
