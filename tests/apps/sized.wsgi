"""Sends a body of a given size, in blocks of a given size.

`?size=N` bytes in blocks of `block=N` (default: all at once), with a Content-Length of
`length=N` if that is given. Byte number i is i modulo 251.
"""

from urllib.parse import parse_qs

PATTERN = bytes(range(251))


def blocks(size, block):
    for start in range(0, size, block):
        count = min(block, size - start)
        skip = start % len(PATTERN)
        yield (PATTERN * ((skip + count) // len(PATTERN) + 1))[skip : skip + count]


def handle_request(environ, start_response):
    query = {name: int(values[0]) for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    headers = [("Content-Type", "application/octet-stream")]
    if "length" in query:
        headers.append(("Content-Length", str(query["length"])))
    start_response("200 OK", headers)
    size = query["size"]
    return blocks(size, query.get("block", max(size, 1)))
