"""Reads a request body that may come in chunks, in one of the ways of an application."""

OCTETS = [("Content-Type", "application/octet-stream")]


def blocks(body):
    while block := body.read(1000):
        yield block


def handle_request(environ, start_response):
    body = environ["wsgi.input"]
    way = environ["SCRIPT_NAME"]
    if way == "/facts":
        names = ("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "wsgi.input_terminated")
        facts = [f"{name}\t{environ.get(name)!r}\n" for name in names]
        facts += [f"read\t{body.read()!r}\n", f"again\t{body.read(10)!r}\n"]
        start_response("200 OK", OCTETS)
        return ["".join(facts).encode()]
    if way == "/lines":
        start_response("200 OK", OCTETS)
        return [b"|".join(body)]
    if way == "/catches":
        try:
            body.read()
        except OSError:
            pass
        start_response("200 OK", OCTETS)
        return iter([b"caught, ", b"and answered"])
    if way == "/streams":
        start_response("200 OK", OCTETS)
        return blocks(body)
    if way == "/never":
        start_response("200 OK", OCTETS)
        return [b"not read"]
    content = body.read()
    start_response("200 OK", OCTETS)
    return [content]
