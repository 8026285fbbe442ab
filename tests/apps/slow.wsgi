"""Is slow in different ways, each until a test lets it go on."""

import os

STATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state")


def wait_at_the_gate():
    gate = os.open(os.path.join(STATE, "gate"), os.O_RDONLY)
    os.read(gate, 1)
    os.close(gate)


def handle_request(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] != "/fast":
        wait_at_the_gate()
    return [b"done"]
