"""What the tests of the runtime ask of an application. The first word of PATH_INFO says what to do:

- `/hello` answers at once;
- `/echo` answers with the body it is sent; `/lines` with the number of its lines;
- `/environ/NAME` answers with ascii(environ[NAME]);
- `/interpreter` says which interpreter it runs in, and `/served` how many requests it had before;
- `/say/TEXT` writes lines to wsgi.errors, sys.stderr and sys.stdout;
- `/hold` reads one byte, so that whoever sends it says when the request ends;
- `/meet/N` answers when N requests have come together;
- `/count` is counted, and `/counted` says how often that was;
- `/endless` sends blocks as long as somebody takes them, `/left` waits until one such response was
  closed, and says how many were and how many are still open;
- `/raise`, `/raise-late` raise before and after a block; `/short` sends less than it has promised.
"""

import sys
import threading

try:
    import _interpreters
except ImportError:  # Python 3.12
    import _xxsubinterpreters as _interpreters

lock = threading.Lock()
barriers = {}
served = 0
counted = 0
opened = 0
closed = 0
left = threading.Event()


class Endless:
    def __init__(self):
        global opened
        opened += 1

    def __iter__(self):
        return self

    def __next__(self):
        return b"x" * 1000

    def close(self):
        global closed
        closed += 1
        left.set()


def blocks_and_an_error():
    yield b"a block"
    raise LookupError("too late for an error page")


def application(environ, start_response):
    global served, counted
    _, action, *rest = environ["PATH_INFO"].split("/")
    with lock:
        served += 1
        served_before = served - 1
    headers = [("Content-Type", "text/plain"), ("X-Twice", "one"), ("X-Twice", "two")]
    if action == "short":
        headers.append(("Content-Length", "100"))
    if action == "raise":
        raise LookupError("on purpose")
    start_response("203 As You Like It", headers)

    if action == "endless":
        return Endless()
    if action == "raise-late":
        return blocks_and_an_error()

    if action == "echo":
        return [environ["wsgi.input"].read()]
    if action == "environ":
        return [ascii(environ[rest[0]]).encode("ascii")]
    if action == "say":
        for stream in (environ["wsgi.errors"], sys.stderr, sys.stdout):
            stream.write(rest[0] + "\n")
    answer = None
    if action == "lines":
        answer = len(list(environ["wsgi.input"]))
    if action == "interpreter":
        answer = _interpreters.get_current()
    if action == "served":
        answer = served_before
    if action == "hold":
        answer = environ["wsgi.input"].read(1)
    if action == "meet":
        with lock:
            barrier = barriers.setdefault(rest[0], threading.Barrier(int(rest[0])))
        barrier.wait()
    if action == "count":
        with lock:
            counted += 1
    if action == "counted":
        answer = counted
    if action == "left":
        left.wait()
        answer = (closed, opened - closed)
    return [str(answer or action).encode("ascii") if answer != 0 else b"0"]
