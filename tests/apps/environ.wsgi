"""Shows the environ of its request, one `key<TAB>repr(value)` on each line."""


def handle_request(environ, start_response):
    lines = [f"{key}\t{ascii(value)}\n" for key, value in sorted(environ.items())]
    lines.append(f"type(environ)\t{type(environ).__name__}\n")
    # The next request must not find these.
    environ["left.behind"] = "yes"
    environ["QUERY_STRING"] = "changed"
    del environ["REQUEST_METHOD"]
    start_response("200 OK", [("Content-Type", "text/plain; charset=us-ascii")])
    return [line.encode("ascii") for line in lines]
