"""Counts what happens to responses whose client goes away.

`/download` sends without an end, `/write` does the same through write(), `/upload` reads its input
and sends something after the first piece of it; `/report` shows the counts as `key<TAB>value` lines.
"""

counts = {"opened": 0, "closed": 0, "ended": 0, "read_errors": 0, "write_errors": 0, "other_errors": 0}

BLOCK = b"x" * 65536


class Response:
    def __init__(self, pieces):
        counts["opened"] += 1
        self.pieces = pieces

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self.pieces)
        except StopIteration:
            counts["ended"] += 1
            raise

    def close(self):
        counts["closed"] += 1


def endless():
    while True:
        yield BLOCK


def upload(body):
    try:
        yield b"%d bytes have come, and more will\n" % len(body.read(4096))
        while body.read(4096):
            yield b""  # nothing to send: only reading can tell that the client has gone
    except OSError:
        counts["read_errors"] += 1
        raise
    except Exception:
        counts["other_errors"] += 1
        raise


def write_on(write):
    try:
        while True:
            write(BLOCK)
    except OSError:
        counts["write_errors"] += 1
    except Exception:
        counts["other_errors"] += 1


def handle_request(environ, start_response):
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if path.endswith("/download"):
        return Response(endless())
    if path.endswith("/upload"):
        return Response(upload(environ["wsgi.input"]))
    if path.endswith("/write"):
        write_on(write)
        return Response(iter(()))
    return [f"{key}\t{value}\n".encode() for key, value in counts.items()]
