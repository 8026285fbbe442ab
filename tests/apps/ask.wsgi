"""Evaluates the query, in which names of modules are known: `?sys.flags.optimize` -> `0`."""

import builtins
import importlib
import urllib.parse


class Modules(dict):
    def __missing__(self, name):
        known = getattr(builtins, name, None)
        return importlib.import_module(name) if known is None else known


def handle_request(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        found = ascii(eval(urllib.parse.unquote(environ["QUERY_STRING"]), Modules(environ=environ)))
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    return [found.encode()]
