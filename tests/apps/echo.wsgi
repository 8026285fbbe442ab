"""Sends the request's body back: `/whole` in one piece, anything else piece by piece."""


def pieces(body):
    while piece := body.read(65536):
        yield piece


def handle_request(environ, start_response):
    headers = [("Content-Type", "application/octet-stream")]
    if "CONTENT_LENGTH" in environ:
        headers.append(("Content-Length", environ["CONTENT_LENGTH"]))
    start_response("200 OK", headers)
    if environ["SCRIPT_NAME"].endswith("/whole"):
        return [environ["wsgi.input"].read()]
    return pieces(environ["wsgi.input"])
