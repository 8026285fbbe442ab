"""Computes without ever letting its GIL go, until a byte of a mapped file changes.

The file `busy` in the state folder has two bytes: the first is set from outside to end the
computation, the second is set here when it has begun.
"""

import mmap
import os
import sys

STATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state")


def handle_request(environ, start_response):
    with open(os.path.join(STATE, "busy"), "r+b") as file, mmap.mmap(file.fileno(), 2) as flags:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(3600)  # nobody else of this GIL gets a turn
        flags[1] = 1
        while not flags[0]:
            pass
        sys.setswitchinterval(interval)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done computing"]
