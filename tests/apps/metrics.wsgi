"""Records what it does, and shows what was recorded."""

import threading

import mod_wsgi

release = threading.Event()


def flat(name, value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(f"{name}.{key}" if name else key, inner)
    else:
        yield f"{name}\t{type(value).__name__} {value!r}\n"


def handle_request(environ, start_response):
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    status, body = "200 OK", []
    if path == "/start":
        mod_wsgi.start_recording_metrics()
    elif path in ("/request", "/process"):
        found = getattr(mod_wsgi, f"{path[1:]}_metrics")()
        body = list(flat("" if found else "nothing", found))
    elif path == "/raise":
        raise KeyError("on purpose")
    elif path == "/missing":
        status = "404 Not Found"
    elif path == "/wait":
        release.wait(20)
    elif path == "/release":
        release.set()
    elif path == "/pages":
        with open("/proc/self/status") as told:
            body = ["".join(line for line in told if line.startswith("VmRSS"))]
    else:
        body = [environ["wsgi.input"].read().decode()]
    start_response(status, [])
    return [text.encode() for text in body]
