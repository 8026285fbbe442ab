"""Loads an application in a Python of its own and tells about its extension modules: for `manifold doctor`.

Orders come as JSON on standard input, the answer goes as JSON to what was standard output; what the application
prints goes to standard error.
"""

import _imp
import json
import os
import signal
import struct
import subprocess
import sys
import traceback
import types
from concurrent.futures import ThreadPoolExecutor

orders = json.load(sys.stdin)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
# For an application that waits for something while it is loaded.
signal.alarm(120)

PROBE_SECONDS = 10
STANDARD = os.path.join(
    sys.base_exec_prefix, sys.platlibdir, "python%d.%d" % sys.version_info[:2], "lib-dynload"
)
verdicts = {}  # by kind of GIL and path
met = {}  # paths, by the names of modules
refused = []  # names, with paths


def ask(gil, name, path):
    """What a probe says of a module, as the server asks it."""
    fields = [orders["build"], gil, orders["home"] or "", name, path, *sys.path]
    question = b"".join(struct.pack("<I", len(field)) + field for field in map(os.fsencode, fields))
    try:
        probe = subprocess.run(
            [orders["worker"], "--probe"],
            input=question,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"state": "crashed", "text": f"not loaded after {PROBE_SECONDS} s"}
    except OSError as error:
        return {"state": "unknown", "text": str(error)}
    sign, text = probe.stdout[:1], probe.stdout[1:].decode(errors="replace")
    if sign == b"":
        if probe.returncode < 0:
            return {"state": "crashed", "text": signal.Signals(-probe.returncode).name}
        return {"state": "crashed", "text": f"exit status {probe.returncode}"}
    return {"state": {b"+": "loads", b"-": "refused"}.get(sign, "unknown"), "text": text}


def verdict(gil, name, path):
    if os.path.dirname(path) == STANDARD:
        bad = gil == "own" and name in orders["refused_of_pythons"]
        return {"state": "refused" if bad else "loads", "text": ""}
    if (gil, path) not in verdicts:
        verdicts[gil, path] = ask(gil, name, path)
    return verdicts[gil, path]


def create_dynamic(spec, file=None):
    if orders["mode"] != "main" and verdict(orders["mode"], spec.name, spec.origin)["state"] != "loads":
        refused.append((spec.name, spec.origin))
        words = f"module {spec.name} does not support loading in subinterpreters"
        raise ImportError(words, name=spec.name, path=spec.origin)
    met[spec.name] = spec.origin
    return really_create(spec, file)


def is_refusal(error):
    """The module that an exception is about, if it is one of ours, however it was wrapped."""
    seen, todo = set(), [error]
    while todo:
        error = todo.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        if isinstance(error, ImportError) and (error.name, error.path) in refused:
            return error.name, error.path
        todo += [error.__context__, error.__cause__]


class Server(types.ModuleType):
    """Stands for the modules that are there in a server only: whatever is asked of them is a function."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda first=None, *rest, **more: first


def load():
    for name in ("mod_wsgi", "apache"):
        sys.modules[name] = Server(name)
    sys.modules["mod_wsgi"].version = (6, 1, 1)
    sys.modules["mod_wsgi"].process_group = sys.modules["mod_wsgi"].application_group = ""
    sys.path[:0] = orders["packages"]
    module = types.ModuleType("handler")
    module.__file__ = "handler.wsgi"
    exec(compile(orders["handler"], module.__file__, "exec"), module.__dict__)
    if module.KIND == "django":
        # Django imports views for the first request.
        from django.urls import get_resolver

        get_resolver().url_patterns


# What this script itself needs is loaded by now, and is not the application's.
really_create, _imp.create_dynamic = _imp.create_dynamic, create_dynamic
error, first = None, None
try:
    load()
except BaseException as raised:
    first = is_refusal(raised)
    # From the application's own first frame on: the one above it is this script's.
    error = "".join(traceback.format_exception(raised, limit=-8))
_imp.create_dynamic = really_create

foreign = [(name, path) for name, path in met.items() if os.path.dirname(path) != STANDARD]
extensions = []
if orders["mode"] == "main":
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        questions = [(gil, *module) for module in foreign for gil in ("own", "shared")]
        for question, answer in zip(questions, pool.map(lambda question: ask(*question), questions)):
            verdicts[question[0], question[2]] = answer
    extensions = [
        {"name": name, "path": path, "own": verdicts["own", path], "shared": verdicts["shared", path]}
        for name, path in foreign
    ]
if first:
    refused.insert(0, refused.pop(refused.index(first)))
shared_works = bool(first) and verdict("shared", *first)["state"] == "loads"
names = list(dict.fromkeys(name for name, path in refused))
json.dump(
    {"error": error, "refused": names, "shared_works": shared_works, "extensions": extensions}, answers
)
answers.flush()
# Threads of the application need not end.
os._exit(0)
