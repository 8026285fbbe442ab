"""A probe behind the validator of the standard library, which objects to faults of either side.

Answers `METHOD body`; `/READING/ANSWERING` says how it reads the body and how it answers.
`/closings` says how many answers have been closed, `/faulty` is an answer without a Content-Type.
"""

import sys
import warnings
from wsgiref.validate import WSGIWarning, validator

# Its warnings are faults too, but for the one about methods that it does not know.
warnings.simplefilter("error", WSGIWarning)
warnings.filterwarnings("ignore", "Unknown REQUEST_METHOD", WSGIWarning)

TEXT = [("Content-Type", "text/plain; charset=us-ascii")]

closings = 0


class Blocks:
    """An iterable that is not its own iterator and counts how often one like it is closed."""

    def __init__(self, *blocks):
        self.blocks = blocks

    def __iter__(self):
        return iter(self.blocks)

    def close(self):
        global closings
        closings += 1


def read(body, how):
    if how == "read":
        return b"".join(iter(lambda: body.read(1000), b""))
    if how == "readline":
        return b"".join(iter(body.readline, b""))
    if how == "readline-size":
        return b"".join(iter(lambda: body.readline(7), b""))
    if how == "readlines":
        return b"".join(body.readlines())
    if how == "readlines-hint":
        return b"".join(iter(lambda: b"".join(body.readlines(50)), b""))
    if how == "iterate":
        return b"".join(body)
    return b""


def probe(environ, start_response):
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    reading, _, answering = path.rpartition("/")
    body = read(environ["wsgi.input"], reading.rpartition("/")[2])
    answer = environ["REQUEST_METHOD"].encode() + b" " + body
    if answering == "closings":
        start_response("200 OK", TEXT)
        return [str(closings).encode()]
    if answering == "faulty":
        start_response("200 OK", [])
    elif answering == "nothing":
        start_response("204 No Content", [("X-Method", environ["REQUEST_METHOD"])])
        return Blocks()
    elif answering == "write":
        write = start_response("200 OK", TEXT)
        write(answer[:5])
        return Blocks(answer[5:])
    elif answering == "exc-info":
        start_response("200 OK", TEXT)
        try:
            raise LookupError("a page for this")
        except LookupError:
            start_response("404 Not Here", TEXT, sys.exc_info())
    elif answering == "errors":
        errors = environ["wsgi.errors"]
        errors.write("probe: written\n")
        errors.writelines(["probe: one of two lines\n", "probe: the other\n"])
        errors.flush()
        start_response("200 OK", TEXT)
    else:
        start_response("200 OK", [*TEXT, ("Content-Length", str(len(answer)))])
    return Blocks(answer[:5], b"", answer[5:])


handle_request = application = validator(probe)
