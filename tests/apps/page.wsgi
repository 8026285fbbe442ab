"""A page that includes another by mod_include: `?inner=URL`, with `blocks=N` blocks of 64 KiB after it.

Needs `SetOutputFilter INCLUDES` and `Options +Includes`.
"""

from urllib.parse import parse_qs

BLOCK = b"-" * 65535 + b"\n"


def page(inner, blocks):
    yield b"<p>before</p>\n"
    yield b'<!--#include virtual="%s" -->\n' % inner.encode()
    for _ in range(blocks):
        yield BLOCK
    yield b"<p>after</p>\n"


def handle_request(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/html")])
    return page(query["inner"][0], int(query.get("blocks", ["0"])[0]))
