"""What start_response accepts and refuses: each path is one way to call it.

A refusal is caught and shown as `refused: <exception classes>`; what is accepted becomes the
response.
"""

OK = "200 OK"
PLAIN = ("Content-Type", "text/plain")
kept = None


class Headers(list):
    pass


ARGUMENTS = {
    "/ok": (OK, [PLAIN]),
    "/no-reason": ("200", [PLAIN]),
    "/other-reason": ("299 Quite Fine", [PLAIN]),
    "/list-subclass": (OK, Headers([PLAIN])),
    "/no-headers": (OK, []),
    "/exc-info-none": (OK, [PLAIN], None),
    "/latin-1-value": (OK, [PLAIN, ("X-Name", "caf\xe9")]),
    "/empty-value": (OK, [PLAIN, ("X-Empty", "")]),
    "/repeated": (
        OK,
        [PLAIN, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-D", "1"), ("X-D", "2")]
        + [("WWW-Authenticate", "Basic"), ("WWW-Authenticate", "Digest")],
    ),
    "/location": (OK, [PLAIN, ("Location", "/x.txt")]),
    "/not-found": ("404 Not Found", [PLAIN]),
    "/teapot": ("418 I'm a teapot", [PLAIN]),
    "/status-two-digits": ("20 OK", [PLAIN]),
    "/status-four-digits": ("2000 OK", [PLAIN]),
    "/status-no-digits": ("OK", [PLAIN]),
    "/status-empty": ("", [PLAIN]),
    "/status-int": (200, [PLAIN]),
    "/status-bytes": (b"200 OK", [PLAIN]),
    "/status-none": (None, [PLAIN]),
    "/status-not-latin-1": ("200 \u20ac", [PLAIN]),
    "/status-newline": ("200 OK\r\nX-Evil: 1", [PLAIN]),
    "/headers-tuple": (OK, (PLAIN,)),
    "/headers-none": (OK, None),
    "/headers-dict": (OK, dict([PLAIN])),
    "/pair-list": (OK, [["Content-Type", "text/plain"]]),
    "/pair-of-three": (OK, [("Content-Type", "text/plain", "x")]),
    "/pair-of-one": (OK, [("Content-Type",)]),
    "/name-int": (OK, [(1, "x")]),
    "/name-bytes": (OK, [(b"X-Name", "x")]),
    "/name-empty": (OK, [("", "x")]),
    "/name-space": (OK, [("X Name", "x")]),
    "/name-newline": (OK, [("X-Name\n", "x")]),
    "/name-not-latin-1": (OK, [("X-\u20ac", "x")]),
    "/value-int": (OK, [("X-Name", 1)]),
    "/value-none": (OK, [("X-Name", None)]),
    "/value-bytes": (OK, [("X-Name", b"x")]),
    "/value-newline": (OK, [("X-Name", "a\nb")]),
    "/value-return": (OK, [("X-Name", "a\rb")]),
    "/value-injection": (OK, [("X-Name", "a\r\nX-Evil: 1")]),
    "/value-not-latin-1": (OK, [("X-Name", "\u20ac")]),
    "/exc-info-not-a-tuple": (OK, [PLAIN], "error"),
    "/no-arguments": (),
}


def classes(error):
    return " ".join(cls.__name__ for cls in type(error).__mro__)


def handle_request(environ, start_response):
    global kept
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    if path == "/keep":
        kept = start_response
        start_response(OK, [PLAIN])
        return [b"kept"]
    call = kept if path == "/use-kept" else start_response
    try:
        write = call(*ARGUMENTS.get(path, (OK, [PLAIN])))
        if not callable(write):
            return [b"did not return write()"]
        return [b"accepted"]
    except Exception as error:
        start_response(OK, [PLAIN])
        return [b"refused: " + classes(error).encode()]
