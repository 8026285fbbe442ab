"""Shows which interpreter serves it and what that interpreter holds.

`/import/NAME` imports a module first, `/set/NAME` sets an attribute of `sys` first. Answers with
one `key<TAB>repr(value)` on each line; `known` are the names of `?modules=a,b` in sys.modules and
the names of `?attributes=a,b` that sys has.
"""

import importlib
import os
import sys
import threading
from urllib.parse import parse_qs

try:
    import _interpreters
except ImportError:  # Python 3.12 and older
    import _xxsubinterpreters as _interpreters

# Counted in `sys`, which outlives a module that is executed again.
sys.times_loaded = getattr(sys, "times_loaded", 0) + 1

served = 0
served_lock = threading.Lock()


def number(interpreter):
    """The id alone: 3.12 returns an object, 3.13 and later a tuple."""
    return int(interpreter[0] if isinstance(interpreter, tuple) else interpreter)


def gil(interpreter):
    try:
        return _interpreters.get_config(interpreter).gil
    except AttributeError:
        return "unknown"


def handle_request(environ, start_response):
    global served
    with served_lock:
        served += 1
        count = served
    action, _, name = environ["PATH_INFO"].strip("/").rpartition("/")
    if action.endswith("import"):
        importlib.import_module(name)
    elif action.endswith("set"):
        setattr(sys, name, True)

    query = parse_qs(environ["QUERY_STRING"])
    modules = query.get("modules", [""])[0].split(",")
    attributes = query.get("attributes", [""])[0].split(",")
    current = number(_interpreters.get_current())
    facts = {
        "python": sys.version_info[:2],
        "interpreter": current,
        "is_main": current == number(_interpreters.get_main()),
        "gil": gil(current),
        "group": environ["mod_wsgi.application_group"],
        "pid": os.getpid(),
        "thread": threading.get_ident(),
        "times_loaded": sys.times_loaded,
        "served": count,
        "known": [name for name in modules if name in sys.modules]
        + [name for name in attributes if name and hasattr(sys, name)],
    }
    start_response("200 OK", [("Content-Type", "text/plain; charset=us-ascii")])
    return [f"{key}\t{ascii(value)}\n".encode("ascii") for key, value in facts.items()]
