"""What a process of a process group is and does, and how it goes."""

import os
import signal
import time

import mod_wsgi

STATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state")


@mod_wsgi.subscribe_shutdown
def note(name, **event):
    with open(os.path.join(STATE, "stopped"), "a") as file:
        file.write(f"{name} {event['shutdown_reason']}\n")


def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read()
    if path == "/killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/left":
        os._exit(3)
    if path == "/held":
        with open(os.path.join(STATE, "held"), "rb", buffering=0) as gate:
            gate.read(1)
    if path == "/silent":
        time.sleep(3600)
    if path == "/burn":
        while time.process_time() < 1.5:
            pass
    if path == "/greedy":
        bytearray(4 << 30)
    if path == "/wide":
        start_response("200 OK", [("X-Wide", "x" * 40000)])
        return [b"wide"]
    if path == "/part":
        return partly(start_response)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Process", str(os.getpid()))])
    return [f"{os.getpid()} {len(body)}".encode()]


def partly(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"begun,"
    with open(os.path.join(STATE, "held"), "rb", buffering=0) as gate:
        gate.read(1)
    os.kill(os.getpid(), signal.SIGKILL)
