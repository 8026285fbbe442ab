"""Recursion, down to where CPython stops it: `/python`, `/c`, `/json`, `/runaway`, `/runaway-c`."""

import json
import sys

sys.setrecursionlimit(5000)


def python(depth):
    return 0 if depth == 0 else 1 + python(depth - 1)


def through_c(depth):
    return 0 if depth == 0 else 1 + sum(map(through_c, [depth - 1]))


def runaway():
    return runaway()


def runaway_through_c(x):
    return max([x], key=runaway_through_c)


CASES = {
    "/python": lambda: python(4000),
    "/c": lambda: through_c(1000),
    "/json": lambda: json.loads("[" * 100_000),
    "/runaway": runaway,
    "/runaway-c": lambda: runaway_through_c(1),
}


def handle_request(environ, start_response):
    try:
        body = str(CASES[environ["SCRIPT_NAME"] + environ["PATH_INFO"]]())
    except RecursionError:
        body = "RecursionError"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
