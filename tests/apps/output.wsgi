"""Ways to produce a response: iteration, write(), close(), and mistakes in each of them.

Each path is one way; `/closed` shows how often close() has been called since it was last asked.
"""

import sys

OK = "200 OK"
PLAIN = [("Content-Type", "text/plain")]

closed = 0
kept = None


class Response:
    """An iterable with a close() that is counted."""

    def __init__(self, *blocks, close_error=None):
        self.blocks = iter(blocks)
        self.close_error = close_error

    def __iter__(self):
        return self

    def __next__(self):
        block = next(self.blocks)
        if isinstance(block, BaseException):
            raise block
        return block

    def close(self):
        global closed
        closed += 1
        if self.close_error:
            raise self.close_error


class Block(bytes):
    pass


def closings(environ, start_response):
    global closed
    start_response(OK, PLAIN)
    count, closed = closed, 0
    return [str(count).encode()]


def returning(value):
    def application(environ, start_response):
        start_response(OK, PLAIN)
        return value() if callable(value) else value

    return application


def with_length(length, *blocks):
    def application(environ, start_response):
        start_response(OK, PLAIN + [("Content-Length", length)])
        return Response(*blocks)

    return application


def with_status(status, *blocks, headers=()):
    def application(environ, start_response):
        start_response(status, PLAIN + list(headers))
        return Response(*blocks)

    return application


def never_starts(environ, start_response):
    return [b"x"]


def never_starts_and_is_empty(environ, start_response):
    return []


def starts_late(environ, start_response):
    def body():
        start_response("201 Created", PLAIN)
        yield b"late"

    return body()


def starts_late_after_an_empty_block(environ, start_response):
    def body():
        yield b""
        start_response("201 Created", PLAIN)
        yield b"late"

    return body()


def starts_twice(environ, start_response):
    start_response("201 Created", [("Content-Type", "text/html"), ("X-First", "1")])
    start_response("202 Accepted", PLAIN)
    return [b"second"]


def starts_twice_after_a_block(environ, start_response):
    start_response(OK, PLAIN)
    yield b"first,"
    try:
        start_response("500 Oops", PLAIN)
    except RuntimeError:
        yield b"RuntimeError"


def replaces_by_exc_info(environ, start_response):
    start_response(OK, [("X-First", "1")])
    try:
        raise ValueError("found out in time")
    except ValueError:
        start_response("500 Oops", PLAIN, sys.exc_info())
    return [b"an error page"]


def exc_info_after_a_block(environ, start_response):
    start_response(OK, PLAIN)
    yield b"first,"
    try:
        try:
            raise LookupError("too late")
        except LookupError:
            start_response("500 Oops", PLAIN, sys.exc_info())
    except LookupError as error:
        yield b"raised again: " + str(error).encode()


def writes(*blocks, then=()):
    def application(environ, start_response):
        write = start_response(OK, PLAIN)
        for block in blocks:
            write(block)
        return Response(*then)

    return application


def writes_nothing_then_starts_again(environ, start_response):
    write = start_response("201 Created", PLAIN)
    write(b"")
    try:
        start_response("202 Accepted", PLAIN)
        return [b"accepted"]
    except RuntimeError:
        return [b"RuntimeError"]


def keeps_write(environ, start_response):
    global kept
    kept = start_response(OK, PLAIN)
    return [b"kept"]


def uses_kept_write(environ, start_response):
    start_response(OK, PLAIN)
    try:
        kept(b"into another's response")
        return [b"accepted"]
    except RuntimeError:
        return [b"RuntimeError"]


def raises_before_returning(environ, start_response):
    start_response(OK, PLAIN)
    raise ValueError("nothing to close")


CASES = {
    "/closed": closings,
    "/list": returning([b"one,", b"two"]),
    "/tuple": returning((b"one,", b"two")),
    "/generator": returning(lambda: (block for block in (b"one,", b"two"))),
    "/one": returning([b"hello"]),
    "/empty-blocks": returning([b"", b"one,", b"", b"two", b""]),
    "/subclass": returning([Block(b"one")]),
    "/nothing": returning([]),
    "/response": returning(lambda: Response(b"one,", b"two")),
    "/none": returning(None),
    "/int": returning(1),
    "/bytes": returning(b"bytes"),
    "/str": returning("str"),
    "/str-block": returning(lambda: Response("str")),
    "/none-block": returning(lambda: Response(None)),
    "/bytearray-block": returning(lambda: Response(bytearray(b"x"))),
    "/second-block-str": returning(lambda: Response(b"one,", "two")),
    "/raises-first": returning(lambda: Response(ValueError("at the first block"))),
    "/raises-later": returning(lambda: Response(b"one,", ValueError("at the second block"))),
    "/close-raises": returning(lambda: Response(b"one", close_error=ValueError("in close"))),
    "/raises-before-returning": raises_before_returning,
    "/never-starts": never_starts,
    "/never-starts-and-is-empty": never_starts_and_is_empty,
    "/starts-late": starts_late,
    "/starts-late-after-an-empty-block": starts_late_after_an_empty_block,
    "/starts-twice": starts_twice,
    "/starts-twice-after-a-block": starts_twice_after_a_block,
    "/replaces-by-exc-info": replaces_by_exc_info,
    "/exc-info-after-a-block": exc_info_after_a_block,
    "/length-fits": with_length("5", b"he", b"llo"),
    "/length-too-short": with_length("3", b"he", b"llo"),
    "/length-too-long": with_length("10", b"he", b"llo"),
    "/length-zero": with_length("0"),
    "/length-no-number": with_length("zz", b"hello"),
    "/length-negative": with_length("-1", b"hello"),
    "/no-content": with_status("204 No Content", b"ignored"),
    "/not-modified": with_status("304 Not Modified", b"ignored", headers=[("ETag", '"x"')]),
    "/not-modified-with-length": with_status("304 Not Modified", headers=[("Content-Length", "10")]),
    "/informational": with_status("103 Early Hints", b"x"),
    "/transfer-encoding": with_status(OK, b"5\r\nhello\r\n0\r\n\r\n", headers=[("Transfer-Encoding", "chunked")]),
    "/writes": writes(b"one,", b"two,", then=[b"three"]),
    "/writes-only": writes(b"one"),
    "/writes-str": writes("one"),
    "/writes-then-str": writes(b"one,", "two"),
    "/writes-nothing-then-starts-again": writes_nothing_then_starts_again,
    "/keeps-write": keeps_write,
    "/uses-kept-write": uses_kept_write,
}


def handle_request(environ, start_response):
    return CASES[environ["SCRIPT_NAME"] + environ["PATH_INFO"]](environ, start_response)
