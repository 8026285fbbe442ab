"""Large bodies, made in the ways that applications make them.

The path says how and `size=N` how much (default 8 MiB): `/list` and `/iterator` return one block,
`/blocks` yields blocks of `block=N` bytes (default 64 KiB), `/mixed` of sizes between 1 byte and
300 KB, `/written` passes blocks to write(), and `/endless` yields without an end. Byte number i is i
modulo 251. With `length=N` that is the Content-Length, with `status=N` the status, and with `noise=N`
the bytes are random, but the same always. `/endings` says how many of them were closed, `/log` logs a
line at its end.
"""

import itertools
import random
from urllib.parse import parse_qs

PATTERN = bytes(range(251))
MADE = {}
endings = 0


def pattern(size):
    if size not in MADE:
        MADE[size] = (PATTERN * (size // len(PATTERN) + 1))[:size]
    return MADE[size]


class Blocks:
    def __init__(self, blocks, last=None):
        self.blocks, self.last = iter(blocks), last

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self):
        global endings
        endings += 1
        if self.last:
            print("the body has ended", file=self.last)


def endless():
    while True:
        yield PATTERN * 400


def mixed(body):
    start = 0
    for size in itertools.cycle([1, 5000, 4095, 4096, 16384, 70000, 262144, 300000, 3]):
        if start >= len(body):
            return
        yield body[start : start + size]
        start += size


def handle_request(environ, start_response):
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    query = {name: int(values[0]) for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    headers = [("Content-Type", "application/octet-stream")]
    if "length" in query:
        headers.append(("Content-Length", str(query["length"])))
    write = start_response(f"{query.get('status', 200)} Said", headers)
    if path.endswith("/hello"):
        return [b"hello"]
    if path.endswith("/endings"):
        return [str(endings).encode()]
    if path.endswith("/endless"):
        return Blocks(endless())
    body, block = pattern(query.get("size", 8 << 20)), query.get("block", 65536)
    if "noise" in query:
        body = random.Random(5).randbytes(len(body))
    if path.endswith("/list"):
        return [body]
    if path.endswith("/iterator"):
        return Blocks([body])
    if path.endswith("/mixed"):
        return Blocks(mixed(body))
    blocks = (body[start : start + block] for start in range(0, len(body), block))
    if path.endswith("/written"):
        for each in blocks:
            write(each)
        return Blocks([])
    return Blocks(blocks, environ["wsgi.errors"] if path.endswith("/log") else None)
