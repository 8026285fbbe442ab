"""Ways to fail and to complain; the path says which."""

import sys


class Mishap(Exception):
    pass


def fail(message):
    raise Mishap(message)


def late():
    yield b"the beginning,"
    fail("after the headers")


def handle_request(environ, start_response):
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    errors = environ["wsgi.errors"]
    if path == "/before":
        fail("before the headers")
    if path == "/chained":
        try:
            fail("the cause")
        except Mishap as error:
            raise LookupError("the effect") from error
    if path == "/exit":
        sys.exit(2)
    if path == "/interrupt":
        raise KeyboardInterrupt
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/started":
        fail("after start_response")
    if path == "/after":
        return late()
    if path == "/errors":
        errors.write("errors: the first line\nerrors: the second")
        errors.write(" line\n")
        errors.writelines(["errors: the third line\n", "errors: without an end"])
    if path == "/errors-flushed":
        errors.write("errors: half a line")
        errors.flush()
        errors.write("errors: the other half\n")
    if path == "/errors-stream":
        print("errors: caf\xe9 \u20ac \ud800 %s%n", file=errors)
        facts = [errors.isatty()]
        for call in (errors.fileno, lambda: errors.write(b"bytes"), lambda: errors.write(None)):
            try:
                facts.append(call())
            except Exception as error:
                facts.append("OSError" if isinstance(error, OSError) else type(error).__name__)
        return [ascii(facts).encode()]
    if path == "/stderr":
        sys.stderr.write("stderr: the first line\nstderr: the second line\n")
    if path == "/print":
        print("print: the first line\nprint: the second line")
    if path == "/long":
        print("long: " + "x" * 100_000 + " :end", file=errors)
    return [b"fine"]
