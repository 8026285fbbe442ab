"""Breaks one rule for each path, and answers `fine` to everything else.

`/header?size=N` sends a header with a value of N bytes, `/headers?count=N` sends N headers.
"""

import os
import sys

OK = "200 OK"
PLAIN = [("Content-Type", "text/plain")]


def with_status(status):
    return lambda query: (status, PLAIN, [b"x"])


def with_header(name, value):
    return lambda query: (OK, PLAIN + [(name, value)], [b"0123456789"])


def with_body(body):
    return lambda query: (OK, PLAIN, body)


def exits(query):
    sys.exit(query)


def ends_the_process(query):
    os._exit(3)


CASES = {
    "/exit": exits,
    "/end-process": ends_the_process,
    "/value-crlf": with_header("X-Name", "a\r\nX-Evil: 1"),
    "/value-lf": with_header("X-Name", "a\nX-Evil: 1"),
    "/value-nul": with_header("X-Name", "a\0b"),
    "/value-not-latin-1": with_header("X-Name", "\u20ac"),
    "/name-crlf": with_header("X-Name\r\nX-Evil", "1"),
    "/name-colon": with_header("X-Name: 1", "1"),
    "/name-not-latin-1": with_header("X-\u20ac", "1"),
    "/name-latin-1": with_header("X-\xe9", "1"),
    "/cookie-crlf": with_header("Set-Cookie", "a=1\r\n\r\n<script>"),
    "/status-crlf": with_status("200 OK\r\nX-Evil: 1"),
    "/status-not-latin-1": with_status("200 \u20ac"),
    "/status-100": with_status("100 Continue"),
    "/status-101": with_status("101 Switching Protocols"),
    "/status-103": with_status("103 Early Hints"),
    "/status-199": with_status("199 None"),
    "/status-000": with_status("000 None"),
    "/transfer-encoding": with_header("Transfer-Encoding", "chunked"),
    "/transfer-encoding-lower": with_header("transfer-encoding", "identity"),
    "/body-str": with_body("text"),
    "/body-none": with_body(None),
    "/body-bytes": with_body(b"bytes"),
    "/body-int": with_body(5),
    "/body-of-ints": with_body([1, 2]),
    "/body-of-str": with_body(["text"]),
    "/body-of-none": with_body([None]),
    "/body-of-bytearray": with_body([bytearray(b"x")]),
    "/body-of-memoryview": with_body([memoryview(b"x")]),
    "/body-of-lists": with_body([[b"x"]]),
    "/body-object": with_body(object()),
    "/body-dict": with_body({"a": 1}),
    "/length-less": with_header("Content-Length", "3"),
    "/length-more": with_header("Content-Length", "100"),
    "/length-none": with_header("Content-Length", ""),
    "/length-word": with_header("Content-Length", "ten"),
    "/length-negative": with_header("Content-Length", "-1"),
    "/length-signed": with_header("Content-Length", "+10"),
    "/length-hex": with_header("Content-Length", "0x10"),
    "/length-space": with_header("Content-Length", "\xc2\xa010"),
    "/length-huge": with_header("Content-Length", "9" * 30),
    "/header": lambda query: with_header("X-Long", "v" * int(query.split("=")[1]))(query),
    "/headers": lambda query: (OK, [(f"X-Number-{i}", str(i)) for i in range(int(query.split("=")[1]))], [b"many"]),
}


def handle_request(environ, start_response):
    case = CASES.get(environ["SCRIPT_NAME"] + environ["PATH_INFO"])
    if case is None:
        start_response(OK, PLAIN)
        return [b"fine ", ascii(sorted(key for key in environ if key.startswith("HTTP_"))).encode()]
    status, headers, body = case(environ["QUERY_STRING"])
    start_response(status, headers)
    return body
