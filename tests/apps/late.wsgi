"""Takes too long in different ways.

- `/loop` computes for ever; `/head` sends a block first;
- `/gate` takes a byte from the FIFO `gate` in native code, which nothing interrupts;
- `/stubborn` computes until the file `enough` is there, whatever is raised in it;
- `/near/SECONDS` ends after about that time;
- anything else answers at once.

What is raised in a request is written to its log.
"""

import os
import sys
import time

STATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state")


def compute():
    while True:
        pass


def blocks():
    yield b"a block"
    compute()


def stand_at_the_gate():
    gate = os.open(os.path.join(STATE, "gate"), os.O_RDONLY)
    os.read(gate, 1)
    os.close(gate)


def wait_for_enough():
    while not os.path.exists(os.path.join(STATE, "enough")):
        pass


def be_stubborn():
    while True:
        try:
            wait_for_enough()
            return
        except BaseException as error:
            print("not impressed by", type(error).__name__)


def handle_request(environ, start_response):
    action, *rest = environ["PATH_INFO"].lstrip("/").split("/")
    try:
        if action == "loop":
            compute()
        elif action == "gate":
            stand_at_the_gate()
        elif action == "stubborn":
            be_stubborn()
        elif action == "near":
            end = time.monotonic() + float(rest[0])
            while time.monotonic() < end:
                pass
    except BaseException as error:
        print("interrupted by", type(error).__module__, type(error).__name__, file=sys.stderr)
        raise
    start_response("200 OK", [("Content-Type", "text/plain")])
    return blocks() if action == "head" else [b"in time"]
