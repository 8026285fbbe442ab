"""Shows the modules `mod_wsgi` and `apache`, and what they know of requests."""

import gc
import importlib
import threading

import apache
import mod_wsgi

try:
    mod_wsgi.request_data()
    at_import = "no error"
except RuntimeError:
    at_import = "RuntimeError"

release = threading.Event()
dropped = threading.Event()


class Canary:
    """Says when nobody keeps it any more."""

    def __del__(self):
        dropped.set()


def elsewhere():
    """What a thread of the application's own gets."""
    found = []

    def look():
        try:
            found.append(repr(mod_wsgi.request_data()))
        except RuntimeError as error:
            found.append(type(error).__name__)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


def facts(environ):
    for module in (mod_wsgi, apache):
        for name in dir(module):
            if not name.startswith("_"):
                value = getattr(module, name)
                yield f"{module.__name__}.{name}", f"{type(value).__name__} {value!a}"
    yield "missing", hasattr(mod_wsgi, "no_such_attribute")
    yield "path", hasattr(mod_wsgi, "__path__")
    yield "at import", at_import
    yield "elsewhere", elsewhere()
    data = mod_wsgi.request_data()
    data["here"] = "yes"
    yield "data", mod_wsgi.request_data()
    yield "same", mod_wsgi.request_data() is data
    active = mod_wsgi.active_requests
    yield "active", active[environ["mod_wsgi.request_id"]] is data
    yield "active elsewhere", sorted(other.get("name", "") for other in active.values() if other is not data)
    yield "active unknown", active.get("no such request")


def handle_request(environ, start_response):
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    body = []
    if path == "/wait":
        mod_wsgi.request_data()["name"] = "waiting"
        environ["wsgi.input"].read()
    elif path == "/count":
        body = [str(len(mod_wsgi.active_requests))]
    elif path == "/keep":
        # Cycles of all that a request has: each can be reached from each.
        data = mod_wsgi.request_data()
        data.update(canary=Canary(), data=data, environ=environ, start=start_response)
        environ["start"] = start_response
    elif path == "/dropped":
        gc.collect()
        body = [str(dropped.wait(20))]
    elif path == "/express":
        body = [importlib.import_module("mod_wsgi.express").NAME]
    else:
        body = [f"{name}\t{value}\n" for name, value in facts(environ)]
    start_response("200 OK", [])
    return [text.encode("ascii") for text in body]
