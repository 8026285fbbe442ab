"""Takes its time to load: its import waits for a byte from a FIFO."""

import os
import sys

STATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state")

sys.times_held = getattr(sys, "times_held", 0) + 1
gate = os.open(os.path.join(STATE, "import"), os.O_RDONLY)
os.read(gate, 1)
os.close(gate)


def handle_request(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"loaded {sys.times_held} time(s)".encode()]
