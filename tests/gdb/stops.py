"""Stops a live process at given places, and writes down what gdb takes for the stack.

Run by gdb itself: `gdb -nx -batch -p PID -x stops.py`. Takes from the environment LEAKTRACE_PLACES
(`function=address` each, at most four: the processor has no more breakpoint registers), LEAKTRACE_STOPS (how
many) and LEAKTRACE_STACKS (the file to write). Hands on one line of JSON per stop: function, and the frames from
the caller outwards, each with its address and the name that gdb has for it. A call made from within another
probed call is nested: it is written down, but not counted.

Breakpoints are the processor's: they strike before the instruction, so before a uprobe on the very same
byte, whose return probe would take the return address away; and they write nothing into the code.

No breakpoint is made at a probed instruction while a thread stands there. gdb sees the uprobe's `int3`, takes it
for a breakpoint that the program brought along (`set debug infrun on`: "skipping permanent breakpoint"), and lets
the thread continue behind it, in the middle of the true instruction: `malloc`'s `push %r12` becomes `push %rsp`, and
its caller crashes. Besides the thread that gdb shows, another one stands there when it came at the same time and did
not get a processor before the next stop.
"""

import json
import os
import random

import gdb

WANTED = int(os.environ["LEAKTRACE_STOPS"])
# Calls between two stops at most: what a server does for one request is seen at different places.
MOST_IGNORED = 6
# Frames that are no calls of their own: they share the address of the real one around them.
NOT_REAL = (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME)



def trampoline():
    """Where return probes send returning calls: it stands for the return address of a call that is probed."""
    with open(f"/proc/{gdb.selected_inferior().pid}/maps", encoding="utf-8") as maps:
        for line in maps:
            if line.rstrip().endswith("[uprobes]"):
                return int(line.split("-")[0], 16)
    return None


TRAMPOLINE = trampoline()
stacks = open(os.environ["LEAKTRACE_STACKS"], "w", encoding="utf-8")
chance = random.Random()


class Stops:
    """What is common to all places."""

    taken = 0
    ignore = 0


def callers():
    """The real frames outside of the innermost one, the caller first."""
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
    """The threads whose next instruction is one of those asked for, by where that is."""
    selected = gdb.selected_thread()
    found = {}
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        if (at := gdb.newest_frame().pc()) in functions:
            found[at] = thread
    selected.switch()
    return found


def hardware_breakpoint(address):
    """A breakpoint that writes nothing into the code and says nothing when it strikes."""
    made = gdb.Breakpoint(f"*{address:#x}", type=gdb.BP_HARDWARE_BREAKPOINT, internal=True)
    made.silent = True
    return made


def go_on():
    """Until a breakpoint strikes; the address where it did."""
    gdb.execute("continue", to_string=True)
    return gdb.newest_frame().pc()


def leave(frames):
    """Goes on until some thread comes to where the call with these callers returns to."""
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
    # Deleted before anything goes on: a thread stands there.
    for place in places:
        place.delete()
    if at not in functions:
        raise gdb.GdbError(f"stopped at {at:#x}, where nothing was asked for")
    frames, end = callers()
    if ignore > 0:
        ignore -= 1
    else:
        ignore = chance.randrange(MOST_IGNORED)
        nested = end == "nested"
        stop = {"function": functions[at], "frames": frames, "nested": nested, "end": end}
        stacks.write(json.dumps(stop) + "\n")
        taken += not nested
    # Not at the same place again before the thread has gone on from there, nor any other one that stands at
    # a place: to where it returns.
    leave(frames)
    while others := standing():
        waited += 1
        next(iter(others.values())).switch()
        leave(callers()[0])
stacks.close()
gdb.execute("detach", to_string=True)
print(f"waited {waited}")
print(f"stops {taken}")
