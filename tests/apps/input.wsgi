"""Reads its input as the query says and shows what came.

The query is a sequence of calls, separated by `&`: `read`, `read=3`, `readline`, `readline=4`,
`readlines`, `readlines=5`, `iterate`, `next`, `close`. `/never` does not read at all;
`/later` keeps the input and `/use-later` reads what was kept.
"""

kept = None


def perform(body, call):
    name, _, size = call.partition("=")
    if name == "iterate":
        return list(body)
    if name == "next":
        return next(body, "the end")
    return getattr(body, name)(*([int(size)] if size else []))


def handle_request(environ, start_response):
    global kept
    body = environ["wsgi.input"]
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    lines = []
    if path.endswith("/use-later"):
        body = kept
    if path.endswith("/later"):
        kept = body
    elif not path.endswith("/never"):
        for call in environ["QUERY_STRING"].split("&"):
            try:
                lines.append(f"{call}\t{ascii(perform(body, call))}\n".encode())
            except Exception as error:
                lines.append(f"{call}\t{type(error).__name__}\n".encode())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return lines
