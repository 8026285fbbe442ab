"""Answers with the status in the path, a page of its own and many headers.

`/N/generator` comes in blocks, `/N/raises` breaks off after one, `/N/file` is a file_wrapper;
`/closings` says how often close() was called since the last look.
"""

closings = 0


class Blocks:
    def __init__(self, fails):
        self.left = [b"its own ", b"page"]
        self.fails = fails

    def __iter__(self):
        return self

    def __next__(self):
        if self.left:
            return self.left.pop(0)
        if self.fails:
            raise ValueError("broken off")
        raise StopIteration

    def close(self):
        global closings
        closings += 1


def handle_request(environ, start_response):
    global closings
    words = (environ["SCRIPT_NAME"] + environ["PATH_INFO"]).strip("/").split("/")
    if words[0] == "closings":
        start_response("200 OK", [])
        count, closings = closings, 0
        return [str(count).encode()]
    headers = [
        ("Content-Type", "application/x-own"),
        ("Content-Encoding", "own"),
        ("ETag", '"own"'),
        ("Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT"),
        ("WWW-Authenticate", 'Basic realm="one"'),
        ("WWW-Authenticate", 'Bearer realm="two"'),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Retry-After", "7"),
        ("X-Own", "kept"),
    ]
    if words[-1] == "length":
        headers.append(("Content-Length", "12"))
    start_response(f"{words[0]} Own Reason", headers)
    if words[-1] in ("generator", "raises", "length"):
        return Blocks(words[-1] == "raises")
    if words[-1] == "file":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    return [b"its own page"]
