"""Counts how often it is loaded in its interpreter, in `sys`, which outlives a module.

`reload_required` answers as the target's name says: `/again` yes, `/broken` by raising, else no.
`/gate` takes a byte from the FIFO `gate` before it answers. Every answer is
`key<TAB>repr(value)` lines, made from this module's globals.
"""

import os
import sys

STATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state")

sys.loads = load = getattr(sys, "loads", 0) + 1
sys.asked = getattr(sys, "asked", [])
fresh = "served" not in globals()
served = 0


def reload_required(resource):
    sys.asked.append(resource)
    if resource.endswith("/broken"):
        raise LookupError("cannot tell")
    return resource.endswith("/again")


def facts(kind):
    global served
    served += 1
    asked, sys.asked = sys.asked, []
    return {
        "kind": kind,
        "load": load,
        "fresh": fresh,
        "served": served,
        "asked": asked,
        "pid": os.getpid(),
        "name": __name__,
        "file": __file__,
        "mtime": __mtime__,
        "modules": [name for name in sys.modules if name.startswith("_mod_wsgi_")],
        "ours": sys.modules.get(__name__) is not None and vars(sys.modules[__name__]) is globals(),
    }


def answer(kind, environ, start_response):
    if environ["SCRIPT_NAME"].endswith("/gate"):
        gate = os.open(os.path.join(STATE, "gate"), os.O_RDONLY)
        os.read(gate, 1)
        os.close(gate)
    start_response("200 OK", [("Content-Type", "text/plain; charset=us-ascii")])
    return [f"{key}\t{ascii(value)}\n".encode("ascii") for key, value in facts(kind).items()]


def handle_request(environ, start_response):
    return answer("handler", environ, start_response)


def application(environ, start_response):
    return answer("application", environ, start_response)
