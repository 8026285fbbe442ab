"""Shows where modules named in the query come from: `?flavour` -> `flavour<TAB>'vanilla'`."""

import importlib
import sys


def handle_request(environ, start_response):
    lines = []
    for name in environ["QUERY_STRING"].split("&"):
        try:
            lines.append(f"{name}\t{importlib.import_module(name).TASTE!a}\n")
        except ImportError as error:
            lines.append(f"{name}\t{type(error).__name__}\n")
    lines += [f"path {i}\t{folder!a}\n" for i, folder in enumerate(sys.path)]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [line.encode() for line in lines]
