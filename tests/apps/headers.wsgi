"""Sends the headers that the query string names, in its order: `/?Connection=close&X-Name=value`.

`status=` is the status line, and `stream=` makes a response whose length is not known beforehand.
"""

from urllib.parse import parse_qsl


def handle_request(environ, start_response):
    headers = [("Content-Type", "text/plain")]
    status, body = "200 OK", [b"0123456789"]
    for name, value in parse_qsl(environ["QUERY_STRING"], keep_blank_values=True):
        if name == "status":
            status = value
        elif name == "stream":
            body = iter([b"01234", b"56789"])
        else:
            headers.append((name, value))
    start_response(status, headers)
    return body
