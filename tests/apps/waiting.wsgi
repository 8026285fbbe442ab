"""Requests that wait for something.

- `/gate` takes a byte from the FIFO `gate` before it answers;
- `/half` sends a block, takes a byte from the FIFO `gate`, and sends another;
- `/for-ever` never answers;
- `/meet?parties=N` answers when N requests have come together;
- `/peak` says how many requests were ever in here at once, after a short sleep;
- anything else answers at once.
"""

import os
import threading
import time
from urllib.parse import parse_qs

STATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state")

lock = threading.Lock()
barriers = {}
inside = 0
peak = 0


def stand_at_the_gate():
    gate = os.open(os.path.join(STATE, "gate"), os.O_RDONLY)
    os.read(gate, 1)
    os.close(gate)


def meet(environ):
    parties = int(parse_qs(environ["QUERY_STRING"])["parties"][0])
    with lock:
        barrier = barriers.setdefault(parties, threading.Barrier(parties))
    barrier.wait(timeout=60)
    return f"{parties} have met".encode()


def count_visitors():
    global inside, peak
    with lock:
        inside += 1
        peak = max(peak, inside)
    time.sleep(0.05)
    with lock:
        inside -= 1
        return str(peak).encode()


def in_two_halves():
    yield b"first,"
    stand_at_the_gate()
    yield b"second"


def handle_request(environ, start_response):
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    body = [b"at once"]
    if path.endswith("/gate"):
        stand_at_the_gate()
        body = [b"past the gate"]
    elif path.endswith("/half"):
        body = in_two_halves()
    elif path.endswith("/for-ever"):
        threading.Event().wait()
    elif path.endswith("/meet"):
        body = [meet(environ)]
    elif path.endswith("/peak"):
        body = [count_visitors()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return body
